//! Whether what was seen is what must be.

use std::time::Duration;

use stockade_jail::{CODE_RANGE, Denial, Exit, ExitStatus, Level, OVERHEAD, Wx};

use crate::attack::Expect;
use crate::outcome::Outcome;
use crate::worker::THREADS;

/// How long the report of a kill may take, on a machine that is busy with other tests.
const KILL: Duration = Duration::from_millis(500);
/// Bytes of stack that the kernel counts for each thread.
const STACK: u64 = 8 << 20;
/// Bytes of page tables for all addresses that a worker may reserve.
const TABLES: u64 = 640 << 20;
/// Pages of the program, which count as resident and are shared.
const SHARED: u64 = 128 << 20;

/// What was seen of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What the worker says.
    pub(crate) outcome: Option<Outcome>,
    /// Whether it still answered afterwards.
    pub(crate) went_on: bool,
    /// What is on record.
    pub(crate) denial: Option<Denial>,
    /// How it ended, if it did so by itself or had to be killed.
    pub(crate) exit: Option<Exit>,
    /// What happened before it was killed and should not have.
    pub(crate) exit_before_kill: Option<String>,
    /// How long its end took once it was killed.
    pub(crate) killed_in: Option<Duration>,
    /// Its descriptors, if the kernel reports them.
    pub(crate) descriptors: Option<Vec<i32>>,
    /// The rights of each of its mappings, such as `rw-p`, if the kernel reports them.
    pub(crate) mappings: Option<Vec<String>>,
    /// What the kernel says about it, `/proc/<pid>/status`.
    pub(crate) status: String,
    /// Why there is nothing to judge by.
    pub(crate) trouble: Option<String>,
}

impl Seen {
    /// Inspects a live worker from outside.
    pub(crate) fn look(&mut self, pid: i32) {
        self.descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()
            .map(|entries| {
                let mut all: Vec<i32> = entries
                    .flatten()
                    .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                    .collect();
                all.sort_unstable();
                all
            });
        self.mappings = std::fs::read_to_string(format!("/proc/{pid}/maps"))
            .ok()
            .map(|maps| {
                maps.lines()
                    .filter_map(|line| line.split(' ').nth(1))
                    .map(str::to_owned)
                    .collect()
            });
        self.status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    }

    /// A field of the kernel's status.
    fn status(&self, field: &str) -> Option<&str> {
        let of_field = |line| str::strip_prefix(line, field)?.strip_prefix(':');
        self.status.lines().find_map(of_field).map(str::trim)
    }

