//! Real handshakes over loopback: rustls' client, and OpenSSL's where it is installed.

mod authority;
mod handshake;
mod mutual;
mod peer;
mod reload;
