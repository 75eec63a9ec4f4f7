//! What was found, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use stockade_jail::Layer;

use super::attack::{Attacked, Outcome};
use super::levels::{Failure, Trial};
use crate::version::{OLD_V8, V8Release};

/// Whether there are colours.
#[derive(Clone, Copy)]
pub(super) struct Style {
    colours: bool,
}

#[derive(Clone, Copy)]
enum Colour {
    Good,
    Bad,
    Middling,
    Heading,
}

impl Style {
    /// Colours on a terminal that has them.
    pub(super) fn of_standard_output() -> Self {
        Self {
            colours: crate::commands::style::wanted(&std::io::stdout()),
        }
    }

    /// The text, filled up to this width.
    fn paint(self, colour: Colour, text: &str, width: usize) -> String {
        let code = match colour {
            Colour::Good => "32",
            Colour::Bad => "1;31",
            Colour::Middling => "33",
            Colour::Heading => "1",
        };
        if self.colours {
            format!("\x1b[{code}m{text:<width$}\x1b[0m")
        } else {
            format!("{text:<width$}")
        }
    }
}

/// The result in one or a few lines, for a reader who reads nothing else.
pub(super) fn summary(trials: &[Trial], attacked: Option<&Attacked>, style: Style) -> String {
    let names = |optional: bool| {
        let bad = trials
            .iter()
            .filter(|trial| !trial.works && trial.optional == optional);
        bad.map(Trial::name).collect::<Vec<_>>()
    };
    let (needed, optional) = (names(false), names(true));
    let mut text = if needed.is_empty() {
        style.paint(Colour::Good, "Every level of isolation works here.", 0)
    } else {
        let count = match needed.len() {
            1 => "A level of isolation does not work here".to_owned(),
            more => format!("{more} levels of isolation do not work here"),
        };
        let summary = format!("{count}: {}.", needed.join("; "));
        style.paint(Colour::Bad, &summary, 0) + " The reasons and fixes are below."
    };
    if !optional.is_empty() {
        let _ = write!(
            text,
            "\n{} {}. Isolates that do not require it run without it.",
            style.paint(Colour::Middling, "Optional, and not available:", 0),
            optional.join("; ")
        );
    }
    if let Some(attacked) = attacked {
        let count = attacked.summary;
        let _ = write!(
            text,
            "\n{}: {} attempts held, {} given up, {} broken.",
            held(attacked, style),
            count.held,
            count.given_up,
            count.broken
        );
    }
    text.push('\n');
    text
}

/// Whether the levels held.
fn held(attacked: &Attacked, style: Style) -> String {
    match attacked.levels_hold() {
        true => style.paint(Colour::Good, "All levels held", 0),
        false if attacked.summary.broken > 0 => style.paint(Colour::Bad, "A LEVEL IS BROKEN", 0),
        false => style.paint(Colour::Middling, "Not every level was attacked", 0),
    }
}

/// Whether a level needs the layer without being asked for by name.
fn is_needed(layer: &Layer) -> bool {
    layer.needed_by.iter().any(|by| by != "cgroup: require")
}

/// Every layer: available, how it was tested, the kernel it needs and what to do otherwise.
pub(super) fn layers(
    layers: &[Layer],
    version: &str,
    v8: &V8Release,
    kernel: &str,
    style: Style,
) -> String {
    let mut text = format!(
        "Stockade {version} on {} {kernel}, {}\n{}\n",
        std::env::consts::OS,
        std::env::consts::ARCH,
        style
            .paint(
                if v8.is_old() {
                    Colour::Middling
                } else {
                    Colour::Good
                },
                &v8.to_string(),
                0
            )
            .trim_end()
    );
    if v8.is_old() {
        for line in OLD_V8.lines() {
            let _ = writeln!(text, "         {line}");
        }
    }
    text.push('\n');
    let names = widest(layers.iter().map(|layer| layer.name.as_str()));
    let kernels = widest(layers.iter().map(|layer| layer.kernel.as_str())).max("kernel".len());
    let heading = format!(
        "{:<7}  {:<names$}  {:<kernels$}  {}",
        "", "layer", "kernel", "needed by"
    );
    let _ = writeln!(
        text,
        "{}",
        style.paint(Colour::Heading, &heading, 0).trim_end()
    );
    for layer in layers {
        let state = match (layer.available, is_needed(layer)) {
            (true, _) => style.paint(Colour::Good, "ok", 7),
            (false, false) => style.paint(Colour::Middling, "absent", 7),
            (false, true) => style.paint(Colour::Bad, "missing", 7),
        };
        let needed_by = match layer.needed_by.is_empty() {
            true => "no level; where it is there, it is used".to_owned(),
            false => layer.needed_by.join(", "),
        };
        let _ = writeln!(
            text,
            "{state}  {:<names$}  {:<kernels$}  {needed_by}",
            layer.name, layer.kernel
        );
        let _ = writeln!(text, "{:9}tested: {}", "", indented(&layer.tested, 11));
        if !layer.fix.is_empty() {
            let _ = writeln!(text, "{:9}fix: {}", "", indented(&layer.fix, 11));
        }
    }
    text
}

