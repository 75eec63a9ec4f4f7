//! Real handshakes over loopback: rustls' client, and OpenSSL's where it is installed.

mod acme;
mod authority;
mod handshake;
mod mutual;
mod openssl;
mod pebble;
mod peer;
mod reload;
