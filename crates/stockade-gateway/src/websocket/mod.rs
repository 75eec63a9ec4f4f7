//! WebSockets of clients: [`handshake`] answers the request for one, then [`relay`] passes messages between
//! client and guest until either side ends.

pub(crate) mod handshake;
pub(crate) mod relay;
