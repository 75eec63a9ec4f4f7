//! Checks the files that a configuration names: whether each exists, and what secrets contain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::diagnostic::shown;
use crate::grants::Grant;
use crate::instance::{Instance, Scaling};
use crate::keys::Expect;
use crate::secret::{SecretRef, SecretSource, SecretText};
use crate::tracing::Tracing;
use crate::tree::{Message, Source, Span, Use};
use crate::units::show_size;
use crate::yaml;

/// The longest secret.
const MAX_SECRET: u64 = 64 << 10;

/// The most bytes of a path of a Unix socket (`sun_path`, unix(7)), without its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Modules that code begins with.
const MODULES: [&str; 8] = ["ts", "js", "mts", "mjs", "cts", "cjs", "tsx", "jsx"];

/// What a folder's own module may be called.
const INDEX: [&str; 5] = [
    "index.ts",
    "index.js",
    "index.tsx",
    "index.jsx",
    "index.mjs",
];

/// The text of a configuration file, within its bounds.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    // The message stands behind the file's name.
    let bytes = read(path, yaml::MAX_YAML_BYTES as u64).map_err(|error| error.alone())?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        format!("the file is not UTF-8: line {line} has a byte that is none of it")
    })
}

/// Why a file's bytes are not to be used.
enum Unreadable {
    Io(std::io::Error),
    Irregular,
    /// Longer than this number of bytes.
    Long(u64),
}

impl Unreadable {
    /// Where the file is named already.
    fn alone(&self) -> String {
        match self {
            Self::Io(error) => format!("cannot read the file: {error}"),
            Self::Irregular => "the file is not a regular file".to_owned(),
            Self::Long(most) => format!("the file is longer than {}", show_size(*most)),
        }
    }

    fn of(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Io(error) => format!("cannot read {path}: {error}"),
            Self::Irregular => format!("{path} is not a regular file"),
            Self::Long(most) => format!("{path} is longer than {}", show_size(*most)),
        }
    }
}

/// A regular file's bytes; a pipe or device is never waited for.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unreadable> {
    let kind = fs::metadata(path).map_err(Unreadable::Io)?;
    if !kind.is_file() {
        return Err(Unreadable::Irregular);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Unreadable::Io)?;
    let mut file = file.take(most + 1);
    file.read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    if bytes.len() as u64 > most {
        return Err(Unreadable::Long(most));
    }
    Ok(bytes)
}

/// Checks that everything that the file names is there, reads its secrets, and reports what is wrong. Returns the
/// files that secrets were read from.
pub(crate) fn look(
    instances: &mut BTreeMap<String, Instance>,
    tracing: Option<&mut Tracing>,
    control: &Path,
    source: &Source<'_>,
) -> Vec<PathBuf> {
    let uses = source.uses();
    for used in &uses {
        if let Err(message) = there(used) {
            source.error(used.span, &used.path, message);
        }
    }
    for instance in instances.values() {
        if let Some((folder, file)) = (instance.assets.as_ref())
            .and_then(|assets| Some((&assets.folder, assets.fallback.as_ref()?)))
            && folder.is_dir()
            && !folder.join(file).is_file()
        {
            let span = span_of(&uses, folder);
            let what = format!("{} is not there", folder.join(file).display());
            let path = format!("instances.{}.assets.fallback", instance.name);
            source.error(
                span,
                &path,
                Message::allowed(what, "a file in the folder of assets"),
            );
        }
    }
    let socket = control.as_os_str().len();
    if socket > MAX_SOCKET_PATH {
        let what = format!("the path of the control socket has {socket} bytes");
        let allowed = format!("at most {MAX_SOCKET_PATH} bytes, as a path in /run (unix(7))");
        let span = span_of(&uses, control);
        source.error(span, "control", Message::allowed(what, allowed));
    }
    memory(instances, source);
    let mut read = Vec::new();
    let of_tracing = tracing.into_iter();
    for secret in of_tracing.flat_map(|tracing| tracing.headers.values_mut()) {
        if let Some(path) = secret.file() {
            note(path, &mut read);
        }
        fill_in(&secret.source, &mut secret.value, &uses, source);
    }
    for instance in instances.values_mut() {
        let jwt = instance.auth.as_ref().and_then(|auth| auth.jwt.as_ref());
        if let Some(jwt) = jwt {
            jwt.jwks.iter().for_each(|jwks| note(jwks, &mut read));
        }
        for secret in instance.secrets.values_mut() {
            if let SecretSource::File(path) = &secret.source {
                note(path, &mut read);
            }
            fill_in(&secret.source, &mut secret.value, &uses, source);
        }
        let of_grants = instance.grants.values_mut().flat_map(Grant::secrets);
        let of_rules = (instance.data_guard.secrets()).chain(instance.sockets.secrets());
        for secret in of_grants.chain(of_rules) {
            if let Some(path) = secret.file() {
                note(path, &mut read);
            }
            fill_in(&secret.source, &mut secret.value, &uses, source);
        }
    }
    read
}

/// Adds a path to those that were read.
fn note(path: &Path, read: &mut Vec<PathBuf>) {
    if !read.iter().any(|known| known == path) {
        read.push(path.to_owned());
    }
}

