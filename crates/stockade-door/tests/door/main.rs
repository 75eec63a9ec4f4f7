//! Doors to real servers, each started for one test in a folder and on a port of its own. A test whose server is not
//! installed is skipped with a message: `apt-get install postgresql mariadb-server redis-server`.

mod certificate;
mod drivers;
mod guest;
mod local;
mod mysql;
mod postgres;
mod redis;
mod servers;
