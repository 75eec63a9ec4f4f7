//! `sqlite` where its confined process cannot be.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_capability::Capability;
use stockade_config::{CallLimits, SqliteGrant};

use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &[];
pub(crate) const EVERY_CALL: bool = false;

const WHY: &str = "a database needs the isolation that Linux has: run Stockade there";

impl GrantKind for SqliteGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, _ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Err(GrantError::Invalid(WHY.to_owned()))
    }

    fn check<'a>(&'a self, _ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        let found = Finding {
            is_error: true,
            what: WHY.to_owned(),
        };
        Box::pin(std::future::ready(vec![found]))
    }
}
