//! The keys of one grant: the process that has them, and whose turn it is.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use stockade_config::SecretText;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until};

use super::link::{Broken, Confinement, Link, Outcome};
use super::message::{Failure, Request, Settings, Signature};

/// After a process could not be started: how long calls fail at once.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a process may take to read and unlock the keys.
const OPEN: Duration = Duration::from_secs(30);

/// What the process of a grant gets.
pub(crate) struct Material {
    /// The secret key as armor.
    pub(crate) secret: Option<SecretText>,
    pub(crate) passphrase: Option<SecretText>,
    /// Certificates of recipients and signers.
    pub(crate) recipients: Vec<Vec<u8>>,
    /// Time of one operation.
    pub(crate) time: Duration,
    /// The process ends when it was not used for this long.
    pub(crate) idle: Duration,
    /// Bytes of a result.
    pub(crate) most_result: u64,
    pub(crate) confinement: Confinement,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// The keys cannot be used. The text is for the operator.
    Keys(String),
    /// What the guest gave cannot be used. The text is for the guest.
    Input(String),
    /// The result is too large. The text is for the guest.
    Large(String),
    /// A message cannot be decrypted.
    Decryption,
    /// The operation took longer than this.
    TimedOut(Duration),
    /// The process ended. The text is for the operator.
    Ended(String),
}

/// The keys of one grant. One operation at a time is done with them.
#[derive(Clone)]
pub(crate) struct Keyring {
    inner: Arc<Inner>,
}

struct Inner {
    material: Material,
    /// What the log calls the grant.
    name: String,
    /// Who has it locked, has the turn.
    turn: Arc<Mutex<State>>,
}

/// The process, while there is one.
#[derive(Default)]
struct State {
    link: Option<Link>,
    /// Processes that were started.
    started: u64,
    used: Option<Instant>,
    /// When and why no process could be started last.
    failed: Option<(Instant, KeyError)>,
}

impl Keyring {
    pub(crate) fn new(name: String, material: Material) -> Self {
        Self {
            inner: Arc::new(Inner {
                material,
                name,
                turn: Arc::default(),
            }),
        }
    }

    /// Has the process do something with data. It goes on when nobody waits for it any more, for at most the time of an
    /// operation.
    pub(crate) async fn ask(
        &self,
        request: Request,
        data: Vec<u8>,
    ) -> Result<(Vec<Signature>, Vec<u8>), KeyError> {
        let inner = Arc::clone(&self.inner);
        let turn = Arc::clone(&inner.turn).lock_owned().await;
        let work = tokio::spawn(async move { inner.ask(turn, &request, &data).await });
        match work.await {
            Ok(done) => done,
            Err(error) => Err(KeyError::Ended(error.to_string())),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

impl Inner {
    async fn ask(
        self: &Arc<Self>,
        mut state: OwnedMutexGuard<State>,
        request: &Request,
        data: &[u8],
    ) -> Result<(Vec<Signature>, Vec<u8>), KeyError> {
        if state.link.is_none() {
            self.start(&mut state).await?;
        }
        let Some(link) = &mut state.link else {
            return Err(KeyError::Ended("there is no process".to_owned()));
        };
        let time = self.material.time;
        let outcome = link.ask(request, data, Instant::now() + time).await;
        state.used = Some(Instant::now());
        let error = match outcome {
            Ok(Outcome::Done { signatures, data }) => return Ok((signatures, data)),
            Ok(Outcome::Failed { failure, message }) => return Err(failed(failure, message)),
            Err(Broken::TimedOut) => KeyError::TimedOut(time),
            Err(Broken::Ended(why)) => KeyError::Ended(why),
        };
        // Dropping it kills the process.
        state.link = None;
        tracing::warn!(
            "{}: {error}; the next call starts another process",
            self.name
        );
        Err(error)
    }

    /// Starts a process and gives it the keys.
    async fn start(self: &Arc<Self>, state: &mut State) -> Result<(), KeyError> {
        if let Some((at, why)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(why.clone());
        }
        match self.open().await {
            Ok(link) => {
                state.link = Some(link);
                state.failed = None;
                state.started += 1;
                state.used = Some(Instant::now());
                tokio::spawn(end_when_idle(Arc::downgrade(self), state.started));
                Ok(())
            }
            Err(error) => {
                tracing::warn!("{}: {error}", self.name);
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Link, KeyError> {
        let material = &self.material;
        let link = Link::start(&material.confinement, material.most_result).await;
        let mut link = link.map_err(KeyError::Ended)?;
        let reveal =
            |secret: &Option<SecretText>| secret.as_ref().map_or("", SecretText::reveal).to_owned();
        let open = Request::Open(Settings {
            passphrase: reveal(&material.passphrase),
            recipients: material.recipients.clone(),
            most_result: material.most_result,
        });
        let secret = reveal(&material.secret);
        let opened = link.ask(&open, secret.as_bytes(), Instant::now() + OPEN);
        match opened.await {
            Ok(Outcome::Done { .. }) => Ok(link),
            Ok(Outcome::Failed { message, .. }) => Err(KeyError::Keys(message)),
            Err(Broken::TimedOut) => Err(KeyError::Keys(format!(
                "unlocking secret took longer than {} s",
                OPEN.as_secs()
            ))),
            Err(Broken::Ended(why)) => Err(KeyError::Ended(why)),
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(why) | Self::Input(why) | Self::Large(why) | Self::Ended(why) => {
                f.write_str(why)
            }
            Self::Decryption => f.write_str("the message cannot be decrypted"),
            Self::TimedOut(time) => write!(
                f,
                "an operation took longer than {} ms, which is `time`, and was ended",
                time.as_millis()
            ),
        }
    }
}

fn failed(failure: Failure, message: String) -> KeyError {
    match failure {
        Failure::Grant => KeyError::Keys(message),
        Failure::Input => KeyError::Input(message),
        Failure::Large => KeyError::Large(message),
        Failure::Decryption => KeyError::Decryption,
    }
}

/// Ends the process with this number once nobody used it for a while.
async fn end_when_idle(inner: Weak<Inner>, number: u64) {
    let mut until = Instant::now();
    loop {
        sleep_until(until).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let mut state = inner.turn.lock().await;
        if state.link.is_none() || state.started != number {
            return;
        }
        until = state.used.unwrap_or(until) + inner.material.idle;
        if until <= Instant::now() {
            state.link = None;
            return;
        }
    }
}
