//! The way to a server of this machine, and what the doors to all of them have in common.

use std::net::Ipv4Addr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_door::{Dial, Limits, Login, PoolLimits, Server, ServerStream};
use tokio::net::TcpStream;

use crate::guest::PATIENCE;
use crate::servers::{PASSWORD, Running};

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

/// A server of this machine, with the login of a user.
pub(crate) fn server(running: &Running, user: &str, database: &str) -> Server {
    Server {
        dial: Arc::new(Local(running.port)),
        tls: None,
        login: Login {
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
            database: database.to_owned(),
        },
        allow_superuser: false,
    }
}

/// Limits that no honest test reaches.
pub(crate) fn wide() -> Limits {
    Limits {
        statement: PATIENCE,
        transaction: PATIENCE,
        idle_in_transaction: PATIENCE,
        idle: PATIENCE,
        ..Limits::default()
    }
}

/// As many logins as a test makes.
pub(crate) fn pool() -> PoolLimits {
    PoolLimits {
        attempts: 1000,
        ..PoolLimits::default()
    }
}
