//! The log as it is written, and what happens, as server-sent events.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream::{Stream, unfold};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, Interval};
use tracing::Level;
use utoipa::IntoParams;

use crate::admin::Admin;
use crate::admin::extract::Query;
use crate::admin::problem::ApiError;
use crate::log::{Follower, RecentLine};

/// Streams at the same time, of all clients together: half of what the control socket takes, so that commands get in.
const MOST_STREAMS: usize = 32;

static STREAMS: Semaphore = Semaphore::const_new(MOST_STREAMS);

/// The life of a stream. A client goes on with another one, from the last id that it got.
const LIFE: Duration = Duration::from_secs(3600);

/// How often a stream without events sends a comment, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events of requests and of guests, which are in the log only.
const IN_LOG_ONLY: [&str; 4] = ["request", "websocket", "console", "log"];

/// Which lines are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The name of an instance.
    instance: Option<String>,
    /// Lines of this level and of more serious ones: `error`, `warn`, `info`, `debug` or `trace`.
    level: Option<String>,
    /// Names of events, with commas between them.
    event: Option<String>,
    /// How many of the last lines come first. The server keeps 4096 lines.
    #[param(minimum = 0, maximum = 4096, default = 0)]
    last: Option<u32>,
    /// Whether the stream goes on with lines as they come.
    #[param(default = true)]
    follow: Option<bool>,
}

/// Follow the log.
///
/// Each event has the number of the line as `id`, and a JSON object as `data`, with the fields that the log has. A client that
/// reads too slowly, and one that comes back with `Last-Event-ID`, gets an event `missed` with the number of `lines` that
/// the server does not keep any more. A stream ends after an hour at the latest.
#[utoipa::path(get, path = "/v1/logs", tag = "logs", params(Wanted),
    responses((status = 200, description = "Lines of the log", content_type = "text/event-stream", body = String)))]
pub(crate) async fn logs(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    follow(&admin, Filter::new(wanted, |_| true)?, &headers)
}

/// Follow what happens to instances and to the server.
///
/// The same as `/v1/logs`, without lines of requests, of consoles, and lines that are for a person only. The field `event` of the
/// data is also the name of the server-sent event.
#[utoipa::path(get, path = "/v1/events", tag = "logs", params(Wanted),
    responses((status = 200, description = "What happens", content_type = "text/event-stream", body = String)))]
pub(crate) async fn events(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let happens = |event: &str| !IN_LOG_ONLY.contains(&event);
    follow(&admin, Filter::new(wanted, happens)?, &headers)
}

/// Which lines are wanted, checked.
struct Filter {
    instance: Option<String>,
    level: Level,
    events: Vec<String>,
    kind: fn(&str) -> bool,
    last: usize,
    follow: bool,
}

#[derive(Deserialize)]
struct OfInstance<'a> {
    #[serde(borrow, default)]
    instance: Option<Cow<'a, str>>,
}

impl Filter {
    fn new(wanted: Wanted, kind: fn(&str) -> bool) -> Result<Self, ApiError> {
        let bad = |what: &str| ApiError::new(StatusCode::BAD_REQUEST, format!("the query: {what}"));
        let level = match wanted.level {
            None => Level::TRACE,
            Some(level) => level
                .parse()
                .map_err(|_| bad("level is error, warn, info, debug or trace"))?,
        };
        let events = wanted.event.iter().flat_map(|names| names.split(','));
        Ok(Self {
            instance: wanted.instance,
            level,
            events: events.map(str::to_owned).collect(),
            kind,
            last: wanted.last.unwrap_or(0) as usize,
            follow: wanted.follow.unwrap_or(true),
        })
    }

    fn wants(&self, line: &RecentLine) -> bool {
        let named = |name: &String| name == line.event;
        line.level <= self.level
            && (self.kind)(line.event)
            && (self.events.is_empty() || self.events.iter().any(named))
            && self.instance.as_ref().is_none_or(|wanted| {
                // Lines are the server's own JSON.
                let of = serde_json::from_str::<OfInstance<'_>>(&line.json).ok();
                of.and_then(|of| of.instance).as_deref() == Some(wanted)
            })
    }
}

fn follow(
    admin: &Admin,
    filter: Filter,
    headers: &HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let place = STREAMS.try_acquire().map_err(|_| {
        let what = format!("{MOST_STREAMS} streams of the log are open, and that is the limit");
        ApiError::unavailable(what).retry_after(KEEP_ALIVE)
    })?;
    let recent = admin.logs.log.recent();
    let resumed = headers.get("last-event-id");
    let resumed = resumed.and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let mut waiting = VecDeque::new();
    let follower = match resumed {
        Some(id) => recent.follow(Some(id)),
        None => {
            let mut follower = recent.follow(Some(0));
            // All that are kept, of which the last are wanted.
            while let Some(lines) = follower.ready() {
                for line in lines.lines.into_iter().filter(|line| filter.wants(line)) {
                    waiting.push_back(Item::Line(line));
                    if waiting.len() > filter.last {
                        waiting.pop_front();
                    }
                }
            }
            follower
        }
    };
    let mut alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stream = LogStream {
        follower,
        filter,
        waiting,
        alive,
        ends: Instant::now() + LIFE,
        _place: place,
    };
    Ok(Sse::new(unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok(event), stream))
    })))
}

/// What is sent.
enum Item {
    Line(Arc<RecentLine>),
    Missed(u64),
}

/// One client's stream. It is polled when the client can take more: what a slow client does not take stays in the ring.
struct LogStream {
    follower: Follower,
    filter: Filter,
    waiting: VecDeque<Item>,
    alive: Interval,
    ends: Instant,
    _place: SemaphorePermit<'static>,
}

impl LogStream {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Some(event(&item));
            }
            let lines = if self.filter.follow {
                tokio::select! {
                    lines = self.follower.next() => lines,
                    _ = self.alive.tick() => return Some(Event::default().comment("")),
                    () = tokio::time::sleep_until(self.ends) => return None,
                }
            } else {
                self.follower.ready()?
            };
            if lines.missed > 0 {
                self.waiting.push_back(Item::Missed(lines.missed));
            }
            let lines = lines.lines.into_iter();
            let wanted = lines.filter(|line| self.filter.wants(line));
            self.waiting.extend(wanted.map(Item::Line));
        }
    }
}

fn event(item: &Item) -> Event {
    match item {
        Item::Line(line) => {
            let event = Event::default().id(line.number.to_string());
            event.event(line.event).data(&*line.json)
        }
        Item::Missed(lines) => Event::default()
            .event("missed")
            .data(format!("{{\"lines\":{lines}}}")),
    }
}
