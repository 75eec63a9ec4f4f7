//! `env.NAME` of kind `postgres`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use stockade_capability::Capability;
use stockade_config::{CallLimits, PostgresGrant};
use stockade_door::Limits;
use stockade_door::postgres::{Door, Server};

use super::address::Scheme;
use super::{Doors, Settings, check, pool};
use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) use super::METHODS;
pub(crate) const EVERY_CALL: bool = false;

pub(super) const SCHEME: Scheme = Scheme {
    names: &["postgres", "postgresql"],
    with_tls: None,
    port: 5432,
    is_complete: true,
    form: "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
};

impl GrantKind for PostgresGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Doors::open(door(self, ground)?, ground))
    }

    fn describe(&self) -> Result<Value, GrantError> {
        settings(self).describe()
    }

    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(check(door(self, ground)))
    }
}

fn settings(grant: &PostgresGrant) -> Settings<'_> {
    Settings {
        scheme: &SCHEME,
        url: &grant.url,
        tls: grant.tls,
        ca: &grant.ca,
    }
}

fn door(grant: &PostgresGrant, ground: &Ground) -> Result<Door, GrantError> {
    let bounds = &grant.limits;
    let way = settings(grant).way(ground, bounds.timeout)?;
    let server = Server {
        dial: way.dial,
        tls: way.tls,
        login: way.login,
        application_name: format!("stockade {}/{}", ground.instance, ground.binding),
        allow_superuser: grant.allow_superuser,
    };
    let limits = Limits {
        statement: grant.statement,
        transaction: grant.transaction,
        idle_in_transaction: grant.idle_in_transaction,
        idle: grant.idle,
        rows: grant.rows,
        max_result: bounds.max_result,
        max_request: bounds.max_request,
    };
    Ok(Door::new(server, limits, pool(grant.pool, bounds)))
}