    /// Bytes of its page tables.
    fn page_tables(&self) -> u64 {
        let kib = self
            .status("VmPTE")
            .and_then(|size| size.strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    }

    /// Whether none of its mappings has all of these rights.
    fn no_mapping(&self, rights: &[char]) -> bool {
        // not for everybody to see: a worker's owner may differ from its supervisor's
        self.mappings.as_ref().is_none_or(|all| {
            !all.iter()
                .any(|mapping| rights.iter().all(|right| mapping.contains(*right)))
        })
    }

    fn has_no_rights(&self) -> bool {
        let none = |set: &&str| self.status(set) == Some("0000000000000000");
        ["CapInh", "CapPrm", "CapEff", "CapAmb"].iter().all(none)
            // who is not root cannot empty it, and no_new_privs makes it mean nothing
            && (none(&"CapBnd") || !rustix::process::geteuid().is_root())
            && self.status("NoNewPrivs") == Some("1")
            && self.status("Seccomp") == Some("2")
            // who is not root cannot leave groups: Landlock and seccomp make them mean nothing
            && (self.status("Groups") == Some("") || !rustix::process::geteuid().is_root())
            && !self
                .status("Uid")
                .unwrap_or("0")
                .split_whitespace()
                .any(|id| id == "0")
    }

    fn story(&self) -> String {
        let mut story = Vec::new();
        if let Some(outcome) = &self.outcome {
            story.push(format!("the worker says {outcome:?}"));
        }
        if let Some(denial) = &self.denial {
            story.push(format!("on record: {denial}"));
        }
        if let Some(exit) = &self.exit {
            story.push(format!("it ended with {:?}", exit.status));
        }
        story.extend(self.exit_before_kill.clone());
        story.extend(self.trouble.clone());
        if self.went_on {
            story.push("it goes on".to_owned());
        }
        if story.is_empty() {
            "nothing was seen".to_owned()
        } else {
            story.join(", ")
        }
    }
}

/// The required result at this level.
pub(crate) fn resolve(expect: &'static Expect, level: Level, wx: Wx) -> &'static Expect {
    match expect {
        Expect::ByWx { jit, strict } => {
            resolve(if wx == Wx::Strict { strict } else { jit }, level, wx)
        }
        Expect::ByLevel { process, container } => resolve(
            if level == Level::Container {
                container
            } else {
                process
            },
            level,
            wx,
        ),
        other => other,
    }
}

/// Why nothing can be said about an attempt: a seccomp filter around this whole program, such as a container
/// engine's, returned an error from the call. The kernel lets such a filter answer before a worker's own, so that the
/// worker's own cannot be seen to work; the call was made by nobody.
pub(crate) fn answered_by_surroundings(expect: &Expect, seen: &Seen, filtered: bool) -> bool {
    let refused = [libc::EPERM, libc::ENOSYS].map(Outcome::Refused);
    filtered
        && matches!(expect, Expect::Denied(_))
        && seen.went_on
        && seen.denial.is_none()
        && seen
            .outcome
            .as_ref()
            .is_some_and(|outcome| refused.contains(outcome))
}

/// Whether a seccomp filter confines this program itself.
pub(crate) fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
}

/// Says why what was seen is not what must be.
pub(crate) fn judge(expect: &Expect, seen: &Seen, memory: u64) -> Result<(), String> {
    if is_met(expect, seen, memory) {
        Ok(())
    } else {
        Err(format!("must be {expect:?}; {}", seen.story()))
    }
}

fn is_met(expect: &Expect, seen: &Seen, memory: u64) -> bool {
    let status = seen.exit.map(|exit| exit.status);
    let on_record = seen.denial.as_ref();
    let unnoticed = on_record.is_none() && seen.trouble.is_none();
    match expect {
        Expect::Denied(name) => {
            // the kernel and the supervisor both say so, and the call never came back
            on_record.is_some_and(|denial| denial.syscall == *name)
                && seen.outcome.is_none()
                && status == Some(ExitStatus::Signaled(libc::SIGKILL))
        }
        Expect::Refused(errors) => {
            let refused = |outcome: &Outcome| match outcome {
                Outcome::Refused(errno) => errors.contains(errno),
                _ => false,
            };
            seen.outcome.as_ref().is_some_and(refused) && seen.went_on && unnoticed
        }
        Expect::Clean => seen.outcome == Some(Outcome::Clean) && seen.went_on && unnoticed,
        Expect::Descriptors(all) => {
            seen.went_on && seen.descriptors.as_ref().is_none_or(|seen| seen == all)
        }
        Expect::NothingShared => seen.went_on && seen.no_mapping(&['w', 's']),
        Expect::NoWritableCode => seen.went_on && seen.no_mapping(&['w', 'x']),
        Expect::NoRights => seen.went_on && seen.has_no_rights(),
        Expect::Signaled(signals) => {
            let by_signal = |status| match status {
                ExitStatus::Signaled(signal) => signals.contains(&signal),
                ExitStatus::Exited(_) => false,
            };
            status.is_some_and(by_signal) && seen.outcome.is_none() && unnoticed
        }
        Expect::Exited(code) => {
            status == Some(ExitStatus::Exited(*code)) && seen.outcome.is_none() && unnoticed
        }
        Expect::WithinMemory => unnoticed && stayed_within(seen, memory),
        Expect::KilledInTime => {
            seen.outcome.is_none()
                && seen.exit_before_kill.is_none()
                && status == Some(ExitStatus::Signaled(libc::SIGKILL))
                && seen.killed_in.is_some_and(|time| time <= KILL)
                && unnoticed
        }
        Expect::AnyOf(all) => all.iter().any(|expect| is_met(expect, seen, memory)),
        Expect::ByWx { .. } | Expect::ByLevel { .. } | Expect::GivenUp(_) => false,
    }
}

/// Whether it got no more than its limit allows, be it refused or ended.
fn stayed_within(seen: &Seen, memory: u64) -> bool {
    let limit = memory + OVERHEAD + CODE_RANGE as u64 + u64::from(THREADS) * STACK;
    let tables = seen.page_tables() <= TABLES;
    match (&seen.outcome, seen.exit) {
        (Some(Outcome::Refused(errno)), _) => *errno == libc::ENOMEM && seen.went_on && tables,
        (Some(_), _) | (None, None) => false,
        (None, Some(exit)) => exit.max_rss <= limit + SHARED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 64 << 20;

    fn denial(syscall: &str) -> Option<Denial> {
        Some(Denial {
            syscall: syscall.to_owned(),
            number: 1,
            args: [0; 6],
            thread: 1,
        })
    }

    fn exit(status: ExitStatus, max_rss: u64) -> Option<Exit> {
        Some(Exit {
            status,
            max_rss,
            cpu: Duration::ZERO,
            oom_killed: false,
        })
    }

    #[test]
    fn denied_needs_record_and_kill_and_no_answer() {
        let killed = exit(ExitStatus::Signaled(libc::SIGKILL), 0);
        let seen = |outcome, denial, exit| Seen {
            outcome,
            denial,
            exit,
            ..Seen::default()
        };
        let expect = Expect::Denied("openat");
        judge(&expect, &seen(None, denial("openat"), killed), MEMORY).unwrap();
        judge(&expect, &seen(None, denial("open"), killed), MEMORY).unwrap_err();
        judge(&expect, &seen(None, None, killed), MEMORY).unwrap_err();
        judge(&expect, &seen(None, denial("openat"), None), MEMORY).unwrap_err();
        let allowed = Some(Outcome::Allowed(5));
        judge(&expect, &seen(allowed, denial("openat"), killed), MEMORY).unwrap_err();
    }

    #[test]
    fn refused_needs_the_error_and_a_worker_that_goes_on() {
        let seen = |errno, went_on| Seen {
            outcome: Some(Outcome::Refused(errno)),
            went_on,
            ..Seen::default()
        };
        let expect = Expect::Refused(&[libc::ENOSYS]);
        judge(&expect, &seen(libc::ENOSYS, true), MEMORY).unwrap();
        judge(&expect, &seen(libc::ENOSYS, false), MEMORY).unwrap_err();
        judge(&expect, &seen(libc::EPERM, true), MEMORY).unwrap_err();
    }

    #[test]
    fn memory_counts_answers_resident_set_and_page_tables() {
        let within = |seen: &Seen| judge(&Expect::WithinMemory, seen, MEMORY);
        let refused = |status: &str| Seen {
            outcome: Some(Outcome::Refused(libc::ENOMEM)),
            went_on: true,
            status: status.to_owned(),
            ..Seen::default()
        };
        within(&refused("VmPTE:\t    2048 kB\n")).unwrap();
        within(&refused("VmPTE:\t  999999 kB\n")).unwrap_err();
        let ended = |max_rss| Seen {
            exit: exit(ExitStatus::Signaled(libc::SIGABRT), max_rss),
            ..Seen::default()
        };
        within(&ended(100 << 20)).unwrap();
        within(&ended(1 << 30)).unwrap_err();
        let got_it = Seen {
            outcome: Some(Outcome::Allowed(1)),
            went_on: true,
            ..Seen::default()
        };
        within(&got_it).unwrap_err();
    }

    #[test]
    fn rights_are_read_from_the_kernels_status() {
        let status = "Uid:\t1000\t1000\t1000\t1000\nGroups:\t \nCapInh:\t0000000000000000\n\
            CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
            CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let seen = |status: String| Seen {
            went_on: true,
            status,
            ..Seen::default()
        };
        judge(&Expect::NoRights, &seen(status.to_owned()), MEMORY).unwrap();
        for (from, to) in [
            ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000400"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("\t1000\n", "\t0\n"),
        ] {
            judge(&Expect::NoRights, &seen(status.replace(from, to)), MEMORY).unwrap_err();
        }
    }

    #[test]
    fn a_filter_around_the_program_leaves_open_what_it_answers() {
        let denied = Expect::Denied("bpf");
        let refused = |errno| Seen {
            outcome: Some(Outcome::Refused(errno)),
            went_on: true,
            ..Seen::default()
        };
        assert!(answered_by_surroundings(
            &denied,
            &refused(libc::EPERM),
            true
        ));
        assert!(answered_by_surroundings(
            &denied,
            &refused(libc::ENOSYS),
            true
        ));
        // an error that only the call itself returns, and a call that nobody stopped
        assert!(!answered_by_surroundings(
            &denied,
            &refused(libc::EBADF),
            true
        ));
        assert!(!answered_by_surroundings(
            &denied,
            &refused(libc::EPERM),
            false
        ));
        let worked = Seen {
            outcome: Some(Outcome::Works),
            went_on: true,
            ..Seen::default()
        };
        assert!(!answered_by_surroundings(&denied, &worked, true));
    }
}
