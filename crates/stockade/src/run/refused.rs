//! Hosts that a guest tried to reach and may not.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use stockade_protocol::Payload;
use url::Url;

/// Entries that are kept.
pub const MAX_REFUSED: usize = 100;

/// The reason where nothing grants what the guest tried.
const NOT_GRANTED: &str = "not_granted";

/// A host that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedHost {
    /// As the guest named it; at most 253 bytes.
    pub host: String,
    /// The port, also where it is that of the scheme.
    pub port: u16,
    /// `not_granted`, or the word of the audit log, such as `host`, `port` or `address`.
    pub reason: &'static str,
}

/// Notes refused hosts, each once.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<Vec<RefusedHost>>>);

impl Refusals {
    /// Notes the URL of a request that nothing grants: the data of `fetch` or of the event `ws.open`.
    pub fn not_granted(&self, data: &Payload) {
        #[derive(serde::Deserialize)]
        struct Wanted {
            url: String,
        }
        if let Ok(Wanted { url }) = data.read() {
            self.note(&url, NOT_GRANTED);
        }
    }

    /// Notes a URL, or `scheme://host:port`.
    pub(crate) fn note(&self, url: &str, reason: &'static str) {
        let Ok(url) = Url::parse(url) else { return };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return;
        };
        let host: String = host.chars().take(253).collect();
        let refused = RefusedHost { host, port, reason };
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < MAX_REFUSED && !list.contains(&refused) {
            list.push(refused);
        }
    }

    /// What was noted since this was last called.
    #[must_use]
    pub fn take(&self) -> Vec<RefusedHost> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_noted_once_and_bounded() {
        let refusals = Refusals::default();
        for _ in 0..2 {
            refusals.note("https://example.com/a?b", "host");
        }
        refusals.note("ws://example.com:81", "host");
        refusals.note("no url", "host");
        let noted = refusals.take();
        let hosts: Vec<_> = noted.iter().map(|it| (&*it.host, it.port)).collect();
        assert_eq!(hosts, [("example.com", 443), ("example.com", 81)]);
        for port in 1..=1000 {
            refusals.note(&format!("http://a:{port}"), "host");
        }
        assert_eq!(refusals.take().len(), MAX_REFUSED);
        assert!(refusals.take().is_empty());
    }
}