/// Every level: whether an isolate runs there, and why not.
pub(super) fn levels(trials: &[Trial], style: Style) -> String {
    let names: Vec<_> = trials.iter().map(Trial::name).collect();
    let width = widest(names.iter().map(String::as_str));
    let heading = format!("{:<7}  {:<width$}  an isolate there", "", "level");
    let mut text = format!("{}\n", style.paint(Colour::Heading, &heading, 0));
    let mut explained: Vec<(&Failure, &String)> = Vec::new();
    for (trial, name) in trials.iter().zip(&names) {
        if let (None, Some(start), Some(evaluate)) =
            (&trial.error, trial.start_ms, trial.evaluate_ms)
        {
            let state = style.paint(Colour::Good, "works", 7);
            let _ = writeln!(
                text,
                "{state}  {name:<width$}  started in {start:.1} ms, evaluated 1+1 in {evaluate:.1} ms"
            );
            continue;
        }
        let colour = match trial.optional {
            true => Colour::Middling,
            false => Colour::Bad,
        };
        let state = style.paint(colour, "refused", 7);
        let missing = match trial.missing.is_empty() {
            true => "failed".to_owned(),
            false => format!("missing: {}", trial.missing.join(", ")),
        };
        let _ = writeln!(text, "{state}  {name:<width$}  {missing}");
        if let Some(error) = &trial.error {
            if let Some((_, first)) = explained.iter().find(|(known, _)| *known == error) {
                let _ = writeln!(text, "{:9}as with {first}", "");
                continue;
            }
            explained.push((error, name));
            let _ = writeln!(text, "{:9}{}", "", indented(&error.what, 11));
            let _ = writeln!(text, "{:11}checked: {}", "", indented(&error.checked, 13));
            let _ = writeln!(text, "{:11}fix: {}", "", indented(&error.fix, 13));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Every level that was attacked, every group of attempts, and what is broken or given up.
pub(super) fn attack(attacked: &Attacked, style: Style) -> String {
    let heading = format!(
        "\n{:<26}{:>6}{:>10}{:>8}",
        "wall", "held", "given up", "broken"
    );
    let mut text = format!("{}\n", style.paint(Colour::Heading, &heading, 0));
    for level in &attacked.levels {
        let name = format!("{}, wx: {}", level.level, level.wx);
        let _ = writeln!(
            text,
            "{name:<26}{:>6}{:>10}{}",
            level.held,
            level.given_up,
            broken(level.broken, style)
        );
        if let Some(error) = &level.error {
            let _ = writeln!(text, "  not all of it: {}", indented(error, 4));
        }
    }
    let heading = format!(
        "\n{:>5}  {:<52}{:>6}{:>10}{:>8}{:>9}",
        "group", "tried", "held", "given up", "broken", "skipped"
    );
    let _ = writeln!(text, "{}", style.paint(Colour::Heading, &heading, 0));
    for (group, count) in attacked.by_group() {
        let _ = writeln!(
            text,
            "{group:>5}  {:<52}{:>6}{:>10}{}{:>9}",
            group_name(group),
            count.held,
            count.given_up,
            broken(count.broken, style),
            count.skipped
        );
    }
    given_up(&mut text, attacked, style);
    failures(&mut text, attacked, style);
    let count = attacked.summary;
    if count.skipped > 0 {
        let _ = writeln!(
            text,
            "\nSkipped: {} that would harm this machine if a level failed.",
            count.skipped
        );
    }
    text.truncate(text.trim_end().len());
    text
}

fn broken(count: usize, style: Style) -> String {
    let text = format!("{count:>8}");
    match count {
        0 => text,
        _ => style.paint(Colour::Bad, &text, 0),
    }
}

/// What is promised nowhere, or not at these levels.
fn given_up(text: &mut String, attacked: &Attacked, style: Style) {
    let mut reasons: BTreeMap<&str, (BTreeSet<String>, BTreeSet<&str>)> = BTreeMap::new();
    for attempt in &attacked.attempts {
        if attempt.outcome == Outcome::GivenUp {
            let why = attempt.why.as_deref().unwrap_or_default();
            let (levels, names) = reasons.entry(why).or_default();
            levels.insert(format!("{}, wx: {}", attempt.level, attempt.wx));
            names.insert(attempt.name);
        }
    }
    if reasons.is_empty() {
        return;
    }
    let heading = style.paint(Colour::Heading, "Given up, and stated:", 0);
    let _ = writeln!(text, "\n{heading}");
    for (why, (levels, names)) in reasons {
        let levels = Vec::from_iter(levels).join(" and ");
        let _ = writeln!(text, "  {why} ({levels})");
        for name in names {
            let _ = writeln!(text, "    - {name}");
        }
    }
}

/// Each attempt that got through, or of which nobody would know.
fn failures(text: &mut String, attacked: &Attacked, style: Style) {
    for attempt in &attacked.attempts {
        if attempt.outcome == Outcome::Broken {
            let why = attempt.why.as_deref().unwrap_or_default();
            let _ = writeln!(
                text,
                "\n{}: {} ({}, wx: {})\n  {}",
                style.paint(Colour::Bad, "BROKEN", 0),
                attempt.name,
                attempt.level,
                attempt.wx,
                indented(why, 2)
            );
        }
    }
}

/// What the attempts of a group aim at.
fn group_name(group: u8) -> &'static str {
    match group {
        1 => "/proc",
        2 => "opening files, symlinks",
        3 => "stat and readlink as oracles",
        4 => "another root directory",
        5 => "descriptors left open",
        6 => "environment, arguments, auxiliary vector",
        7 => "memory and descriptors of other processes",
        8 => "signals to other processes",
        9 => "new namespaces",
        10 => "mounts",
        11 => "io_uring",
        12 => "bpf, perf_event_open, userfaultfd",
        13 => "keyrings",
        14 => "executable memory",
        15 => "memfd, shared memory, execveat",
        16 => "undoing MDWE, adding filters",
        17 => "x32 numbers, int 0x80, vsyscall",
        18 => "ioctl",
        19 => "raw, packet, netlink, vsock, UDP, ICMP sockets",
        20 => "abstract Unix sockets, descriptors by messages",
        21 => "network addresses",
        22 => "devices",
        23 => "user ids, capabilities, setuid programs",
        24 => "new processes and threads",
        25 => "memory by every route",
        26 => "CPU time by every route",
        27 => "crashes, core files",
        28 => "handling SIGSYS",
        29 => "prlimit, scheduler, mlock",
        30 => "the protocol",
        31 => "floods of logs, terminal escapes",
        32 => "clocks",
        33 => "state of a reused worker",
        34 => "the supervisor killed",
        35 => "process ids used again",
        36 => "raising limits from inside",
        37 => "leaving the cgroup",
        38 => "missing layers",
        39 => "unlisted system calls",
        _ => "",
    }
}

/// Text of several lines, the later ones indented.
fn indented(text: &str, by: usize) -> String {
    text.replace('\n', &format!("\n{:by$}", ""))
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use stockade::{CgroupUse, Isolation, Wx};

    use super::*;

    fn trial(isolation: Isolation, cgroup: CgroupUse, works: bool) -> Trial {
        Trial {
            isolation,
            wx: Wx::Jit,
            cgroup,
            works,
            optional: cgroup == CgroupUse::Require,
            start_ms: None,
            evaluate_ms: None,
            missing: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn summary_distinguishes_needed_from_optional() {
        let summarised = |container, require| {
            let trials = [
                trial(Isolation::Process, CgroupUse::Auto, true),
                trial(Isolation::Container, CgroupUse::Auto, container),
                trial(Isolation::Container, CgroupUse::Require, require),
            ];
            summary(&trials, None, Style { colours: false })
        };
        assert_eq!(
            summarised(true, true),
            "Every level of isolation works here.\n"
        );
        let text = summarised(true, false);
        assert!(
            text.starts_with("Every level of isolation works here.\n"),
            "{text}"
        );
        assert!(text.contains("Optional, and not available: container, cgroup: require."));
        let text = summarised(false, false);
        assert!(
            text.starts_with("A level of isolation does not work here: container."),
            "{text}"
        );
    }

    #[test]
    fn layer_of_an_optional_level_is_absent_and_not_missing() {
        let layer = |needed_by: &[&str]| Layer {
            name: "cgroup memory".to_owned(),
            needed_by: needed_by.iter().map(|by| (*by).to_owned()).collect(),
            available: false,
            tested: "tried it".to_owned(),
            fix: "a".to_owned(),
            kernel: "4.15".to_owned(),
        };
        let text = |by: &[&str]| {
            layers(
                &[layer(by)],
                "1",
                &V8Release::at(SystemTime::UNIX_EPOCH),
                "6",
                Style { colours: false },
            )
        };
        assert!(text(&["cgroup: require"]).contains("\nabsent   cgroup memory"));
        assert!(text(&[]).contains("\nabsent   cgroup memory"));
        assert!(text(&["container", "cgroup: require"]).contains("\nmissing  cgroup memory"));
    }

    #[test]
    fn layers_say_what_is_missing_and_what_to_do() {
        let layer = |name: &str, available, fix: &str| Layer {
            name: name.to_owned(),
            needed_by: vec!["container".to_owned()],
            available,
            tested: "tried it".to_owned(),
            fix: fix.to_owned(),
            kernel: "3.8".to_owned(),
        };
        let text = layers(
            &[
                layer("root", true, ""),
                layer("user namespace", false, "a\nb"),
            ],
            "1",
            &V8Release::at(SystemTime::UNIX_EPOCH),
            "6",
            Style { colours: false },
        );
        assert!(
            text.contains(
                "ok       root            3.8     container\n         tested: tried it\n"
            )
        );
        assert!(text.contains("missing  user namespace"));
        assert!(text.contains("         fix: a\n           b\n"));
        assert!(!text.contains('\x1b'));
    }
}
