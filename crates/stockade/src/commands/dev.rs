//! `stockade dev`: one site on this machine, while it is written.

use std::fs::Permissions;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use parking_lot::Mutex;
use stockade_project::{
    LocalCertificate, MakeOptions, Note, Project, end_bundlers, local_certificate,
};
use stockade_protocol::harmless;
use stockade_serve::{Development, DevelopmentStatus, Made, ServeError, ServeOptions};

use super::guest::{Level, Refusal, interrupted};
use super::{exit, output};

pub(crate) const DEV_EXAMPLES: &str = "\
Examples:
  stockade dev                           the site in this folder, at http://localhost:8787/
  stockade dev site.ts                   one file; no configuration is needed
  stockade dev public                    a folder with an index.html
  stockade dev wrangler.toml             what a file of wrangler says
  stockade dev --tls --port 8443         https://localhost:8443/
  stockade dev --allow-fetch api.example.com

The settings are those of stockade.yaml or of a wrangler file in the folder of the project, if there is one. Code that \
imports packages is bundled by the esbuild of the project or in PATH. When a file changes, its code is replaced and pages \
in browsers load again; code with errors is not taken, and what was in use before goes on. A request for \
/.stockade/dev/scheduled?cron=*+*+*+*+* runs the handler `scheduled`.

Exit codes: 1 it could not start, 2 bad usage, 130 Ctrl-C, 143 SIGTERM.";

/// Where it listens unless the command line says otherwise, and how many ports after that are tried.
const PORT: u16 = 8787;
const PORTS: u16 = 20;

/// Bytes of a message for the terminal.
const MAX_MESSAGE: usize = 16 << 10;

#[derive(Args)]
pub(crate) struct DevArgs {
    /// A module, a folder, a stockade.yaml or a wrangler file
    #[arg(default_value = ".")]
    path: PathBuf,

    /// The port; 0 lets the system choose [default: 8787, or the next one that is free]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Serve HTTPS, with a certificate for localhost that is made once
    #[arg(long)]
    tls: bool,

    /// The level of isolation [default: that of the configuration, or container]
    #[arg(long, value_name = "LEVEL", value_enum)]
    isolation: Option<Level>,

    /// Let fetch of the site reach a host, in the words of `stockade exec`; may be given more than once
    #[arg(long, value_name = "HOST")]
    allow_fetch: Vec<String>,

    /// The folder in which state is kept [default: .stockade in the project]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Stop when standard input ends: for a program that starts this one
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}