/// Checks that everything that a program's grants or rules name is there, reads their secrets, and reports what is wrong.
pub(crate) fn look_at_secrets<'a>(
    secrets: impl Iterator<Item = &'a mut SecretRef>,
    source: &Source<'_>,
) {
    let uses = source.uses();
    for used in &uses {
        if let Err(message) = there(used) {
            source.error(used.span, &used.path, message);
        }
    }
    for SecretRef {
        source: from,
        value,
    } in secrets
    {
        fill_in(from, value, &uses, source);
    }
}

fn span_of(uses: &[Use], path: &Path) -> Span {
    uses.iter()
        .find(|used| used.subject == path)
        .map_or(Span::default(), |used| used.span)
}

/// Whether what is named is there.
fn there(used: &Use) -> Result<(), Message> {
    let path = &used.subject;
    let shown_path = shown(&path.display().to_string());
    let missing = |what: &str, error: std::io::Error| {
        Message::allowed(format!("{shown_path}: {error}"), what)
    };
    match used.expect {
        // Its value is read, and missed, where secrets are filled in.
        Expect::Secret | Expect::Variable => Ok(()),
        Expect::File => {
            let kind = fs::metadata(path).map_err(|e| missing("a file that can be read", e))?;
            if !kind.is_file() {
                let what = format!("{shown_path} is not a regular file");
                return Err(Message::allowed(what, "a file that can be read"));
            }
            File::open(path)
                .map(drop)
                .map_err(|e| missing("a file that can be read", e))
        }
        Expect::Folder => {
            let kind = fs::metadata(path).map_err(|e| missing("a folder", e))?;
            if kind.is_dir() {
                Ok(())
            } else {
                Err(Message::allowed(
                    format!("{shown_path} is not a folder"),
                    "a folder",
                ))
            }
        }
        Expect::Code => code(path),
        Expect::Parent => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let kind =
                fs::metadata(parent).map_err(|e| missing("a path in a folder that is there", e))?;
            if kind.is_dir() {
                Ok(())
            } else {
                let what = format!("{} is not a folder", shown(&parent.display().to_string()));
                Err(Message::allowed(what, "a path in a folder"))
            }
        }
    }
}

fn code(path: &Path) -> Result<(), Message> {
    let allowed = "a module (.ts, .js, .mts, .mjs, .tsx, .jsx), or a folder with index.ts, index.js, \
                   index.tsx, index.jsx or index.mjs in it";
    let shown_path = shown(&path.display().to_string());
    let kind = fs::metadata(path)
        .map_err(|error| Message::allowed(format!("{shown_path}: {error}"), allowed))?;
    if kind.is_dir() {
        if INDEX.iter().any(|name| path.join(name).is_file()) {
            return Ok(());
        }
        let what = format!("the folder {shown_path} has no module to begin with");
        return Err(Message::allowed(what, allowed));
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    if !kind.is_file() || !MODULES.contains(&extension.as_str()) {
        return Err(Message::allowed(
            format!("{shown_path} is not a module"),
            allowed,
        ));
    }
    File::open(path)
        .map(drop)
        .map_err(|error| Message::allowed(format!("{shown_path}: {error}"), allowed))
}

fn fill_in(
    from: &SecretSource,
    filled: &mut Option<SecretText>,
    uses: &[Use],
    source: &Source<'_>,
) {
    let (subject, value) = match from {
        SecretSource::Given => return,
        SecretSource::File(path) => (path.clone(), secret_file(path)),
        SecretSource::Variable(name) => {
            let value = std::env::var(name)
                .map_err(|error| format!("the environment variable {name}: {error}"));
            (PathBuf::from(name), value)
        }
    };
    let value = value.and_then(|value| {
        let wrong = value.is_empty() || value.contains('\0');
        let why = || "the secret is empty, or has a zero byte in it".to_owned();
        if wrong { Err(why()) } else { Ok(value) }
    });
    match value {
        Ok(value) => *filled = Some(SecretText::new(value)),
        Err(why) => {
            let used = uses.iter().find(|used| used.subject == subject);
            let (span, path) = used.map_or((Span::default(), ""), |used| (used.span, &used.path));
            let allowed = "text of 1 byte to 64 KiB";
            source.error(span, path, Message::allowed(why, allowed));
        }
    }
}

fn secret_file(path: &Path) -> Result<String, String> {
    // The message must not show any of the secret.
    let bytes = read(path, MAX_SECRET).map_err(|error| error.of(path))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Whether all mirrors together may use more memory than the machine has (proc_meminfo(5)).
fn memory(instances: &BTreeMap<String, Instance>, source: &Source<'_>) {
    let Some(total) = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        kib.checked_mul(1024)
    }) else {
        return;
    };
    let sum: u64 = instances
        .values()
        .filter(|instance| instance.code.is_some())
        .map(|instance| {
            let mirrors = match &instance.scaling {
                Scaling::Fixed(mirrors) => *mirrors,
                Scaling::Auto(auto) => auto.max,
            };
            instance.limits.memory.saturating_mul(mirrors as u64)
        })
        .fold(0, u64::saturating_add);
    if sum > total {
        let show = |bytes: u64| format!("{} MiB", bytes >> 20);
        let what = format!(
            "all mirrors at their limits would use {} of memory; this machine has {}",
            show(sum),
            show(total)
        );
        let allowed = "smaller limits.memory, fewer mirrors, or trust that not all use it at once";
        source.warning(Span::default(), "", Message::allowed(what, allowed));
    }
}
