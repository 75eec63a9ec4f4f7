//! What the user is told when the server starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use stockade_config::Scaling;

use super::Now;
use crate::site::Site;

/// Sites that are listed one by one.
const LISTED: usize = 50;

/// Sites after which a start tells how far it is.
const PROGRESS: usize = 250;

/// Where it listens and what it serves.
pub(super) fn start(now: &Now, path: &Path, metrics: Option<&str>, say: fn(&str)) {
    let config = now.config.load_full();
    let Some(config) = config else { return };
    say(&format!("stockade serve: {}", path.display()));
    let gateway = now.gateway.lock().clone();
    let addresses = gateway
        .map(|gateway| gateway.addresses())
        .unwrap_or_default();
    for (name, address) in addresses {
        let listener = config.listeners.iter();
        let mut of_name = listener.filter(|listener| listener.address.to_string() == *name);
        let secure = of_name
            .next()
            .is_some_and(|listener| listener.tls.is_some());
        let scheme = if secure { "https" } else { "http" };
        say(&format!("  listening on {scheme}://{address}"));
    }
    if let Some(metrics) = metrics {
        say(&format!(
            "  metrics on {metrics}; /healthz and /readyz beside it"
        ));
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
            (_, Scaling::Fixed(1)) => format!("{}, 1 mirror", site.isolation.name()),
            (_, Scaling::Fixed(mirrors)) => {
                format!("{}, {mirrors} mirrors", site.isolation.name())
            }
            (_, Scaling::Auto(auto)) => {
                let level = site.isolation.name();
                format!("{level}, {} to {} mirrors", auto.min, auto.max)
            }
        };
        let urls: Vec<&str> = site.urls.iter().map(|url| url.text.as_str()).collect();
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

/// Waits for the first mirror of each site and tells how that went.
pub(super) async fn ready(sites: &BTreeMap<String, Arc<Site>>, began: Instant, say: fn(&str)) {
    let mut failed = 0;
    for (at, (name, site)) in sites.iter().enumerate() {
        if at > 0 && at % PROGRESS == 0 {
            say(&format!("  {at} of {} instances are started", sites.len()));
        }
        if let Err(error) = site.ready().await {
            failed += 1;
            say(&format!("  {name}: {error}"));
        }
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
