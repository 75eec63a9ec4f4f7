//! What is reported to the user when the server starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use stockade_config::{Scaling, UrlPattern};
use stockade_gateway::{Address, Gateway};
use stockade_http::{HostPattern, PathPattern, Scheme};
use stockade_limits::Fresh;

use crate::running::{Running, SiteTraffic};

/// Sites that are listed one by one.
const LISTED: usize = 50;

/// Sites after which a start reports its progress.
const PROGRESS: usize = 250;

/// Where it listens and what it serves.
pub(super) fn start(running: &Running, gateway: &Gateway, path: &Path, say: fn(&str)) {
    let config = &running.config;
    say(&format!("stockade serve: {}", path.display()));
    let mut listening = Vec::new();
    for (name, address) in gateway.addresses() {
        if let Address::Udp(address) = address {
            say(&format!("  listening on {address}, udp"));
            continue;
        }
        let listener = config.listeners.iter();
        let mut of_name = listener.filter(|listener| listener.address.to_string() == *name);
        let secure = of_name
            .next()
            .is_some_and(|listener| listener.tls.is_some());
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        say(&format!("  listening on {address}, {scheme}"));
        if let Address::Tcp(address) = address {
            listening.push((address, scheme));
        }
    }
    if let (Some(metrics), Some(address)) = (&config.metrics, running.metrics_address) {
        let address = reachable(address);
        let path = &metrics.path;
        say(&format!(
            "  metrics on http://{address}{path}, with /healthz and /readyz on the same address"
        ));
    }
    if let (Some(admin), Some(address)) = (&config.admin, &running.admin_address) {
        let scheme = match admin.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        let address = match address {
            Address::Tcp(address) => reachable(*address).to_string(),
            address => address.to_string(),
        };
        say(&format!("  admin API on {scheme}://{address}/v1/"));
    }
    say(&format!("  control socket {}", config.control.display()));
    let width = config
        .instances
        .keys()
        .map(String::len)
        .max()
        .unwrap_or(0)
        .min(24);
    for (name, site) in config.instances.iter().take(LISTED) {
        let mirrors = match (&site.code, &site.scaling) {
            (None, _) => "files only".to_owned(),
            (Some(_), _) if site.fresh == Fresh::Request => {
                format!("{}, a new mirror for each request", site.isolation.name())
            }
            (_, Scaling::Fixed(1)) => format!("{}, 1 mirror", site.isolation.name()),
            (_, Scaling::Fixed(mirrors)) => {
                format!("{}, {mirrors} mirrors", site.isolation.name())
            }
            (_, Scaling::Auto(auto)) => {
                let level = site.isolation.name();
                format!("{level}, {} to {} mirrors", auto.min, auto.max)
            }
        };
        let urls = site.urls.iter().map(|url| shown(url, &listening));
        let urls: Vec<String> = urls.collect();
        let urls = if urls.is_empty() {
            "no URL".to_owned()
        } else {
            urls.join(" ")
        };
        say(&format!("  {name:width$}  {mirrors}  {urls}"));
    }
    let more = config.instances.len().saturating_sub(LISTED);
    if more > 0 {
        say(&format!("  and {more} more"));
    }
}

/// What `stockade dev` serves, and where.
pub(super) fn development(running: &Running, gateway: &Gateway, path: &Path, say: fn(&str)) {
    say(&format!("stockade dev: {}", path.display()));
    let listeners = &running.config.listeners;
    let secure = listeners.iter().any(|listener| listener.tls.is_some());
    let scheme = if secure { Scheme::Https } else { Scheme::Http };
    let ports = gateway.addresses().into_iter();
    let port = ports.filter_map(|(_, address)| match address {
        Address::Tcp(address) => Some(address.port()),
        _ => None,
    });
    let Some(port) = port.min() else { return };
    for (name, site) in &running.config.instances {
        // Its first URL is the one for people.
        let Some(url) = site.urls.first() else {
            continue;
        };
        let level = match &site.code {
            Some(_) => site.isolation.name(),
            None => "files only",
        };
        say(&format!(
            "  {scheme}://{}:{port}/  {name}, {level}",
            url.host
        ));
    }
    let mut sites = running.config.instances.values();
    if sites.any(|site| !site.crons.is_empty()) {
        say("  `crons` run at their times, and when /.stockade/dev/scheduled is requested");
    }
}

