//! What must be right across the file: routes, bindings, listeners, who must show a certificate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;
use stockade_http::{Host, HostPattern, Scheme};

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::grants::Grant;
use crate::hints::nearest;
use crate::instance::{AssetsOrder, Instance, Marked, TemplateUse};
use crate::network::{Listener, tls_names};
use crate::tls::{AcmeChallenge, ClientAuth, ClientAuthMode};
use crate::tree::{Message, Source, Span};
use crate::url::UrlPattern;

pub(crate) fn check(source: &Source<'_>, marked: &[Marked], listeners: &[Listener]) {
    routes(source, marked);
    bindings(source, marked);
    approvals(source, marked);
    tunnels(source, marked);
    templates(source, marked);
    client_auth(source, marked, listeners);
    let no_places = Vec::new();
    for one in marked {
        let places = if listeners.is_empty() {
            &no_places
        } else {
            &one.urls
        };
        for (url, (at, path)) in one.instance.urls.iter().zip(places) {
            reachable(source, url, *at, path, listeners);
        }
        useless(source, one);
    }
}

/// No request may have two instances that claim it equally.
fn routes(source: &Source<'_>, marked: &[Marked]) {
    let mut seen: HashMap<_, Vec<(&UrlPattern, &str)>> = HashMap::new();
    for one in marked {
        for (url, (at, path)) in one.instance.urls.iter().zip(&one.urls) {
            let known = seen.entry((&url.host, &url.path)).or_default();
            if let Some((other, name)) = known.iter().find(|(other, _)| other.ambiguous_with(url)) {
                let what = format!(
                    "{:?} matches what {:?} of instance {name} matches, and neither is more specific",
                    shown(&url.text),
                    shown(&other.text)
                );
                let allowed = "each host and path once, or different schemes or ports";
                source.error(*at, path, Message::allowed(what, allowed));
            }
            known.push((url, &one.instance.name));
        }
    }
}

fn bindings(source: &Source<'_>, marked: &[Marked]) {
    let known: BTreeSet<&str> = marked.iter().map(|one| &*one.instance.name).collect();
    for one in marked {
        for (name, binding) in &one.instance.bindings {
            let Some((at, path)) = one.bindings.get(name) else {
                continue;
            };
            if known.contains(&*binding.instance) {
                continue;
            }
            let mut message = Message::allowed(
                format!("there is no instance {:?}", shown(&binding.instance)),
                names(&known),
            );
            message.nearest = nearest(known.iter().copied(), &binding.instance);
            source.error(*at, path, message);
        }
    }
}

/// Instances that approve calls are there.
fn approvals(source: &Source<'_>, marked: &[Marked]) {
    let known: BTreeSet<&str> = marked.iter().map(|one| &*one.instance.name).collect();
    for one in marked {
        for (name, approve) in &one.instance.approvals {
            if known.contains(&*approve.instance) {
                continue;
            }
            let what = format!("there is no instance {:?}", shown(&approve.instance));
            let mut message = Message::allowed(what, names(&known));
            message.nearest = nearest(known.iter().copied(), &approve.instance);
            let path = format!("{}.grants.{name}.approve", one.path);
            source.error(one.at, &path, message);
        }
    }
}

/// Tunnels that rules and grants name are there.
fn tunnels(source: &Source<'_>, marked: &[Marked]) {
    for one in marked {
        let tunnel = |grant: &Grant| matches!(grant, Grant::WireguardTunnel(_));
        let grants = one.instance.grants.iter();
        let grants = grants.filter(|(_, grant)| tunnel(grant));
        let known: BTreeSet<&str> = grants.map(|(name, _)| name.as_str()).collect();
        let rule = |name| format!("the rule {:?} leads", shown(name));
        let sockets = one.instance.sockets.connect.iter();
        let sockets = sockets.filter_map(|one| one.via.as_deref().zip(Some(rule(&one.name))));
        let guard = one.instance.data_guard.rules.iter();
        let guard = guard.filter_map(|one| one.via.as_deref().zip(Some(rule(&one.name))));
        let servers = one.instance.grants.iter().filter_map(|(name, grant)| {
            let what = format!("the server of {name} is reached");
            grant.via().zip(Some(what))
        });
        let all = sockets.chain(guard).chain(servers);
        for (via, what) in all.filter(|(via, _)| !known.contains(via)) {
            let what = format!("{what} through {via}, which is not a tunnel of this instance");
            let mut message = match known.is_empty() {
                true => Message::allowed(what, "a grant of the kind wireguard_tunnel"),
                false => Message::allowed(what, names(&known)),
            };
            message.nearest = nearest(known.iter().copied(), via);
            source.error(one.at, &format!("{}.grants", one.path), message);
        }
    }
}

/// Instances with `template: own`: the launcher keeps this number of their templates at the same time, and would
/// make one again for each worker beyond it.
const MOST_TEMPLATES: usize = 32;

