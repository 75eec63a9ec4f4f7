//! What a program grants to an isolate.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use serde_json::json;
use stockade_broker::{Egress, EgressPolicy, Secrets};
use stockade_capability::{Capability, ErrorName, Owner};
use stockade_config::{DataGuard, Grant, parse_data_guard};
use stockade_grants::{Approval, Approver, Asked, GrantError, GrantedUse, ProgramGrants};
use stockade_http::{Body, Host, HostPattern, UpstreamSocket};
use stockade_instance::{GrantedGuest, GrantedServices, InstanceLimits, Services, Takes};
use stockade_limits::IsolateOptions;
use stockade_protocol::{GuestError, bounds};
use stockade_serve::egress_policy;
use stockade_supervisor::{CreateError, Supervisor};

use crate::Handle;
use crate::run::Refusals;

/// What an isolate is granted: by name, what `docs/grants.md` describes, which the guest finds in `NETWORK.env`; and the
/// hosts that its `fetch` reaches. By default that is nothing.
///
/// ```
/// # use std::path::Path;
/// let json = r#"{"NAMES": {"dns": {"names": ["example.com"]}}}"#;
/// let grants = stockade::Grants::from_json(json, Path::new("."))?
///     .allow_fetch(&["api.example.com"])?;
/// # Ok::<(), stockade::GrantError>(())
/// ```
#[derive(Clone, Default)]
pub struct Grants {
    named: BTreeMap<String, Grant>,
    fetch: Option<DataGuard>,
    approvals: HashMap<String, Approval>,
    /// Takes the hosts that `fetch` may not reach.
    refusals: Option<Refusals>,
}

impl Grants {
    /// Reads `{NAME: {KIND: {…}}}`, with the keys of `grants` in the configuration of `stockade serve`. Secrets may
    /// be plain text. Relative paths begin at `base`.
    ///
    /// # Errors
    /// Everything that is wrong, with its place and what is allowed.
    pub fn from_json(json: &str, base: &Path) -> Result<Self, GrantError> {
        Ok(Self {
            named: ProgramGrants::read(json, base)?,
            ..Self::default()
        })
    }

    /// Has each call of the grant with this name approved: `decide` is asked what is to be done, and the call is made
    /// if the answer is `true` within the time.
    #[must_use]
    pub fn approve<F, R>(mut self, name: &str, timeout: Duration, decide: F) -> Self
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = bool> + Send + 'static,
    {
        let approval = Approval {
            name: "the program".into(),
            approver: Arc::new(Decides(decide)),
            timeout,
        };
        self.approvals.insert(name.to_owned(), approval);
        self
    }

    /// The kind of each grant, by its name.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<String, String> {
        let named = self.named.iter();
        named
            .map(|(name, grant)| (name.clone(), grant.kind().to_owned()))
            .collect()
    }

    /// Both of these grants; `None` if one name is in both. The hosts of `fetch` are those of `self`.
    pub(crate) fn and(mut self, other: Self) -> Option<Self> {
        for (name, grant) in other.named {
            if self.named.insert(name, grant).is_some() {
                return None;
            }
        }
        Some(self)
    }

    /// Has the hosts noted that `fetch` is refused.
    #[must_use]
    pub fn noting(mut self, refusals: Refusals) -> Self {
        self.refusals = Some(refusals);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.fetch.is_none()
    }

    /// Lets `fetch` reach these hosts, as `data_guard.outbound_whitelist` names them: a host, `*.` and a host, a
    /// network, each with a scheme or a port if need be. Text that begins with `{` is a rule as in `data_guard.rules`,
    /// such as `{hosts: [api.example.com], proxy: "socks5://127.0.0.1:1080"}`; relative paths in it begin at the
    /// current folder. Unlike in a configuration file, an address or a network that is named here, and `localhost`, may
    /// be private, and credentials of a proxy may be plain text.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn allow_fetch<T: AsRef<str>>(mut self, hosts: &[T]) -> Result<Self, GrantError> {
        let all = hosts.iter().map(AsRef::as_ref);
        let (rules, hosts): (Vec<&str>, Vec<&str>) =
            all.partition(|text| text.trim_start().starts_with('{'));
        let (hosts, rules) = (json!(hosts), rules.join(","));
        let text = format!("{{\"outbound_whitelist\": {hosts}, \"rules\": [{rules}]}}");
        let mut guard = parse_data_guard(&text, Path::new("."))?;
        for rule in &guard.rules {
            guard.allow_private.extend(&rule.addresses);
            let localhost = HostPattern::Exact(Host::Name("localhost".to_owned()));
            if rule.hosts.contains(&localhost) {
                for loopback in ["127.0.0.0/8", "::1/128"] {
                    if let Ok(loopback) = loopback.parse() {
                        guard.allow_private.push(loopback);
                    }
                }
            }
        }
        self.fetch = Some(guard);
        Ok(self)
    }
}

