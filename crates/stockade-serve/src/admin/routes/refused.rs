//! What the guests of an instance were refused, and the rule that would allow it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use serde::Serialize;
use stockade_broker::{Action, Reason, Refusal};
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::{Json, Path};
use crate::admin::problem::ApiError;

/// The latest refusals of an instance.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusedList {
    /// The latest first. At most 64 different ones are kept.
    refused: Vec<RefusedEntry>,
}

/// Something that guests wanted and did not get.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusedEntry {
    /// `fetch`, `websocket`, `socket` or `file`.
    action: &'static str,
    /// `scheme://host:port`, or the binding of a folder and a path. The guest chose it.
    target: String,
    /// The reason's name, as in metrics and in the audit log.
    reason: &'static str,
    /// The reason for a person, as the guest received it.
    message: String,
    /// The rule that came nearest to allowing it.
    rule: Option<String>,
    /// The address that was refused.
    address: Option<String>,
    /// How often, since `first`.
    count: u64,
    #[schema(format = DateTime)]
    first: String,
    #[schema(format = DateTime)]
    last: String,
    /// YAML for the configuration that would allow it; null where no rule would.
    allow: Option<String>,
}

/// What guests of an instance were refused.
///
/// The list is in memory, and is empty after a start of the server. The audit log keeps all.
#[utoipa::path(get, path = "/v1/instances/{instance}/refused", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 200, description = "The latest refusals", body = RefusedList)))]
pub(crate) async fn list(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Json<RefusedList>, ApiError> {
    admin.site(&name)?;
    let refused = admin.logs.refused.of(&name).into_iter().map(|entry| {
        let refusal = &entry.refusal;
        RefusedEntry {
            action: refusal.action.as_str(),
            target: refusal.target.clone(),
            reason: refusal.reason.as_str(),
            message: refusal.to_string(),
            rule: refusal.rule.as_deref().map(str::to_owned),
            address: refusal.address.map(|address| address.to_string()),
            count: entry.count,
            first: written(entry.first),
            last: written(entry.last),
            allow: rule(refusal),
        }
    });
    Ok(Json(RefusedList {
        refused: refused.collect(),
    }))
}

fn written(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The part of a configuration that would allow what was refused.
fn rule(refusal: &Refusal) -> Option<String> {
    let (scheme, host, port) = parts(&refusal.target)?;
    let lines: Vec<String> = match (&refusal.reason, refusal.action) {
        (Reason::AddressNotAllowed(_), Action::Fetch | Action::WebSocket | Action::Socket) => {
            vec![format!("allow_private: [\"{}\"]", refusal.address?)]
        }
        (
            Reason::HostNotAllowed
            | Reason::SchemeNotAllowed
            | Reason::PortNotAllowed
            | Reason::MethodNotAllowed,
            Action::Fetch | Action::WebSocket,
        ) => {
            let scheme = match scheme {
                "ws" | "http" => "http",
                _ => "https",
            };
            vec![format!(
                "outbound_whitelist: [\"{scheme}://{host}:{port}\"]"
            )]
        }
        (Reason::HostNotAllowed | Reason::PortNotAllowed, Action::Socket) => {
            let bare = host.trim_matches(['[', ']']);
            let key = match bare.parse::<IpAddr>() {
                Ok(_) => "addresses",
                Err(_) => "hosts",
            };
            let protocol = match scheme {
                "udp" => ", protocol: udp",
                _ => "",
            };
            let entry = format!("- {{{key}: [\"{bare}\"], ports: [{port}]{protocol}}}");
            vec!["connect:".to_owned(), format!("  {entry}")]
        }
        _ => return None,
    };
    let section = match refusal.action {
        Action::Socket => "sockets",
        _ => "data_guard",
    };
    let mut text = format!("instances:\n  {}:\n    {section}:\n", refusal.instance);
    for line in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "      {line}");
    }
    Some(text)
}

/// Scheme, host and port of a target that has no character with a meaning in YAML.
fn parts(target: &str) -> Option<(&str, &str, u16)> {
    let (scheme, rest) = target.split_once("://")?;
    let (host, port) = rest.rsplit_once(':')?;
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    (!host.is_empty() && host.chars().all(plain)).then_some((scheme, host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use stockade_config::Config;

    use super::*;

    fn refusal(action: Action, target: &str, reason: Reason) -> Refusal {
        Refusal {
            instance: "shop".into(),
            action,
            target: target.to_owned(),
            rule: None,
            reason,
            address: None,
        }
    }

    /// A configuration with the rule, as its reader takes it.
    fn read(refusal: &Refusal) -> stockade_config::Instance {
        let text = rule(refusal).unwrap();
        let text =
            format!("version: \"1.0\"\n{text}    code: ./shop.js\n    urls: [shop.localhost]\n");
        let loaded = Config::parse(&text, "stockade.yaml", std::path::Path::new("/"));
        let config = loaded
            .unwrap_or_else(|errors| panic!("{text}\n{errors}"))
            .config;
        config.instances["shop"].clone()
    }

    #[test]
    fn rule_of_a_host_allows_what_was_refused() {
        for (target, scheme) in [
            ("https://api.example.com:443", "https"),
            ("ws://api.example.com:8080", "http"),
            ("http://[2001:db8::1]:80", "http"),
        ] {
            let site = read(&refusal(Action::Fetch, target, Reason::HostNotAllowed));
            let rule = &site.data_guard.rules[0];
            assert_eq!(rule.schemes.len(), 1);
            assert!(rule.schemes[0].as_str() == scheme, "{target}");
            let port = target.rsplit(':').next().unwrap().parse().unwrap();
            assert!(
                rule.ports.len() == 1 && rule.ports[0].contains(port),
                "{target}"
            );
            assert_eq!(rule.hosts.len() + rule.addresses.len(), 1, "{target}");
        }
    }

    #[test]
    fn rule_of_a_connection_allows_what_was_refused() {
        let site = read(&refusal(
            Action::Socket,
            "tcp://db.internal:5432",
            Reason::HostNotAllowed,
        ));
        let rule = &site.sockets.connect[0];
        assert!(rule.ports[0].contains(5432) && rule.hosts.len() == 1);
        let site = read(&refusal(
            Action::Socket,
            "udp://[2001:db8::1]:53",
            Reason::HostNotAllowed,
        ));
        let rule = &site.sockets.connect[0];
        assert!(rule.protocol == stockade_config::Protocol::Udp && rule.addresses.len() == 1);
    }

    #[test]
    fn rule_of_an_address_allows_this_address_alone() {
        let kind = stockade_broker::AddressKind::Private;
        let refusal = Refusal {
            address: Some("10.1.2.3".parse().unwrap()),
            ..refusal(
                Action::Fetch,
                "http://a.example:80",
                Reason::AddressNotAllowed(kind),
            )
        };
        let site = read(&refusal);
        assert_eq!(
            site.data_guard.allow_private,
            ["10.1.2.3/32".parse().unwrap()]
        );
    }

    #[test]
    fn rule_of_a_hostile_target_or_a_limit_is_none() {
        for target in [
            "http://a\"]\nadmin: true #:80",
            "file.txt",
            "http://:80",
            "http://a:99999",
        ] {
            assert_eq!(
                rule(&refusal(Action::Fetch, target, Reason::HostNotAllowed)),
                None
            );
        }
        let limit = refusal(
            Action::Fetch,
            "http://a.example:80",
            Reason::Rate { limit: 5 },
        );
        assert_eq!(rule(&limit), None);
    }
}
