//! The grants that are open, so that a reload opens again only what changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use stockade_broker::{Broker, Spent, Via, Ways};
use stockade_capability::{Capability, HandleCount};
use stockade_config::Grant;

use crate::approval::Approval;
use crate::audit::CallAudit;
use crate::bounded::{Bounded, Bounds};
use crate::ground::{GrantError, Ground};
use crate::{kind_of, of};

/// An instance's grant that is to be opened.
pub struct Granting<'a> {
    /// The instance, or the isolate.
    pub instance: &'a str,
    /// The name in `env`.
    pub binding: &'a str,
    /// The grant.
    pub grant: &'a Grant,
    /// The broker that trusts what the instance trusts, which are these files besides the public roots.
    pub broker: &'a Broker,
    /// See there.
    pub roots: &'a [PathBuf],
    /// The tunnels of the instance.
    pub ways: &'a Ways,
    /// Who approves its calls.
    pub approval: Option<Approval>,
    /// The folder of the grant's own; see [`Ground::data`].
    pub data: Option<PathBuf>,
}

impl Granting<'_> {
    /// What the capability is made of.
    pub(crate) fn ground(&self) -> Ground {
        Ground {
            instance: self.instance.into(),
            binding: self.binding.into(),
            broker: self.broker.clone(),
            network: self.broker.network(),
            ways: self.ways.clone(),
            handles: HandleCount::default(),
            data: self.data.clone(),
        }
    }
}

/// All grants of one host that are open.
pub struct Grants {
    audit: Arc<dyn CallAudit>,
    kept: Mutex<HashMap<Name, Kept>>,
}

/// An instance, and a name in its `env`.
type Name = (Arc<str>, Arc<str>);

/// What is kept of one name of one instance.
#[derive(Default)]
struct Kept {
    /// Outlives the grant, so that neither a reload nor a changed grant renews a budget.
    spent: Arc<Mutex<Spent>>,
    /// The objects that some running instance holds: after a reload the old one drains.
    open: Vec<Open>,
}

struct Open {
    grant: Grant,
    roots: Vec<PathBuf>,
    /// The tunnel that its server is reached through.
    via: Option<Weak<Via>>,
    approver: Option<Arc<str>>,
    handles: HandleCount,
    capability: Weak<Bounded>,
}

/// Handles that are open under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenHandles {
    /// The instance.
    pub instance: Arc<str>,
    /// The name in `env`.
    pub binding: Arc<str>,
    /// The kind.
    pub kind: &'static str,
    /// How many handles are open.
    pub open: usize,
}

impl Grants {
    /// None is open. `audit` receives the records of all calls.
    #[must_use]
    pub fn new(audit: Arc<dyn CallAudit>) -> Self {
        Self {
            audit,
            kept: Mutex::default(),
        }
    }

    /// The capability of a grant: the one that is open where the grant and its tunnel did not change, else a new one. It is
    /// closed when the last instance that holds it has ended.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(&self, granting: Granting<'_>) -> Result<Arc<dyn Capability>, GrantError> {
        let Granting { grant, roots, .. } = granting;
        let approver = granting
            .approval
            .as_ref()
            .map(|approval| Arc::clone(&approval.name));
        let key: Name = (granting.instance.into(), granting.binding.into());
        let kind = kind_of(grant)?;
        let mut all = self.kept.lock();
        let kept = all.entry(key).or_default();
        kept.open.retain(|open| open.capability.strong_count() > 0);
        let via = grant.via().and_then(|name| granting.ways.get(name));
        let via = via.map(Arc::downgrade);
        let same = |open: &&Open| {
            let is_same_way = match (&open.via, &via) {
                (Some(one), Some(other)) => Weak::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            is_same_way && open.grant == *grant && open.roots == roots && open.approver == approver
        };
        let same = kept.open.iter().find(same);
        if let Some(same) = same.and_then(|open| open.capability.upgrade()) {
            return Ok(same);
        }
        let ground = granting.ground();
        let bounds = Bounds {
            kind,
            limits: of(grant).limits(),
            spent: Arc::clone(&kept.spent),
            audit: Arc::clone(&self.audit),
            approval: granting.approval.clone(),
        };
        let bounded = Arc::new(Bounded::new(of(grant).open(&ground)?, &ground, bounds));
        kept.open.push(Open {
            grant: grant.clone(),
            roots: roots.to_owned(),
            via,
            approver,
            handles: ground.handles,
            capability: Arc::downgrade(&bounded),
        });
        Ok(bounded)
    }

    /// Forgets what an instance has spent that is gone.
    pub fn forget(&self, instance: &str) {
        self.kept.lock().retain(|(of, _), _| &**of != instance);
    }

    /// How many handles are open under each name, those of a grant that drains included.
    #[must_use]
    pub fn open_handles(&self) -> Vec<OpenHandles> {
        let mut out = Vec::new();
        for ((instance, binding), kept) in &*self.kept.lock() {
            for open in &kept.open {
                if open.capability.strong_count() == 0 {
                    continue;
                }
                let found = OpenHandles {
                    instance: Arc::clone(instance),
                    binding: Arc::clone(binding),
                    kind: open.grant.kind(),
                    open: open.handles.open(),
                };
                let same = |known: &&mut OpenHandles| {
                    (&known.instance, &known.binding, known.kind)
                        == (&found.instance, &found.binding, found.kind)
                };
                match out.iter_mut().find(same) {
                    Some(known) => known.open += found.open,
                    None => out.push(found),
                }
            }
        }
        out
    }
}
