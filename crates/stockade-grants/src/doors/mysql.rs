//! `env.NAME` of kind `mysql`.

use std::sync::Arc;

use stockade_capability::Capability;
use stockade_config::{DoorSettings, MysqlGrant};
use stockade_door::mysql::{Client, Door};
use stockade_door::{Limits, PoolLimits, Server};

use super::address::Scheme;
use super::sql::Sql;
use super::{DoorGrant, Doors};
use crate::Ground;

pub(crate) use super::sql::METHODS;
pub(crate) const EVERY_CALL: bool = false;

impl DoorGrant for MysqlGrant {
    type Door = Door;

    const SCHEME: &Scheme = &Scheme {
        names: &["mysql", "mariadb"],
        with_tls: None,
        port: 3306,
        is_complete: true,
        form: "mysql://USER:PASSWORD@HOST:PORT/DATABASE",
    };

    fn settings(&self) -> DoorSettings<'_> {
        self.door()
    }

    fn door(&self, server: Server, limits: Limits, pool: PoolLimits, _ground: &Ground) -> Door {
        Door::new(server, limits, pool)
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