/// The address at which a listener is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A URL that the pattern matches, at the first listener that takes it. What stands for any name below another
/// stays `*`, and a pattern that only a proxy's clients can match stays as it was written.
fn shown(url: &UrlPattern, listening: &[(SocketAddr, Scheme)]) -> String {
    let takes = |(address, scheme): &&(SocketAddr, Scheme)| {
        url.scheme.is_none_or(|wanted| wanted == *scheme)
            && url.port.is_none_or(|port| port == address.port())
    };
    let Some((address, scheme)) = listening.iter().find(takes) else {
        return url.text.clone();
    };
    let host = match &url.host {
        HostPattern::Any => match reachable(*address).ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        },
        host => host.to_string(),
    };
    let port = match (scheme, address.port()) {
        (Scheme::Http, 80) | (Scheme::Https, 443) => String::new(),
        (_, port) => format!(":{port}"),
    };
    let path = match &url.path {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Under(path) => format!("{path}/"),
    };
    format!("{scheme}://{host}{port}{path}")
}

/// Waits for the first mirror of each version of each site and reports the result.
pub(super) async fn ready(sites: &BTreeMap<String, SiteTraffic>, began: Instant, say: fn(&str)) {
    let mut failed = 0;
    for (at, (name, traffic)) in sites.iter().enumerate() {
        if at > 0 && at % PROGRESS == 0 {
            say(&format!("  {at} of {} instances are started", sites.len()));
        }
        let mut starts = true;
        for site in traffic.sites() {
            if let Err(error) = site.ready().await {
                starts = false;
                say(&format!("  {name}: {error}"));
            }
        }
        failed += usize::from(!starts);
    }
    let took = began.elapsed().as_millis();
    if failed == 0 {
        say(&format!("ready in {took} ms"));
    } else {
        let all = sites.len();
        say(&format!(
            "started in {took} ms, but {failed} of {all} instances do not run; they are tried again"
        ));
    }
}

#[cfg(test)]
mod tests {
    use stockade_config::Config;

    use super::*;

    #[test]
    fn url_shown_is_one_that_answers() {
        let check = |pattern: &str, listening: &[(&str, Scheme)], expected: &str| {
            let tls = "tls: {cert_path: a.crt, key_path: a.key}";
            let listeners =
                "listeners: [{address: \"127.0.0.1:1\", tls: false}, {address: \"127.0.0.1:2\"}]";
            let text = format!(
                "version: \"1.0\"\n{tls}\n{listeners}\ninstances: {{a: {{code: a.ts, urls: [{pattern:?}]}}}}\n"
            );
            let loaded = Config::parse(&text, "stockade.yaml", Path::new("/srv")).unwrap();
            let listening: Vec<_> = listening
                .iter()
                .map(|(address, scheme)| (address.parse().unwrap(), *scheme))
                .collect();
            let url = &loaded.config.instances["a"].urls[0];
            assert_eq!(shown(url, &listening), expected, "{pattern}");
        };
        let both = [("0.0.0.0:8080", Scheme::Http), ("[::]:443", Scheme::Https)];
        check("a.example", &both, "http://a.example:8080/");
        check("https://a.example", &both, "https://a.example/");
        check("https://a.example/api/*", &both, "https://a.example/api/");
        check("/hello/*", &both, "http://127.0.0.1:8080/hello/");
        check("/about", &both, "http://127.0.0.1:8080/about");
        check("/*", &both[1..], "https://[::1]/");
        check("*.a.example", &both, "http://*.a.example:8080/");
        check("a.example:443", &both, "https://a.example/");
        // Behind a proxy that listens there.
        check("a.example:9000", &both, "a.example:9000");
        check("https://a.example", &both[..1], "https://a.example");
        check("/*", &[("192.0.2.1:80", Scheme::Http)], "http://192.0.2.1/");
    }
}
