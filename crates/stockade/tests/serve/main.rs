//! `stockade serve` from end to end: the real program, real clients over loopback.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod admin;
mod api_keys;
mod audited;
mod bindings;
mod client;
mod connections;
#[path = "../../../stockade-door/tests/door/servers.rs"]
#[expect(dead_code, reason = "the tests of doors use more of it")]
mod database_servers;
mod debugged;
mod deployments;
mod developing;
mod doors;
mod fetches;
mod frameworks;
mod fresh;
mod grants;
mod held_keys;
mod killed;
#[path = "../../../stockade-audit/tests/killed_child/mod.rs"]
#[expect(
    dead_code,
    clippy::expect_used,
    reason = "the tests of stores use more of it"
)]
mod killed_child;
mod lifetime;
mod limits;
mod limits_shown;
mod live;
mod observed;
mod passed_on;
mod peers;
#[path = "../../../stockade-wireguard/tests/rig/mod.rs"]
#[expect(dead_code, reason = "the tests of tunnels use more of it")]
mod private_network;
mod profiles;
mod reload;
mod secrets;
mod secure;
mod server;
mod service;
mod signer;
mod site;
mod sql;
mod targets;
#[path = "../../../stockade-trace/tests/receiver/mod.rs"]
#[expect(dead_code, reason = "the tests of traces use more of it")]
mod trace_receiver;
mod traced;
mod tunnel;
mod usage;
