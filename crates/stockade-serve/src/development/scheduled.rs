//! Runs the `scheduled` handler of a site when the site's developer asks for it.
//!
//! The request is `GET` or `POST` at [`PATH`], with these parameters, none of which is required:
//!
//! - `cron`: the entry that the handler gets as `controller.cron`; without it the only one of `crons`, or `* * * * *` where the
//!   configuration has none.
//! - `time`: what the handler gets as `controller.scheduledTime`, as 2026-11-30T12:00:00Z or in milliseconds since 1970; without
//!   it the current time.
//! - `instance`: another site than the one that answers for the request's host.
//!
//! Invariant: pages of other origins cannot run it. Browsers say where a request comes from.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use stockade_config::Cron;
use stockade_http::Body;
use stockade_instance::{CronOutcome, Instance};
use stockade_protocol::harmless;

use super::own;

/// Where runs are asked for.
const PATH: &str = "/.stockade/dev/scheduled";

/// The same for scripts that were written for wrangler. At Cloudflare, no path below `/cdn-cgi/` reaches a site.
const WRANGLER_PATH: &str = "/cdn-cgi/handler/scheduled";

/// The entry of a site that has none.
const EVERY_MINUTE: &str = "* * * * *";

/// Milliseconds that a date of JavaScript may be away from 1970 (ECMA-262, section 21.4.1.1).
const MAX_TIME: i64 = 8_640_000_000_000_000;

/// Bytes of what a handler threw.
const MAX_WHY: usize = 16 << 10;

/// Whether a request asks for a run.
pub(crate) fn asks_for_run(uri: &Uri) -> bool {
    [PATH, WRANGLER_PATH].contains(&uri.path())
}

/// What a developer wants to run.
pub(crate) struct Wanted {
    cron: Option<Cron>,
    /// Milliseconds since 1970.
    time: i64,
    /// The name of the site, where it is not the one that answers for the host.
    pub(crate) instance: Option<String>,
}

impl Wanted {
    /// Reads a request.
    ///
    /// # Errors
    /// The answer to one that is refused.
    pub(crate) fn read<B>(request: &Request<B>) -> Result<Self, Box<Response<Body>>> {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let text = "the method is GET or POST";
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        if is_of_another_origin(request.headers()) {
            let text = "a page of another origin may not run it";
            return Err(refused(StatusCode::FORBIDDEN, text));
        }
        let bad = |text: &str| refused(StatusCode::BAD_REQUEST, text);
        let mut wanted = Self {
            cron: None,
            time: now(),
            instance: None,
        };
        let query = request.uri().query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "cron" => wanted.cron = Some(Cron::read(&value).map_err(|why| bad(&why))?),
                "time" => {
                    let why = "time: expected a time such as 2026-11-30T12:00:00Z, or milliseconds since 1970";
                    wanted.time = moment(&value).ok_or_else(|| bad(why))?;
                }
                "instance" => wanted.instance = Some(value.into_owned()),
                _ => {
                    let why = format!("{name:?} is no parameter\n  allowed: cron, time, instance");
                    return Err(bad(&why));
                }
            }
        }
        Ok(wanted)
    }

    /// Runs the handler, and describes the outcome.
    pub(crate) async fn run(&self, instance: &Instance) -> Response<Body> {
        let crons = &instance.options().crons;
        let known: Vec<&str> = crons.iter().map(|cron| cron.text()).collect();
        let cron = match (&self.cron, known.as_slice()) {
            (Some(cron), _) => &*cron.text,
            (None, [only]) => only,
            (None, []) => EVERY_MINUTE,
            (None, several) => {
                let several = several.join("\n  ");
                let text = format!(
                    "the site has several crons\n  fix: name one, as ?cron=*+*+*+*+*\n  {several}"
                );
                return *refused(StatusCode::BAD_REQUEST, &text);
            }
        };
        let (status, came) = match instance.run_scheduled(cron, self.time).await {
            CronOutcome::Done { took } => {
                let text = format!("done in {} ms", took.as_millis());
                (StatusCode::OK, text)
            }
            CronOutcome::Failed { why } => {
                let text = format!("failed: {}", harmless(&why, MAX_WHY));
                (StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            // Only the clock leaves runs out.
            CronOutcome::Skipped => (StatusCode::CONFLICT, "left out".to_owned()),
        };
        let mut text = format!("{came}\ncron {cron}, time {}\n", shown(self.time));
        if !known.contains(&cron) {
            text += "`crons` of the configuration does not have this entry, so no clock runs it\n";
        }
        plain(status, text)
    }
}

/// The answer where the site that is named is not there, or has nothing to run.
pub(crate) fn not_found(text: &str) -> Response<Body> {
    *refused(StatusCode::NOT_FOUND, text)
}

fn refused(status: StatusCode, text: &str) -> Box<Response<Body>> {
    Box::new(plain(status, format!("{}\n", harmless(text, MAX_WHY))))
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    own(status, "text/plain; charset=utf-8", text)
}

/// Whether a page of another origin sent it, a link of one included (Fetch Metadata, section 2.4).
fn is_of_another_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let own = headers.get(HOST).map(|host| host.as_bytes());
    let authority = origin.to_str().ok().and_then(|text| text.split_once("://"));
    authority.map(|(_, authority)| authority.as_bytes()) != own
}