fn templates(source: &Source<'_>, marked: &[Marked]) {
    let own = marked
        .iter()
        .filter(|one| one.instance.template == TemplateUse::Own);
    for one in own.skip(MOST_TEMPLATES) {
        let what = format!("more than {MOST_TEMPLATES} instances have a template of their own");
        let allowed = "template: shared";
        let path = format!("{}.template", one.path);
        source.error(one.at, &path, Message::allowed(what, allowed));
    }
}

/// The first names of some; there may be thousands.
fn names(known: &BTreeSet<&str>) -> String {
    const MOST: usize = 20;
    let mut out: Vec<_> = known.iter().take(MOST).copied().collect();
    let more = format!("and {} more", known.len().saturating_sub(MOST));
    if known.len() > MOST {
        out.push(&more);
    }
    out.join(", ")
}

/// Whether some listener takes what the URL is for.
fn reachable(source: &Source<'_>, url: &UrlPattern, at: Span, path: &str, listeners: &[Listener]) {
    let takes = |listener: &Listener| match url.scheme {
        None => true,
        Some(Scheme::Https) => listener.tls.is_some(),
        Some(Scheme::Http) => listener.tls.is_none(),
    };
    if !listeners.iter().any(takes) {
        let (what, allowed) = match url.scheme {
            Some(Scheme::Http) => (
                "nobody can reach this URL: every listener speaks TLS",
                "https:// or no scheme, or a listener with `tls: false`",
            ),
            _ => (
                "nobody can reach this URL: no listener speaks TLS",
                "http:// or no scheme, or a section `tls` with a certificate",
            ),
        };
        source.error(at, path, Message::allowed(what, allowed));
        return;
    }
    if let Some(port) = url.port
        && !listeners
            .iter()
            .any(|listener| takes(listener) && [port, 0].contains(&listener.address.port()))
    {
        let what = format!(
            "no listener is on port {port}: only clients that write it in their request, as behind a proxy, match"
        );
        source.warning(at, path, what);
    }
}

/// TLS asks for certificates by host name, before a path is known; plain HTTP never does.
fn client_auth(source: &Source<'_>, marked: &[Marked], listeners: &[Listener]) {
    let mut by_host: HashMap<&HostPattern, (&ClientAuth, &str)> = HashMap::new();
    let usual = ClientAuth::default();
    let shared = listeners
        .iter()
        .find_map(|listener| listener.tls.as_ref())
        .map_or(&usual, |tls| &tls.client_auth);
    let plain = listeners.iter().find(|listener| listener.tls.is_none());
    for one in marked {
        let wanted = one.instance.client_auth.as_ref().unwrap_or(shared);
        for (url, (at, path)) in one.instance.urls.iter().zip(&one.urls) {
            if url.scheme == Some(Scheme::Http) {
                continue;
            }
            if let Some((other, name)) = by_host.get(&url.host)
                && *other != wanted
            {
                let what = format!(
                    "instance {name} answers the same host, but wants another `client_auth`"
                );
                let allowed = "the same client_auth for all that share a host: TLS asks for a certificate before the path is known";
                source.error(*at, path, Message::allowed(what, allowed));
            }
            by_host.insert(&url.host, (wanted, &one.instance.name));
            if url.host == HostPattern::Any && wanted != shared {
                let what = format!(
                    "{:?} is for any host, and its instance has a `client_auth` of its own",
                    shown(&url.text)
                );
                let allowed = "hosts before the paths, since TLS selects by the host's name; or this client_auth in the section `tls`";
                source.error(*at, path, Message::allowed(what, allowed));
            }
        }
        let required = (one.instance.client_auth.as_ref())
            .filter(|auth| auth.mode == ClientAuthMode::Required);
        if let (Some(_), Some(plain)) = (required, plain) {
            let open = |url: &&UrlPattern| url.scheme != Some(Scheme::Https);
            for url in one.instance.urls.iter().filter(open) {
                let what = format!(
                    "{:?} is reached without any certificate through the plain listener on {}",
                    shown(&url.text),
                    plain.address
                );
                let allowed = "https:// before every URL of an instance that requires certificates";
                source.error(one.client_auth, &one.path, Message::allowed(what, allowed));
            }
        }
    }
}

