//! The grants of a host that is a program: a host script, a command, a Rust program. Each isolate has its own.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use stockade_broker::{Broker, BrokerError, BrokerOptions};
use stockade_capability::Capability;
use stockade_config::{Grant, parse_grants};

use crate::approval::Approval;
use crate::ground::GrantError;
use crate::kept::{Granting, Grants};
use crate::tally::{GrantedUse, Tally};

/// Where the guest's runtime reads what to put into `env` besides values. Read by `stockade_realm/network.js`.
const BINDINGS: &str = "\0bindings";

/// Opens the grants of isolates.
pub struct ProgramGrants {
    grants: Grants,
    broker: Broker,
    tally: Arc<Tally>,
}

impl ProgramGrants {
    /// Records of calls go to the log.
    ///
    /// # Errors
    /// The broker cannot be set up.
    pub fn new() -> Result<Self, BrokerError> {
        let tally = Arc::new(Tally::default());
        let options = BrokerOptions {
            audit: tally.clone(),
            ..BrokerOptions::default()
        };
        Ok(Self {
            grants: Grants::new(tally.clone()),
            broker: Broker::new(options)?,
            tally,
        })
    }

    /// What all its isolates have used of it.
    #[must_use]
    pub fn used(&self) -> GrantedUse {
        self.tally.read()
    }

    /// What acts for the isolates.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Reads grants, `{NAME: {KIND: {…}}}` as JSON. Relative paths begin at `base`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(json: &str, base: &Path) -> Result<BTreeMap<String, Grant>, GrantError> {
        Ok(parse_grants(json, base)?)
    }

    /// Names the grants in the `env` of an isolate's options.
    ///
    /// # Errors
    /// A name is in `env` already, or a grant cannot be opened.
    pub fn name(
        grants: &BTreeMap<String, Grant>,
        env: &mut Map<String, Value>,
    ) -> Result<(), GrantError> {
        if grants.is_empty() {
            return Ok(());
        }
        if let Some(name) = grants.keys().find(|name| env.contains_key(*name)) {
            let what = format!("`env` and `grants` both have {name}: each needs a name of its own");
            return Err(GrantError::Invalid(what));
        }
        let mut named = Map::new();
        for (name, grant) in grants {
            let details = crate::describe(grant)
                .map_err(|error| GrantError::Invalid(format!("grants.{name}: {error}")))?;
            named.insert(
                name.clone(),
                json!({ "kind": grant.kind(), "details": details }),
            );
        }
        env.insert(BINDINGS.to_owned(), Value::Object(named));
        Ok(())
    }

    /// Opens the grants of one isolate, whose name no other isolate of this host has.
    ///
    /// # Errors
    /// Which one cannot be opened, and why.
    pub fn open(
        &self,
        isolate: &str,
        grants: &BTreeMap<String, Grant>,
        approvals: &HashMap<String, Approval>,
    ) -> Result<HashMap<String, Arc<dyn Capability>>, GrantError> {
        if let Some(name) = approvals.keys().find(|name| !grants.contains_key(*name)) {
            let what = format!(
                "calls of {name} are to be approved, and nothing is granted under that name"
            );
            return Err(GrantError::Invalid(what));
        }
        let ways = crate::ways(&self.broker, isolate, grants)?;
        let mut opened = HashMap::new();
        for (name, grant) in grants {
            let capability = self.grants.open(Granting {
                instance: isolate,
                binding: name,
                grant,
                broker: &self.broker,
                roots: &[],
                ways: &ways,
                approval: approvals.get(name).cloned(),
                data: None,
            });
            let capability = capability
                .map_err(|error| GrantError::Invalid(format!("grants.{name}: {error}")))?;
            opened.insert(name.clone(), capability);
        }
        Ok(opened)
    }

    /// Forgets what an isolate has spent that has ended.
    pub fn forget(&self, isolate: &str) {
        self.grants.forget(isolate);
    }
}
