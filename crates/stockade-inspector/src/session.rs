//! One debugger's connection to one isolate, between its socket and V8.
//!
//! deno_core says nowhere that an isolate is paused; V8 does, to the debugger: `Debugger.paused` goes
//! out on the isolate's thread just before it waits, `Debugger.resumed` just after. A channel's sender
//! wakes its receiver on the sender's own thread, so a receiver whose waker reads the message at once
//! ([`Passage`]) is notified of both at the right moment and on the right thread.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use deno_core::futures::StreamExt as _;
use deno_core::futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use deno_core::futures::stream::BoxStream;
use deno_core::{
    InspectorMsg, InspectorMsgKind, InspectorSessionChannels, InspectorSessionKind,
    InspectorSessionProxy, JsRuntime,
};
use parking_lot::Mutex;

use crate::waiting::{Closer, MessageReceiver, MessageSender, Overflow, Unanswered, messages};

/// Why a session is over, for a person.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long an isolate waits for a debugger that takes none of its messages. Its clocks stand meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of [`FORGET_CONSOLE`]. Debuggers begin with 1 or 0.
const FORGET_ID: i32 = -1;

/// Has V8 drop the calls of the console, and with them the objects that it keeps for debuggers.
const FORGET_CONSOLE: &str = r#"{"id":-1,"method":"Runtime.discardConsoleEntries"}"#;

/// Receives notices about an isolate's sessions, on the isolate's thread.
pub trait Watcher: Send + Sync {
    /// A debugger begins to hold the isolate (`true`) or lets it go (`false`). Where several debuggers
    /// hold it at once, each pause is reported for each of them.
    fn paused(&self, paused: bool);

    /// A message of this many bytes of memory has left the isolate.
    fn spoke(&self, bytes: usize);
}

/// The connections of debuggers to one isolate.
#[derive(Clone, Default)]
pub struct Debuggers {
    /// What debuggers send goes here; `None` once closed.
    senders: Arc<Mutex<Senders>>,
}

#[derive(Default)]
struct Senders {
    closed: bool,
    open: Vec<OpenSession>,
}

/// What ends a session.
struct OpenSession {
    to_isolate: UnboundedSender<String>,
    /// Where the isolate's thread may wait for the debugger.
    to_debugger: Option<Closer>,
}

impl Debuggers {
    /// Ends all connections for good; an isolate that a debugger holds goes on.
    pub fn close(&self) {
        let open = {
            let mut senders = self.senders.lock();
            senders.closed = true;
            std::mem::take(&mut senders.open)
        };
        for session in open {
            session.to_isolate.close_channel();
            if let Some(closer) = session.to_debugger {
                closer.close();
            }
        }
    }

    /// Whether a debugger has a session.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        let senders = self.senders.lock();
        senders.open.iter().any(|open| !open.to_isolate.is_closed())
    }

    /// Has V8 drop the calls of the console that it keeps for debuggers, with their objects. Debuggers go on showing the
    /// calls, and can no longer look into the objects.
    pub fn forget_console(&self) {
        let senders = self.senders.lock();
        let forget = |open: &OpenSession| open.to_isolate.unbounded_send(FORGET_CONSOLE.to_owned());
        // V8 does it for all sessions.
        let _ = senders.open.iter().any(|open| forget(open).is_ok());
    }

    /// Whether [`Debuggers::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.senders.lock().closed
    }

    /// False if no connection may be made any more.
    fn add(&self, session: OpenSession) -> bool {
        let mut senders = self.senders.lock();
        senders.open.retain(|open| !open.to_isolate.is_closed());
        if senders.closed {
            return false;
        }
        senders.open.push(session);
        true
    }
}

/// The socket's side of a session.
pub struct Session {
    /// What the debugger sends; closed when the debugger is gone.
    pub to_isolate: Arc<CommandSender>,
    /// What the isolate sends; ends when the isolate is gone, and with why the session is over where that is something else.
    pub from_isolate: BoxStream<'static, Result<String, BoxError>>,
}

