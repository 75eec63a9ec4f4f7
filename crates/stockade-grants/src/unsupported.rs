//! Kinds that need the isolation that Linux has, where it is not.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_capability::Capability;
use stockade_config::CallLimits;

use crate::{Finding, GrantError, GrantKind, Ground};

/// Declares a kind that always refuses.
macro_rules! unsupported {
    ($module:ident, $Grant:ident, $what:literal) => {
        pub(crate) mod $module {
            use super::*;

            pub(crate) const METHODS: &[&str] = &[];
            pub(crate) const EVERY_CALL: bool = false;

            const WHY: &str = concat!(
                $what,
                " needs the isolation that Linux has: run Stockade there"
            );

            impl GrantKind for stockade_config::$Grant {
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
        }
    };
}

unsupported!(pgp, PgpGrant, "OpenPGP");
unsupported!(sqlite, SqliteGrant, "a database");