/// A function of the program that decides about calls.
struct Decides<F>(F);

impl<F, R> Approver for Decides<F>
where
    F: Fn(Asked) -> R + Send + Sync + 'static,
    R: Future<Output = bool> + Send + 'static,
{
    fn approve(&self, asked: Asked) -> BoxFuture<'static, Result<bool, String>> {
        let decided = (self.0)(asked);
        Box::pin(async move { Ok(decided.await) })
    }
}

/// Why an isolate with grants was not created.
#[derive(Debug, thiserror::Error)]
pub enum GrantedError {
    /// The isolate.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A grant.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// Opens the grants of the isolates of one sandbox. They are set up when the first isolate has some.
#[derive(Default)]
pub(crate) struct Opener(OnceLock<ProgramGrants>);

impl Opener {
    /// What acts for all isolates of the sandbox.
    pub(crate) fn program(&self) -> Result<&ProgramGrants, GrantError> {
        if let Some(program) = self.0.get() {
            return Ok(program);
        }
        let made = ProgramGrants::new()?;
        Ok(self.0.get_or_init(|| made))
    }

    /// What isolates have used of their grants and of the network.
    pub(crate) fn used(&self) -> GrantedUse {
        self.0
            .get()
            .map_or_else(GrantedUse::default, ProgramGrants::used)
    }

    /// Names the grants in the isolate's `env`.
    pub(crate) fn name(grants: &Grants, options: &mut IsolateOptions) -> Result<(), GrantError> {
        ProgramGrants::name(&grants.named, &mut options.env)
    }

    /// Opens the grants of an isolate.
    pub(crate) fn open(
        &self,
        supervisor: &Supervisor,
        handle: &Handle,
        grants: &Grants,
    ) -> Result<GrantedGuest, GrantError> {
        let program = self.program()?;
        let name = name_of(handle.id());
        let ways = stockade_grants::ways(program.broker(), &name, &grants.named)?;
        let named = program.open(&name, &grants.named, &grants.approvals)?;
        let rules = grants.fetch.iter().flat_map(|guard| &guard.rules);
        let mut through = rules.filter_map(|rule| rule.via.as_deref());
        if let Some(absent) = through.find(|name| !ways.contains_key(*name)) {
            let what = format!(
                "a rule of `fetch` leads through {absent}, which is not granted: it must be a grant of the kind \
                 wireguard_tunnel"
            );
            return Err(GrantError::Invalid(what));
        }
        let egress = grants.fetch.as_ref().map(|guard| {
            let policy = EgressPolicy {
                ways,
                ..egress_policy(guard, bounds::MAX_MESSAGE_BYTES)
            };
            let opened = program.broker().egress(&name, policy, Secrets::default());
            opened.map_err(GrantError::from)
        });
        let egress = egress.transpose()?;
        let takes = match egress {
            Some(_) => Takes::BindingsAndFetch,
            None => Takes::Bindings,
        };
        let services: Arc<dyn Services> = Arc::new(ProgramServices {
            granted: GrantedServices::new(named),
            egress,
            refusals: grants.refusals.clone(),
        });
        let (supervisor, handle) = (supervisor.clone(), handle.clone());
        Ok(GrantedGuest::new(
            &name,
            supervisor,
            handle,
            services,
            takes,
            InstanceLimits::default(),
        ))
    }

    /// Forgets what an isolate has spent that has ended.
    pub(crate) fn forget(&self, isolate: u32) {
        if let Some(program) = self.0.get() {
            program.forget(&name_of(isolate));
        }
    }
}

/// The name of an isolate in the records of its grants.
fn name_of(isolate: u32) -> String {
    format!("isolate {isolate}")
}

/// What one isolate may ask.
struct ProgramServices {
    granted: GrantedServices,
    egress: Option<Arc<Egress>>,
    refusals: Option<Refusals>,
}

impl Services for ProgramServices {
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        let Some(egress) = self.egress.clone() else {
            return self.granted.fetch(request);
        };
        let refusals = self.refusals.clone();
        Box::pin(async move {
            let fetched = egress.fetch(request).await;
            if let (Err(error), Some(refusals)) = (&fetched, refusals)
                && let Some(refusal) = error.refusal()
            {
                refusals.note(&refusal.target, refusal.reason.as_str());
            }
            fetched.map_err(|error| ErrorName::Type.error(error.to_string()))
        })
    }

    fn websocket(
        &self,
        url: String,
        protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        self.granted.websocket(url, protocols)
    }

    fn capability(&self, name: &str) -> Option<Arc<dyn Capability>> {
        self.granted.capability(name)
    }

    fn ended(&self, owner: &Owner) {
        self.granted.ended(owner);
    }
}

/// The grants of an isolate that runs.
pub(crate) struct Granted {
    pub(crate) guest: GrantedGuest,
    pub(crate) opener: Arc<Opener>,
    pub(crate) isolate: u32,
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.opener.forget(self.isolate);
    }
}
