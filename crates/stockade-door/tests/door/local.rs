//! The way to a server of this machine.

use std::net::Ipv4Addr;

use futures_util::future::BoxFuture;
use stockade_door::{Dial, ServerStream};
use tokio::net::TcpStream;

/// Reaches a server of this machine.
pub(crate) struct Local(pub(crate) u16);

impl Dial for Local {
    fn dial(&self) -> BoxFuture<'static, std::io::Result<ServerStream>> {
        let port = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as ServerStream)
        })
    }
}
