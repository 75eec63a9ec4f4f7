//! What `stockade dev` adds to the server: a configuration that is made instead of read, pages for errors, pages that
//! load again when the code changed, and runs of `scheduled` at request.
//!
//! Invariants:
//! 1. A server without [`ServeOptions::development`](crate::ServeOptions::development) has none of it: what a client
//!    reads of an error is then [`FetchError::public_message`](stockade_instance::FetchError::public_message).
//! 2. Texts of guests reach a page as escaped text, and a browser that shows it runs no script but [`LIVE_SCRIPT`].
//! 3. Of the developer's files a page shows lines of the site's modules, and where the site is a bundle, in whose source map
//!    packages can name other files, of code in the project, and of no other.

mod page;
mod scheduled;
mod status;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use stockade_config::Loaded;
use stockade_http::{Body, BoxError, full_body};
use stockade_instance::FetchError;

pub(crate) use scheduled::{Wanted, asks_for_run, not_found};
pub use status::DevelopmentStatus;

/// Paths below it belong to the server, and no site answers them.
const OWN_PATHS: &str = "/.stockade/dev/";

/// What the element at the end of a page loads.
const LIVE_ELEMENT: &str = "\n<script type=\"module\" src=\"/.stockade/dev/live.js\"></script>\n";

/// Loads the page again when the code changed, and shows why code that was changed is not in use.
const LIVE_SCRIPT: &str = include_str!("live.js");

/// How the configuration of a server is made.
pub struct Development {
    /// Makes it, when the server starts and each time that a file changed. Blocks.
    pub make: Arc<dyn Fn() -> Made + Send + Sync>,
    /// What pages show.
    pub status: Arc<DevelopmentStatus>,
}

/// A configuration that was made, or why there is none.
pub struct Made {
    /// None leaves in use what is. The first one must be there.
    pub loaded: Option<Loaded>,
    /// Files whose changes may change it.
    pub sources: Vec<PathBuf>,
}

/// What a client that asks a site can be shown.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    is_head: bool,
    /// It is a person who reads the answer.
    wants_html: bool,
}

/// The answer in place of a site's, or what to do with the site's.
pub(crate) fn before_site(
    status: &DevelopmentStatus,
    request: &Request<Body>,
) -> Result<Asked, Box<Response<Body>>> {
    let asked = Asked {
        is_head: request.method() == Method::HEAD,
        wants_html: accepts_html(request.headers()),
    };
    let answer = match request.uri().path().strip_prefix(OWN_PATHS) {
        Some("events") => events(status),
        Some("live.js") => own(
            StatusCode::OK,
            "text/javascript; charset=utf-8",
            LIVE_SCRIPT,
        ),
        Some(_) if !asks_for_run(request.uri()) => own(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "404 Not Found\n",
        ),
        _ => match status.blocked() {
            Some(problem) => shown(asked, StatusCode::INTERNAL_SERVER_ERROR, &|html| {
                page::of_problem(&problem, html)
            }),
            None => return Ok(asked),
        },
    };
    Err(Box::new(answer))
}

/// What a site's failure looks like to the site's developer.
pub(crate) fn after_failure(
    status: &DevelopmentStatus,
    asked: Asked,
    error: &FetchError,
) -> Response<Body> {
    shown(asked, error.status(), &|html| {
        page::of_failure(status, error, html)
    })
}

/// Lets a page of the site load again when the code changed.
pub(crate) fn after_answer(asked: Asked, response: &mut Response<Body>) {
    let headers = response.headers();
    let html = headers.get(CONTENT_TYPE).is_some_and(|value| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/html"))
    });
    let whole = response.status() != StatusCode::PARTIAL_CONTENT
        && response.status() != StatusCode::NOT_MODIFIED;
    if !html || !whole || asked.is_head || !asked.wants_html {
        return;
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return;
    }
    response.headers_mut().remove(CONTENT_LENGTH);
    let body = std::mem::replace(response.body_mut(), full_body(Bytes::new()));
    let element = Frame::data(Bytes::from_static(LIVE_ELEMENT.as_bytes()));
    let frames = body.into_data_stream().map(|data| data.map(Frame::data));
    let with_element = frames.chain(stream::once(async move { Ok::<_, BoxError>(element) }));
    *response.body_mut() = StreamBody::new(with_element).boxed_unsync();
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    let mut ranges = accepted.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    ranges.any(|range| {
        let kind = range.split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/html"))
    })
}