/// Takes what a debugger sends, as fast as the isolate does.
pub struct CommandSender(CommandWay);

enum CommandWay {
    /// To an isolate that is elsewhere.
    Elsewhere(MessageSender),
    /// To V8, whose own queue has no bound.
    Here {
        sender: UnboundedSender<String>,
        unanswered: Arc<Unanswered>,
    },
}

impl CommandSender {
    /// Waits until the isolate takes a message. False if it takes none any more.
    pub async fn send(&self, text: String) -> bool {
        match &self.0 {
            CommandWay::Elsewhere(sender) => sender.send(text).await,
            CommandWay::Here { sender, unanswered } => {
                unanswered.send(&text).await && sender.unbounded_send(text).is_ok()
            }
        }
    }

    fn close(&self) {
        match &self.0 {
            CommandWay::Elsewhere(sender) => sender.close(),
            CommandWay::Here { sender, unanswered } => {
                leave(sender);
                unanswered.close();
            }
        }
    }
}

impl Session {
    /// With an isolate that is elsewhere: the session, what the debugger sends, and the way for what the isolate sends.
    #[must_use]
    pub fn elsewhere() -> (Self, MessageReceiver, MessageSender) {
        let (to_debugger, from_isolate) = messages();
        let (session, from_debugger) = Self::with(boxed(from_isolate));
        (session, from_debugger, to_debugger)
    }

    /// With an isolate that is elsewhere and whose messages are this stream: the session, and what the debugger sends.
    #[must_use]
    pub fn with(
        from_isolate: BoxStream<'static, Result<String, BoxError>>,
    ) -> (Self, MessageReceiver) {
        let (to_isolate, from_debugger) = messages();
        let session = Self {
            to_isolate: Arc::new(CommandSender(CommandWay::Elsewhere(to_isolate))),
            from_isolate,
        };
        (session, from_debugger)
    }
}

/// An isolate that a debugger can connect to.
pub trait Debuggable: Send + Sync {
    /// Whether it has ended.
    fn is_gone(&self) -> bool;

    /// Connects a debugger; `None` if the isolate has ended or takes no more.
    fn connect(&self) -> Option<Session>;
}

/// Ends a session of [`Entrance::open`]. What the isolate's console showed is forgotten with it.
pub fn leave(to_isolate: &UnboundedSender<String>) {
    // The session or the isolate may have ended.
    let _ = to_isolate.unbounded_send(FORGET_CONSOLE.to_owned());
    to_isolate.close_channel();
}

/// The way into one isolate of this process.
#[derive(Clone)]
pub struct Entrance {
    sessions: UnboundedSender<InspectorSessionProxy>,
    debuggers: Debuggers,
    watcher: Option<Arc<dyn Watcher>>,
}

impl Entrance {
    /// Into an isolate whose runtime was made with an inspector.
    #[must_use]
    pub fn new(
        runtime: &JsRuntime,
        debuggers: Debuggers,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Self {
        Self {
            sessions: runtime.inspector().get_session_sender(),
            debuggers,
            watcher,
        }
    }

    /// Begins a session whose messages go to `out`, on the isolate's thread and at once; `out` is dropped when the session
    /// is over. Gives the way to the isolate, which lets go of the session when that is closed; `None` if the isolate has
    /// ended.
    #[must_use]
    pub fn open(&self, out: impl Fn(String) + Send + 'static) -> Option<UnboundedSender<String>> {
        self.begin(out, None)
    }

    fn begin(
        &self,
        out: impl Fn(String) + Send + 'static,
        to_debugger: Option<Closer>,
    ) -> Option<UnboundedSender<String>> {
        let (to_passage, isolate_out) = unbounded();
        let (to_isolate, isolate_in) = unbounded();
        Passage::begin(isolate_out, Box::new(out), self.watcher.clone());
        let session = OpenSession {
            to_isolate: to_isolate.clone(),
            to_debugger,
        };
        if !self.debuggers.add(session) {
            return None;
        }
        let proxy = InspectorSessionProxy {
            channels: InspectorSessionChannels::Regular {
                tx: to_passage,
                rx: isolate_in,
            },
            kind: InspectorSessionKind::NonBlocking {
                wait_for_disconnect: true,
            },
        };
        self.sessions.unbounded_send(proxy).ok()?;
        Some(to_isolate)
    }
}

impl Debuggable for Entrance {
    fn is_gone(&self) -> bool {
        self.debuggers.is_closed()
    }

