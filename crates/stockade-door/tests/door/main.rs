//! Doors to real servers, each started for one test in a folder and on a port of its own. A test whose server is not
//! installed is skipped with a message: `apt-get install postgresql mariadb-server redis-server`. Debian 12 has no MySQL;
//! `STOCKADE_MYSQLD` names its program where the machine has it elsewhere.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it is skipped"
)]

mod certificate;
mod drivers;
mod forged;
mod guest;
mod local;
mod mongo;
mod mysql;
mod mysql_itself;
mod postgres;
mod redis;
mod servers;
mod sql;