fn own(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full_body(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A text as a page for a browser, or as it is for others.
fn shown(asked: Asked, status: StatusCode, text: &dyn Fn(bool) -> String) -> Response<Body> {
    if !asked.wants_html {
        return own(status, "text/plain; charset=utf-8", text(false));
    }
    let mut response = own(status, "text/html; charset=utf-8", text(true));
    response.headers_mut().insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    response
}

/// What changes, as events (HTML Standard, section 9.2) that end with the connection.
fn events(status: &DevelopmentStatus) -> Response<Body> {
    let mut first = true;
    let states = stream::unfold(status.follow(), move |mut states| {
        let was_first = std::mem::replace(&mut first, false);
        async move {
            if !was_first {
                states.changed().await.ok()?;
            }
            let text = states.borrow_and_update().event();
            let frame = Frame::data(Bytes::from(text));
            Some((Ok::<_, BoxError>(frame), states))
        }
    });
    let mut response = own(StatusCode::OK, "text/event-stream", Bytes::new());
    *response.body_mut() = StreamBody::new(states).boxed_unsync();
    response
}

#[cfg(test)]
mod tests {
    use stockade_http::empty_body;
    use stockade_protocol::GuestError;

    use super::*;

    fn asked_by(accept: &str) -> Request<Body> {
        let mut request = Request::new(empty_body());
        if let Ok(value) = HeaderValue::from_str(accept) {
            request.headers_mut().insert(ACCEPT, value);
        }
        request
    }

    async fn text(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn failure_is_a_page_without_elements_of_the_guest() {
        let status = DevelopmentStatus::default();
        let error = FetchError::Threw(GuestError {
            name: "<b>".to_owned(),
            message: "</pre><script>alert(1)</script>&\"'".to_owned(),
            stack: Some("<img src=x onerror=alert(1)>\n    at guest:///a.ts:1:1".to_owned()),
            ..GuestError::default()
        });
        let browser = asked_by("text/html,application/xhtml+xml;q=0.9");
        let asked = before_site(&status, &browser).ok().unwrap();
        let response = after_failure(&status, asked, &error);
        assert_eq!(response.status(), 500);
        let policy = response.headers()[CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let page = text(response).await;
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(!page.contains("<img") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"));
        let asked = before_site(&status, &asked_by("*/*")).ok().unwrap();
        let plain = text(after_failure(&status, asked, &error)).await;
        assert!(plain.contains("    at a.ts:1:1"), "{plain}");
    }

    #[tokio::test]
    async fn page_gets_the_element_and_other_answers_stay() {
        let check = async |accept: &str, kind: &'static str, encoded: bool| {
            let status = DevelopmentStatus::default();
            let asked = before_site(&status, &asked_by(accept)).ok().unwrap();
            let mut response = own(StatusCode::OK, kind, "<p>");
            response.headers_mut().insert(CONTENT_LENGTH, 3.into());
            if encoded {
                let value = HeaderValue::from_static("gzip");
                response.headers_mut().insert(CONTENT_ENCODING, value);
            }
            after_answer(asked, &mut response);
            let length = response.headers().contains_key(CONTENT_LENGTH);
            (text(response).await, length)
        };
        let page = check("text/html", "Text/HTML; charset=utf-8", false).await;
        assert_eq!(page, (format!("<p>{LIVE_ELEMENT}"), false));
        for (accept, kind, encoded) in [
            ("*/*", "text/html", false),
            ("text/html", "text/htmlx", false),
            ("text/html", "text/html", true),
        ] {
            let same = check(accept, kind, encoded).await;
            assert_eq!(same, ("<p>".to_owned(), true), "{accept} {kind}");
        }
    }

    #[tokio::test]
    async fn events_report_each_change_and_requests_wait_for_code() {
        let status = DevelopmentStatus::default();
        status.failed("no </script> code", false);
        let mut request = asked_by("*/*");
        let blocked = *before_site(&status, &request).err().unwrap();
        assert_eq!(blocked.status(), 500);
        assert!(text(blocked).await.contains("no </script> code"));
        *request.uri_mut() = "/.stockade/dev/events".parse().unwrap();
        let events = *before_site(&status, &request).err().unwrap();
        let mut data = events.into_body().into_data_stream();
        let mut next = async || String::from_utf8(data.next().await.unwrap().unwrap().to_vec());
        let first = next().await.unwrap();
        assert!(
            first.contains("\"problem\":\"no </script> code\""),
            "{first}"
        );
        status.reloaded();
        let second = next().await.unwrap();
        assert!(second.contains("\"problem\":null"), "{second}");
        assert_ne!(first, second);
        *request.uri_mut() = "/".parse().unwrap();
        assert!(before_site(&status, &request).is_ok());
    }
}
