//! `env.NAME` of kind `redis`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use stockade_capability::Capability;
use stockade_config::{CallLimits, RedisGrant};
use stockade_door::Limits;
use stockade_door::redis::{Commands, Door, Server};

use super::address::Scheme;
use super::{Doors, Settings, check, pool};
use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) use super::METHODS;
pub(crate) const EVERY_CALL: bool = false;

const SCHEME: Scheme = Scheme {
    names: &["redis", "valkey"],
    with_tls: Some("rediss"),
    port: 6379,
    is_complete: false,
    form: "redis://USER:PASSWORD@HOST:PORT/NUMBER",
};

impl GrantKind for RedisGrant {
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

fn settings(grant: &RedisGrant) -> Settings<'_> {
    Settings {
        scheme: &SCHEME,
        url: &grant.url,
        tls: grant.tls,
        ca: &grant.ca,
    }
}

fn door(grant: &RedisGrant, ground: &Ground) -> Result<Door, GrantError> {
    let bounds = &grant.limits;
    let way = settings(grant).way(ground, bounds.timeout)?;
    let server = Server {
        dial: way.dial,
        tls: way.tls,
        login: way.login,
        allow_superuser: grant.allow_superuser,
    };
    let limits = Limits {
        statement: grant.statement,
        idle: grant.idle,
        max_result: bounds.max_result,
        max_request: bounds.max_request,
        ..Limits::default()
    };
    let commands = Commands::new(&grant.refuse, &grant.allow);
    Ok(Door::new(
        server,
        commands,
        limits,
        pool(grant.pool, bounds),
    ))
}
