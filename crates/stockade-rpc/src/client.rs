//! One client of the server.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::methods::ServerContext;

/// One client, on one connection.
pub(crate) struct Client {
    pub(crate) shared: Arc<ServerContext>,
    /// It reached a Unix socket: no browser did.
    pub(crate) local: bool,
    /// Where wrong API keys come from; of a Unix socket the loopback address.
    pub(crate) address: IpAddr,
    /// Set when the server is to come to its end.
    pub(crate) stop: watch::Receiver<bool>,
    /// The connection's place among those that may be open.
    pub(crate) _place: OwnedSemaphorePermit,
    /// The server waits until nobody holds one.
    pub(crate) _alive: mpsc::Sender<Infallible>,
}

impl Client {
    /// Done when the server is to come to its end.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // Without a server it is over as well.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