/// Milliseconds since 1970.
fn now() -> i64 {
    milliseconds(SystemTime::now()).unwrap_or_default()
}

fn moment(text: &str) -> Option<i64> {
    let time = match text.parse() {
        Ok(number) => Some(number),
        Err(_) => milliseconds(humantime::parse_rfc3339_weak(text).ok()?),
    };
    time.filter(|time: &i64| (-MAX_TIME..=MAX_TIME).contains(time))
}

fn milliseconds(time: SystemTime) -> Option<i64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// A time for people, where there is a text for it.
fn shown(time: i64) -> String {
    let whole = u64::try_from(time).ok();
    let at = whole.and_then(|ms| UNIX_EPOCH.checked_add(std::time::Duration::from_millis(ms)));
    // Beyond the year 9999 there is no such text.
    match at.filter(|_| time < 253_402_300_800_000) {
        Some(at) => humantime::format_rfc3339_millis(at).to_string(),
        None => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, headers: &[(&'static str, &'static str)]) -> Result<Wanted, u16> {
        let mut request = Request::new(());
        *request.uri_mut() = format!("{PATH}?{query}").parse().unwrap();
        assert!(asks_for_run(request.uri()));
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Wanted::read(&request).map_err(|refused| refused.status().as_u16())
    }

    #[test]
    fn parameters_are_read_and_wrong_ones_refused() {
        let wanted = read(
            "cron=*/5+*+*+*+MON&time=2026-11-30T12:00:00Z&instance=jobs",
            &[],
        )
        .unwrap();
        assert_eq!(&*wanted.cron.unwrap().text, "*/5 * * * MON");
        assert_eq!(wanted.time, 1_796_040_000_000);
        assert_eq!(shown(wanted.time), "2026-11-30T12:00:00.000Z");
        assert_eq!(wanted.instance.as_deref(), Some("jobs"));
        assert_eq!(read("time=-5", &[]).unwrap().time, -5);
        assert_eq!(shown(-5), "-5");
        assert!(read("", &[]).unwrap().time > 1_700_000_000_000);
        for query in [
            "cron=x",
            "cron=",
            "time=",
            "time=soon",
            "time=8640000000000001",
            "tiem=5",
        ] {
            assert_eq!(read(query, &[]).err(), Some(400), "{query}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[
                ("origin", "https://stranger.example"),
                ("host", "localhost:8787"),
            ],
            &[("origin", "null"), ("host", "localhost:8787")],
        ] {
            assert_eq!(read("", headers).err(), Some(403), "{headers:?}");
        }
        for headers in [
            &[("sec-fetch-site", "none")][..],
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://localhost:8787"),
            ],
            &[
                ("origin", "http://localhost:8787"),
                ("host", "localhost:8787"),
            ],
            &[("host", "localhost:8787")],
        ] {
            assert!(read("", headers).is_ok(), "{headers:?}");
        }
    }
}