    fn connect(&self) -> Option<Session> {
        let (to_socket, from_isolate) = messages();
        let closer = to_socket.closer();
        let unanswered = Arc::<Unanswered>::default();
        let (commands, watcher) = (Arc::clone(&unanswered), self.watcher.clone());
        let out = move |text: String| {
            commands.received(&text);
            // A debugger that reads slowly holds the isolate.
            to_socket.send_blocking(text, PATIENCE, |waits| {
                if let Some(watcher) = &watcher {
                    watcher.paused(waits);
                }
            });
        };
        let sender = self.begin(out, Some(closer))?;
        Some(Session {
            to_isolate: Arc::new(CommandSender(CommandWay::Here { sender, unanswered })),
            from_isolate: boxed(from_isolate),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.to_isolate.close();
    }
}

fn boxed(messages: MessageReceiver) -> BoxStream<'static, Result<String, BoxError>> {
    messages
        .map(|message| message.map_err(Overflow::into))
        .boxed()
}

/// Passes on what an isolate says to a debugger, and notices pauses.
struct Passage {
    state: Mutex<SessionState>,
    watcher: Option<Arc<dyn Watcher>>,
}

/// Where an isolate's messages go.
type Out = Box<dyn Fn(String) + Send>;

struct SessionState {
    from_isolate: UnboundedReceiver<InspectorMsg>,
    /// `None` once the isolate has closed the session.
    out: Option<Out>,
    paused: bool,
}

impl Passage {
    fn begin(
        from_isolate: UnboundedReceiver<InspectorMsg>,
        out: Out,
        watcher: Option<Arc<dyn Watcher>>,
    ) {
        let state = SessionState {
            from_isolate,
            out: Some(out),
            paused: false,
        };
        // From here on the waker within the channel keeps it, until the isolate drops its sender.
        Arc::new(Self {
            state: Mutex::new(state),
            watcher,
        })
        .wake();
    }