/// Runs the command and gives the exit code.
pub(crate) fn dev(args: &DevArgs) -> Result<i32, Refusal> {
    // 1. The project, an address, and a folder for what is made.
    let project = Project::find(&args.path);
    let project = project.map_err(|error| Refusal(error.to_string(), exit::USAGE))?;
    let tls = args.tls.then(local_certificate).transpose();
    let tls = tls.map_err(|error| failed(&error))?;
    let port = port(args.port)?;
    // The folder is private, and removed at the end.
    let private = Permissions::from_mode(0o700);
    let work = tempfile::Builder::new()
        .prefix("stockade-dev-")
        .permissions(private)
        .tempdir();
    let work = work.map_err(|error| failed(&format!("cannot make a temporary folder: {error}")))?;
    if let Some(certificate) = &tls {
        say_trust(certificate);
    }

    // 2. A server that makes its configuration from the project whenever that changes.
    let status = Arc::new(DevelopmentStatus::default());
    let shown = project.shown.clone();
    let maker = Maker {
        project,
        options: MakeOptions {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            tls,
            isolation: args.isolation.map(Level::isolation),
            allow_fetch: args.allow_fetch.clone(),
            work: work.path().to_owned(),
            data: args.data.clone(),
        },
        status: Arc::clone(&status),
        has_started: AtomicBool::new(false),
        has_worked: AtomicBool::new(false),
        notes: Mutex::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    // What still runs at the end goes on until the process is gone: to drop it would be reported as crashes.
    let runtime = ManuallyDrop::new(runtime);
    let options = ServeOptions {
        config: shown,
        backends: stockade::worker_backends_driven_by(runtime.handle()),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        say: output::say,
        v8: stockade::V8_VERSION,
        development: Some(Development {
            make: Arc::new(move || maker.make()),
            status,
        }),
    };

    // 3. It serves until a signal, or the end of standard input.
    let ended = runtime.block_on(async {
        let asked = interrupted().map_err(|error| failed(&error))?;
        let input_ends = args.until_input_ends;
        tokio::select! {
            biased;
            code = asked => Ok(code),
            () = input_ended(), if input_ends => Ok(exit::DONE),
            served = stockade_serve::serve(options) => match served {
                // Only a signal stops it, which has a code of its own.
                Ok(_) => Ok(exit::DONE),
                Err(error) => Err(refusal(&error)),
            },
        }
    });
    end_bundlers();
    ended
}

fn refusal(error: &ServeError) -> Refusal {
    let code = match error {
        ServeError::Config(_) | ServeError::Routes(_) => exit::USAGE,
        _ => exit::FAILED,
    };
    Refusal(error.to_string(), code)
}

/// The port that was asked for, or a free one.
fn port(asked: Option<u16>) -> Result<u16, Refusal> {
    if let Some(port) = asked {
        return Ok(port);
    }
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let Some(port) = (PORT..PORT + PORTS).find(is_free) else {
        let last = PORT + PORTS - 1;
        let message = format!("no port from {PORT} to {last} is free\n  fix: name one with --port");
        return Err(Refusal(message, exit::FAILED));
    };
    if port != PORT {
        output::say(&format!("port {PORT} is in use, {port} is free"));
    }
    Ok(port)
}

/// How the certificate becomes one that clients trust.
fn say_trust(certificate: &LocalCertificate) {
    let path = certificate.certificate.display();
    if !certificate.is_new {
        output::say(&format!("certificate {path}"));
        return;
    }
    output::say(&format!(
        "a certificate for localhost was made: {path}\n  \
         curl: --cacert {path}\n  \
         Node: NODE_EXTRA_CA_CERTS={path}\n  \
         Chrome: certutil -d sql:$HOME/.pki/nssdb -A -t P,, -n 'stockade dev' -i {path}\n  \
         Firefox: open the page and accept the certificate once\n  \
         Debian: sudo cp {path} /usr/local/share/ca-certificates/stockade-dev.crt && sudo update-ca-certificates"
    ));
}

/// Done when standard input ends.
async fn input_ended() {
    let (done, ended) = tokio::sync::oneshot::channel();
    // A thread of its own: reading cannot be given up.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = done.send(());
    });
    let _ = ended.await;
}

/// Makes configurations, and says what is wrong with those that cannot be made.
struct Maker {
    project: Project,
    options: MakeOptions,
    status: Arc<DevelopmentStatus>,
    has_started: AtomicBool,
    has_worked: AtomicBool,
    /// The notes that were said last.
    notes: Mutex<Vec<Note>>,
}

impl Maker {
    fn make(&self) -> Made {
        let is_first = !self.has_started.swap(true, Ordering::Relaxed);
        match self.project.prepare(&self.options) {
            Ok(prepared) => {
                self.has_worked.store(true, Ordering::Relaxed);
                self.say_notes(prepared.notes);
                let (folder, files) = prepared.files;
                self.status.set_files(folder, files);
                self.status.mended();
                Made {
                    loaded: Some(prepared.loaded),
                    sources: prepared.sources,
                }
            }
            Err(problem) => {
                output::complain(&harmless(&problem.text, MAX_MESSAGE));
                let serves = self.has_worked.load(Ordering::Relaxed);
                self.status.failed(&problem.text, serves);
                let waiting = is_first.then(|| self.project.waiting(&self.options));
                let loaded = match waiting {
                    Some(Err(why)) => {
                        output::complain(&harmless(&why, MAX_MESSAGE));
                        None
                    }
                    Some(Ok(loaded)) => Some(loaded),
                    None => None,
                };
                Made {
                    loaded,
                    sources: problem.sources,
                }
            }
        }
    }

    /// What of a wrangler file has no effect, when that has changed.
    fn say_notes(&self, notes: Vec<Note>) {
        let mut said = self.notes.lock();
        if *said == notes {
            return;
        }
        let missing = notes.iter().filter(|note| note.is_missing);
        for note in missing {
            output::say(&harmless(&format!("  not here: {note}"), MAX_MESSAGE));
        }
        *said = notes;
    }
}
