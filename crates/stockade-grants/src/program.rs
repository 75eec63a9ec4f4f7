//! The grants of a host that is a program: a host script, a command, a Rust program. Each isolate has its own.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use stockade_broker::{Broker, BrokerError, BrokerOptions};
use stockade_capability::Capability;
use stockade_config::{Grant, parse_grants};

use crate::approval::Approval;
use crate::audit::LogAudit;
use crate::ground::GrantError;
use crate::kept::{Granting, Grants};

/// Where the guest's runtime reads what to put into `env` besides values. Read by `stockade_realm/network.js`.
const BINDINGS: &str = "\0bindings";

/// Opens the grants of isolates.
pub struct ProgramGrants {
    grants: Grants,
    broker: Broker,
}

impl ProgramGrants {
    /// Records of calls go to the log.
    ///
    /// # Errors
    /// The broker cannot be set up.
    pub fn new() -> Result<Self, BrokerError> {
        Ok(Self {
            grants: Grants::new(Arc::new(LogAudit::default())),
            broker: Broker::new(BrokerOptions::default())?,
        })
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
        parse_grants(json, base).map_err(|wrong| {
            let lines = wrong.list.iter().map(|one| {
                let allowed = one.allowed.as_ref();
                let allowed = allowed.map_or_else(String::new, |text| format!("; allowed: {text}"));
                format!("{}: {}{allowed}", one.path, one.what)
            });
            GrantError::Invalid(lines.collect::<Vec<_>>().join("\n"))
        })
    }

    /// Names the grants in the `env` of an isolate's options.
    ///
    /// # Errors
    /// A name is in `env` already.
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
        let named = grants.iter();
        let named = named.map(|(name, grant)| (name.clone(), json!({ "kind": grant.kind() })));
        env.insert(BINDINGS.to_owned(), Value::Object(named.collect()));
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
        let mut opened = HashMap::new();
        for (name, grant) in grants {
            let capability = self.grants.open(Granting {
                instance: isolate,
                binding: name,
                grant,
                broker: &self.broker,
                roots: &[],
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