    fn set_paused(&self, state: &mut SessionState, paused: bool) {
        if std::mem::replace(&mut state.paused, paused) != paused
            && let Some(watcher) = &self.watcher
        {
            watcher.paused(paused);
        }
    }
}

impl Wake for Passage {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut cx = Context::from_waker(&waker);
        let mut state = self.state.lock();
        loop {
            match state.from_isolate.poll_next_unpin(&mut cx) {
                Poll::Ready(Some(message)) => {
                    if let Some(paused) = pause_in(&message.content) {
                        self.set_paused(&mut state, paused);
                    }
                    if let Some(watcher) = &self.watcher {
                        watcher.spoke(message.content.capacity());
                    }
                    let is_own = matches!(message.kind, InspectorMsgKind::Message(FORGET_ID));
                    if let Some(out) = state.out.as_ref().filter(|_| !is_own) {
                        out(message.content);
                    }
                }
                Poll::Ready(None) => {
                    // V8 has let the isolate go with the session.
                    self.set_paused(&mut state, false);
                    state.out = None;
                    return;
                }
                Poll::Pending => return,
            }
        }
    }
}

/// Whether a message says that the isolate pauses or goes on. V8 puts the method of a notification
/// first, so nothing a guest makes it say can look like this.
fn pause_in(message: &str) -> Option<bool> {
    let method = message.strip_prefix("{\"method\":\"Debugger.")?;
    if method.starts_with("paused\"") {
        Some(true)
    } else if method.starts_with("resumed\"") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deno_core::futures::FutureExt as _;

    fn entrance(
        sessions: UnboundedSender<InspectorSessionProxy>,
        debuggers: Debuggers,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Entrance {
        Entrance {
            sessions,
            debuggers,
            watcher,
        }
    }

    fn message(content: &str) -> InspectorMsg {
        InspectorMsg {
            kind: InspectorMsgKind::Notification,
            content: content.to_owned(),
        }
    }

    /// What was reported, and on which thread.
    #[derive(Default)]
    struct Reported(Mutex<Vec<(bool, std::thread::ThreadId)>>);

    impl Watcher for Reported {
        fn paused(&self, paused: bool) {
            self.0.lock().push((paused, std::thread::current().id()));
        }

        fn spoke(&self, _bytes: usize) {}
    }

    #[test]
    fn session_is_notified_of_pause_at_once_on_isolates_thread() {
        let reported = Arc::new(Reported::default());
        let (isolate, mut sessions) = unbounded();
        let mut session = entrance(isolate, Debuggers::default(), Some(reported.clone()))
            .connect()
            .unwrap();
        let here = std::thread::spawn(move || {
            let proxy = sessions.try_recv().unwrap();
            let InspectorSessionChannels::Regular { tx, .. } = proxy.channels else {
                panic!("a worker's channels");
            };
            tx.unbounded_send(message(r#"{"method":"Debugger.paused","params":{}}"#))
                .unwrap();
            tx.unbounded_send(message(
                r#"{"id":1,"result":"{\"method\":\"Debugger.resumed\"}"}"#,
            ))
            .unwrap();
            // Both were reported in `unbounded_send`; closing ends the pause.
            std::thread::current().id()
        })
        .join()
        .unwrap();
        assert_eq!(*reported.0.lock(), [(true, here), (false, here)]);
        let mut next = || session.from_isolate.next().now_or_never().flatten();
        assert!(next().unwrap().unwrap().contains("paused"));
        assert!(next().unwrap().unwrap().contains("\"id\":1"));
        assert!(next().is_none());
    }

    #[test]
    fn session_that_ends_has_the_console_forgotten_and_its_debugger_does_not_see_it() {
        let debuggers = Debuggers::default();
        assert!(!debuggers.is_attached());
        let (isolate, mut sessions) = unbounded();
        let mut session = entrance(isolate, debuggers.clone(), None)
            .connect()
            .unwrap();
        assert!(debuggers.is_attached());
        let proxy = sessions.try_recv().unwrap();
        let InspectorSessionChannels::Regular { tx, mut rx } = proxy.channels else {
            panic!("a worker's channels");
        };
        debuggers.forget_console();
        assert_eq!(rx.try_recv().unwrap(), FORGET_CONSOLE);
        let answer = |id: i32| InspectorMsg {
            kind: InspectorMsgKind::Message(id),
            content: format!("{{\"id\":{id},\"result\":{{}}}}"),
        };
        for id in [FORGET_ID, 1] {
            tx.unbounded_send(answer(id)).unwrap();
        }
        let next = session.from_isolate.next().now_or_never().flatten();
        assert!(next.unwrap().unwrap().contains("\"id\":1"));
        drop(session);
        assert!(!debuggers.is_attached());
        assert_eq!(rx.try_recv().unwrap(), FORGET_CONSOLE);
        assert!(rx.try_recv().is_err_and(|error| error.is_closed()));
    }

    #[test]
    fn closed_debuggers_end_sessions_and_take_none() {
        let debuggers = Debuggers::default();
        let (isolate, mut sessions) = unbounded();
        let entrance = entrance(isolate, debuggers.clone(), None);
        let session = entrance.connect().unwrap();
        let proxy = sessions.try_recv().unwrap();
        debuggers.close();
        let sent = session.to_isolate.send("{}".to_owned());
        assert_eq!(sent.now_or_never(), Some(false));
        assert!(entrance.is_gone() && entrance.connect().is_none());
        drop(proxy);
    }
}
