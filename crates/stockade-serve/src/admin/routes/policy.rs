//! What an instance may use and may do: its limits and its grants.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use stockade_config::{Instance as Settings, InstanceLimits, PortRange};
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::{Json, Path};
use crate::admin::problem::ApiError;

/// What an instance may use and may do.
#[derive(Serialize, ToSchema)]
pub(crate) struct InstancePolicy {
    limits: Limits,
    /// By kind. An instance without grants reaches nothing.
    grants: Vec<Granted>,
}

/// The limits of an instance, with those that it has by default.
#[derive(Serialize, ToSchema)]
pub(crate) struct Limits {
    /// Of a mirror.
    memory_bytes: u64,
    /// CPU time of one activation of a mirror.
    cpu_ms: u64,
    /// Elapsed time of one activation of a mirror.
    wall_ms: u64,
    /// From a request's arrival at a mirror to the head of its response.
    timeout_ms: u64,
    /// Requests of a mirror at the same time.
    concurrency: usize,
    /// Requests of the instance that wait for a mirror.
    queue: usize,
    /// Unanswered requests of a mirror to other hosts, bindings and state.
    subrequests: u32,
    /// Open WebSockets of clients.
    websockets: usize,
    /// Size of a request's body.
    max_body_bytes: u64,
}

/// Something that an instance is granted. No secret is part of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Granted {
    /// `egress`, `connect`, `binding`, `state`, `folder`, `secret`, or the kind of an entry of `grants`.
    kind: &'static str,
    /// Its name in `env`, or the name of a rule.
    name: String,
    /// What it leads to.
    detail: String,
}

/// Limits and grants of an instance.
#[utoipa::path(get, path = "/v1/instances/{instance}/policy", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 200, description = "What the configuration that is in use says", body = InstancePolicy)))]
pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Json<InstancePolicy>, ApiError> {
    let site = admin.site(&name)?;
    Ok(Json(InstancePolicy {
        limits: limits(&site.config.limits),
        grants: grants(&site.config),
    }))
}

fn limits(limits: &InstanceLimits) -> Limits {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Limits {
        memory_bytes: limits.memory,
        cpu_ms: ms(limits.cpu),
        wall_ms: ms(limits.wall),
        timeout_ms: ms(limits.timeout),
        concurrency: limits.concurrency,
        queue: limits.queue,
        subrequests: limits.subrequests,
        websockets: limits.websockets,
        max_body_bytes: limits.max_body,
    }
}

fn grants(site: &Settings) -> Vec<Granted> {
    let granted = |kind, name: &str, detail: String| Granted {
        kind,
        name: name.to_owned(),
        detail,
    };
    let egress = site.data_guard.rules.iter().map(|rule| {
        let targets = joined(rule.hosts.iter(), rule.addresses.iter());
        granted(
            "egress",
            &rule.name,
            format!("{targets}, {}", ports(&rule.ports)),
        )
    });
    let connect = site.sockets.connect.iter().map(|rule| {
        let targets = joined(rule.hosts.iter(), rule.addresses.iter());
        granted(
            "connect",
            &rule.name,
            format!("{targets}, {}", ports(&rule.ports)),
        )
    });
    let bindings = (site.bindings.iter())
        .map(|(name, to)| granted("binding", name, format!("the instance {}", to.instance)));
    let state = site.state.iter().map(|state| {
        let detail = format!("shared by all mirrors, at most {} bytes", state.storage);
        granted("state", &state.binding, detail)
    });
    let folders = site.files.iter().map(|grant| {
        let mode = match grant.mode {
            stockade_config::FileMode::Read => "read",
            stockade_config::FileMode::Write => "write",
        };
        granted(
            "folder",
            &grant.binding,
            format!("{mode} {}", grant.path.display()),
        )
    });
    let secrets = site.secrets.iter().map(|(name, secret)| {
        let detail = match &secret.hosts {
            None => "the guest reads it".to_owned(),
            Some(hosts) => format!("filled in for {}", joined(hosts.iter(), [""; 0].iter())),
        };
        granted("secret", name, detail)
    });
    let others = site.grants.iter().map(|(name, grant)| {
        let detail = match site.approvals.get(name) {
            Some(approve) => format!("each call is approved by the instance {}", approve.instance),
            None => String::new(),
        };
        granted(grant.kind(), name, detail)
    });
    (egress
        .chain(connect)
        .chain(bindings)
        .chain(state)
        .chain(folders)
        .chain(secrets)
        .chain(others))
    .collect()
}

fn joined(
    first: impl Iterator<Item = impl Display>,
    then: impl Iterator<Item = impl Display>,
) -> String {
    let texts = first
        .map(|one| one.to_string())
        .chain(then.map(|one| one.to_string()));
    texts.collect::<Vec<_>>().join(" ")
}

fn ports(ports: &[PortRange]) -> String {
    let ranges = ports.iter().map(|range| match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    });
    format!("ports {}", ranges.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use stockade_config::Config;

    use super::*;

    #[test]
    fn grants_are_all_that_an_instance_has_and_no_secret() {
        let text = "
version: \"1.0\"
instances:
  api: {code: ./api.js}
  shop:
    code: ./shop.js
    urls: [shop.localhost]
    state: true
    bindings: {API: api}
    secrets: {TOKEN: {variable: PATH, hosts: [a.example.com]}}
    grants: {NAMES: {dns: {names: [example.com]}}}
    sockets: {connect: [{hosts: [db.example.com], ports: [5432, 6000-6100]}]}
    data_guard: {outbound_whitelist: [\"https://b.example.com\"]}
";
        let loaded = Config::parse(text, "stockade.yaml", std::path::Path::new("/"));
        let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
        let shop = grants(&config.instances["shop"]);
        let lines: Vec<_> = (shop.iter())
            .map(|one| format!("{} {}: {}", one.kind, one.name, one.detail))
            .collect();
        assert_eq!(
            lines,
            [
                "egress https://b.example.com: b.example.com, ports 443",
                "connect instances.shop.sockets.connect[0]: db.example.com, ports 5432 6000-6100",
                "binding API: the instance api",
                "state STATE: shared by all mirrors, at most 104857600 bytes",
                "secret TOKEN: filled in for a.example.com",
                "dns NAMES: ",
            ]
        );
        assert!(grants(&config.instances["api"]).is_empty());
    }
}
