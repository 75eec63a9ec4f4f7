//! `env.NAME` of kind `postgres`.

use std::sync::Arc;

use stockade_capability::Capability;
use stockade_config::{DoorSettings, PostgresGrant};
use stockade_door::postgres::{Client, Door};
use stockade_door::{Limits, PoolLimits, Server};

use super::address::Scheme;
use super::sql::Sql;
use super::{DoorGrant, Doors};
use crate::Ground;

pub(crate) use super::sql::METHODS;
pub(crate) const EVERY_CALL: bool = false;

impl DoorGrant for PostgresGrant {
    type Door = Door;

    const SCHEME: &Scheme = &Scheme {
        names: &["postgres", "postgresql"],
        with_tls: None,
        port: 5432,
        is_complete: true,
        form: "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
    };

    fn settings(&self) -> DoorSettings<'_> {
        self.door()
    }

    fn door(&self, server: Server, limits: Limits, pool: PoolLimits, ground: &Ground) -> Door {
        let name = format!("stockade {}/{}", ground.instance, ground.binding);
        Door::new(server, name, limits, pool)
    }

    fn capability(
        &self,
        doors: Doors<Door>,
        limits: Limits,
        ground: &Ground,
    ) -> Arc<dyn Capability> {
        Arc::new(Sql::<Door, Client>::new(
            doors,
            limits,
            &self.door(),
            ground,
        ))
    }
}
