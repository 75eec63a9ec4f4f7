//! What the pages of a server under development show: how often its code was replaced, and why the latest change is
//! not in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use stockade_transpile::excerpt;
use tokio::sync::watch;

/// Bytes of a file of which a line is shown.
const MAX_SHOWN_FILE: u64 = 4 << 20;

/// Bytes of a message.
const MAX_PROBLEM: usize = 64 << 10;

/// Shared by the server and by what makes its configurations.
pub struct DevelopmentStatus {
    state: watch::Sender<State>,
    /// The files that the site was made of: what stacks call them begins in the folder.
    files: Mutex<(PathBuf, Vec<PathBuf>)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The server's start and the number of reloads: another one after each.
    started: u128,
    reloads: u64,
    problem: Option<Arc<str>>,
    /// There was no code that works since the start.
    never_worked: bool,
}

impl State {
    /// The status as an event for browsers. JSON has no line break in it.
    pub(super) fn event(&self) -> String {
        let data = serde_json::json!({
            "version": format!("{}-{}", self.started, self.reloads),
            "problem": self.problem.as_deref(),
        });
        format!("retry: 500\ndata: {data}\n\n")
    }
}

impl Default for DevelopmentStatus {
    fn default() -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let state = State {
            started: started.map_or(0, |since| since.as_nanos()),
            ..State::default()
        };
        Self {
            state: watch::Sender::new(state),
            files: Mutex::default(),
        }
    }
}

impl DevelopmentStatus {
    /// What was changed is not in use, because of this. `serves` is whether something else is.
    pub fn failed(&self, problem: &str, serves: bool) {
        let mut end = problem.len().min(MAX_PROBLEM);
        while !problem.is_char_boundary(end) {
            end -= 1;
        }
        let problem: Arc<str> = problem.get(..end).unwrap_or_default().into();
        self.state.send_modify(|state| {
            state.problem = Some(problem);
            state.never_worked |= !serves;
        });
    }

    /// The problem is gone: what is in use is what the files say, or will be.
    pub fn mended(&self) {
        self.state
            .send_if_modified(|state| state.problem.take().is_some());
    }

    /// Other code is in use.
    pub(crate) fn reloaded(&self) {
        self.state.send_modify(|state| {
            state.reloads += 1;
            state.problem = None;
            state.never_worked = false;
        });
    }

    /// The files that the site was made of. Stacks name them by their paths in `folder`.
    pub fn set_files(&self, folder: PathBuf, files: Vec<PathBuf>) {
        *self.files.lock() = (folder, files);
    }

    /// Why no request can be answered, if none can.
    pub(super) fn blocked(&self) -> Option<Arc<str>> {
        let state = self.state.borrow();
        state.problem.clone().filter(|_| state.never_worked)
    }

    pub(super) fn follow(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The line at the first place of a stack that lies in a file of the site, with the place.
    pub(super) fn excerpt(&self, stack: &str) -> Option<(String, String)> {
        let (folder, files) = self.files.lock().clone();
        places(stack).find_map(|(name, line, column)| {
            let path = folder.join(name);
            files.contains(&path).then_some(())?;
            let text = read(&path)?;
            Some((
                format!("{name}:{line}:{column}"),
                excerpt(&text, line, column)?,
            ))
        })
    }
}

/// The places of a stack in modules of the guest: name, line, column.
fn places(stack: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    stack.split("guest:///").skip(1).filter_map(|rest| {
        let end = rest.find([')', '\n', ' ']).unwrap_or(rest.len());
        let (rest, column) = rest.get(..end)?.rsplit_once(':')?;
        let (name, line) = rest.rsplit_once(':')?;
        Some((name, line.parse().ok()?, column.parse().ok()?))
    })
}

fn read(path: &Path) -> Option<String> {
    let data = path.metadata().ok()?;
    (data.is_file() && data.len() <= MAX_SHOWN_FILE).then_some(())?;
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_is_of_files_of_the_site_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.ts"), "one\nthrow 1;\n").unwrap();
        std::fs::write(at("secret"), "secret\n").unwrap();
        let status = DevelopmentStatus::default();
        status.set_files(folder.path().to_owned(), vec![at("a.ts")]);
        let stack = format!(
            "Error: x\n    at guest:///secret:1:1\n    at guest:///../../etc/passwd:1:1\n    at guest://{}:1:1\n    at f (guest:///a.ts:2:1)",
            at("secret").display()
        );
        let (place, line) = status.excerpt(&stack).unwrap();
        assert_eq!((&*place, &*line), ("a.ts:2:1", "throw 1;\n^"));
        assert_eq!(status.excerpt("at guest:///secret:1:1"), None);
        assert_eq!(status.excerpt("at guest:///a.ts:x:1 guest:///"), None);
    }
}
