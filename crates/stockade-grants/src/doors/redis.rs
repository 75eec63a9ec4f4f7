//! `env.NAME` of kind `redis`.

use std::sync::Arc;

use stockade_capability::Capability;
use stockade_config::{DoorSettings, RedisGrant};
use stockade_door::redis::{Commands, Door};
use stockade_door::{Limits, PoolLimits, Server};

use super::address::Scheme;
use super::{DoorGrant, Doors};
use crate::Ground;

pub(crate) const METHODS: &[&str] = &["connect"];
pub(crate) const EVERY_CALL: bool = false;

impl DoorGrant for RedisGrant {
    type Door = Door;

    const SCHEME: &Scheme = &Scheme {
        names: &["redis", "valkey"],
        with_tls: Some("rediss"),
        port: 6379,
        is_complete: false,
        form: "redis://USER:PASSWORD@HOST:PORT/NUMBER",
    };

    fn settings(&self) -> DoorSettings<'_> {
        self.door()
    }

    fn door(&self, server: Server, limits: Limits, pool: PoolLimits, _ground: &Ground) -> Door {
        let commands = Commands::new(&self.refuse, &self.allow);
        Door::new(server, commands, limits, pool)
    }

    fn capability(
        &self,
        doors: Doors<Door>,
        _limits: Limits,
        _ground: &Ground,
    ) -> Arc<dyn Capability> {
        Arc::new(doors)
    }
}