/// Grants that nothing can use.
fn useless(source: &Source<'_>, one: &Marked) {
    let Instance { code, .. } = &one.instance;
    let at = one.at;
    let warn = |what: String, allowed: &str| {
        source.warning(at, &one.path, Message::allowed(what, allowed));
    };
    if code.is_none() {
        let instance = &one.instance;
        let granted = [
            ("env", !instance.env.is_empty()),
            ("secrets", !instance.secrets.is_empty()),
            ("bindings", !instance.bindings.is_empty()),
            ("files", !instance.files.is_empty()),
            ("grants", !instance.grants.is_empty()),
            ("crons", !instance.crons.is_empty()),
        ];
        for (key, _) in granted.iter().filter(|(_, there)| *there) {
            let what = format!("`{key}` has no effect: the instance has no code");
            warn(what, "code: the path of a module, or no such key");
        }
    }
    if one.instance.urls.is_empty() && one.instance.crons.is_empty() && code.is_none() {
        warn(
            "nothing reaches this instance: it has neither `urls` nor `crons`".to_owned(),
            "urls: [host], or a binding of another instance",
        );
    }
    if let Some(assets) = one.instance.assets.as_ref().filter(|_| code.is_some()) {
        if assets.fallback.is_some() {
            let what = "`fallback` has no effect: paths without a file go to the code";
            warn(what.to_owned(), "no `fallback`, or no `code`");
        }
        if assets.order == AssetsOrder::CodeFirst && assets.binding.is_none() {
            let what =
                "nobody reaches the assets: with `order: code_first` only code can ask for them";
            warn(
                what.to_owned(),
                "assets.binding, as ASSETS, or `order: files_first`",
            );
        }
    }
    private(one, &warn);
    let reached: Vec<_> = one
        .instance
        .data_guard
        .rules
        .iter()
        .flat_map(|rule| &rule.hosts)
        .collect();
    let secrets: BTreeMap<_, _> = one
        .instance
        .secrets
        .iter()
        .filter_map(|(name, secret)| Some((name, secret.hosts.as_ref()?)))
        .collect();
    for (name, hosts) in secrets {
        for host in hosts
            .iter()
            .filter(|host| !reached.iter().any(|rule| covers(rule, host)))
        {
            let what = format!(
                "secret {name} is meant for {host}, which data_guard does not let the instance reach"
            );
            warn(what, "the host in data_guard.outbound_whitelist");
        }
    }
}

/// Entries that only name what is refused all the same.
fn private(one: &Marked, warn: &dyn Fn(String, &str)) {
    let guard = &one.instance.data_guard;
    let listed = |net: &IpNet| {
        guard
            .allow_private
            .iter()
            .any(|allowed| allowed.contains(net))
    };
    for rule in &guard.rules {
        for net in rule
            .addresses
            .iter()
            .filter(|net| special(net) && !listed(net))
        {
            let what = format!(
                "{:?} is refused all the same: {net} is not public, and allow_private does not list it",
                shown(&rule.name)
            );
            warn(what, "the network in data_guard.allow_private too");
        }
    }
}

/// Whether a network lies within one that the broker refuses (IANA's registries of special-purpose
/// addresses).
fn special(net: &IpNet) -> bool {
    const NETWORKS: [&str; 21] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "::/127",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "2001:db8::/32",
        "2002::/16",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    ];
    let networks = NETWORKS
        .iter()
        .filter_map(|text| text.parse::<IpNet>().ok());
    networks.into_iter().any(|special| special.contains(net))
}

/// Whether everything that `inner` is, `outer` is too.
fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (HostPattern::Any, _) => true,
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a == b,
        (HostPattern::Below(a), HostPattern::Below(b)) => a == b || below(a, b),
        (HostPattern::Below(a), HostPattern::Exact(Host::Name(b))) => below(a, b),
        _ => false,
    }
}

/// Whether `name` ends in a dot and `parent`.
fn below(parent: &str, name: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|rest| rest.ends_with('.'))
}

/// Gives ACME the names of all URLs where it has none of its own, and checks that it can prove them.
pub(crate) fn fill_in_domains(top: &Fields<'_>, listeners: &mut [Listener], marked: &[Marked]) {
    let plain = listeners.iter().any(|listener| listener.tls.is_none());
    let mut reported = false;
    for tls in listeners
        .iter_mut()
        .filter_map(|listener| listener.tls.as_mut())
    {
        let Some(acme) = &tls.acme else {
            continue;
        };
        let mut message = None;
        if acme.challenge == AcmeChallenge::Http01 && !plain {
            let allowed = "a listener with `tls: false` that is reached on port 80, or tls-alpn-01";
            let what = "the challenge http-01 needs a listener without TLS";
            message = Some(Message::allowed(what, allowed));
        }
        if acme.domains.is_empty() {
            let domains = tls_names(marked.iter().flat_map(|one| &one.instance.urls));
            if domains.is_empty() {
                let allowed = "`domains`, or URLs with a host name";
                let what = "ACME has no name to fetch a certificate for";
                message = Some(Message::allowed(what, allowed));
            }
            if let Some(acme) = &mut Arc::make_mut(tls).acme {
                acme.domains = domains;
            }
        }
        if let Some(message) = message.filter(|_| !reported) {
            let key = if top.has("tls") { "tls" } else { "listeners" };
            top.refuse(key, message);
            reported = true;
        }
    }
}
