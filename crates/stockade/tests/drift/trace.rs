//! What strace writes down.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// A call as it was made.
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Vec<u64>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:x?})", self.name, self.arguments)
    }
}

/// A line: what a thread began, or its result.
enum Line<'a> {
    Begins { name: &'a str, arguments: &'a str },
    Resumes { name: &'a str, rest: &'a str },
}

/// The calls of processes that have installed a filter, from then on.
pub(crate) fn calls_when_sealed(trace: &str) -> Vec<Call> {
    let processes = processes(trace);
    let process_of = |thread| processes.get(&thread).copied().unwrap_or(thread);
    let mut walled = BTreeSet::new();
    let mut calls = Vec::new();
    for (thread, line) in lines(trace) {
        let process = process_of(thread);
        match line {
            Line::Begins { name, arguments } => {
                if walled.contains(&process) {
                    calls.push(Call {
                        name: name.to_owned(),
                        arguments: numbers(arguments),
                    });
                } else if name == "seccomp"
                    && arguments.starts_with("0x1,")
                    && arguments.contains(" = ")
                {
                    walled.insert(process);
                }
            }
            Line::Resumes { name, rest } => {
                // Only installing gives a descriptor; looking what there is gives 0.
                if name == "seccomp" && rest.contains(" = 0x") {
                    walled.insert(process);
                }
            }
        }
    }
    calls
}

/// The process of each thread.
fn processes(trace: &str) -> HashMap<u32, u32> {
    let mut processes: HashMap<u32, u32> = HashMap::new();
    let mut makes_thread: HashMap<u32, bool> = HashMap::new();
    for (maker, line) in lines(trace) {
        let result = match line {
            Line::Begins { name, arguments } if name.starts_with("clone") => {
                makes_thread.insert(maker, arguments.contains("CLONE_THREAD"));
                arguments
            }
            Line::Resumes { name, rest } if name.starts_with("clone") => rest,
            _ => continue,
        };
        let made = (result.rsplit_once(" = ")).and_then(|(_, made)| outer_number(made));
        if let Some(made) = made
            && makes_thread.get(&maker) == Some(&true)
        {
            let process = processes.get(&maker).copied().unwrap_or(maker);
            processes.insert(made, process);
        }
    }
    processes
}

/// A thread's number outside of all namespaces: `3`, or `3 /* 12345 in strace's PID NS */`.
fn outer_number(text: &str) -> Option<u32> {
    let outer = text.split_once("/* ").map_or(text, |(_, outer)| outer);
    outer.split_whitespace().next()?.parse().ok()
}

fn lines(trace: &str) -> impl Iterator<Item = (u32, Line<'_>)> {
    trace.lines().filter_map(|line| {
        let (thread, rest) = line.split_once(' ')?;
        let (thread, rest) = (thread.parse().ok()?, rest.trim_start());
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let (name, rest) = resumed.split_once(" resumed>")?;
            return Some((thread, Line::Resumes { name, rest }));
        }
        let (name, arguments) = rest.split_once('(')?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (name.chars().all(is_name)).then_some((thread, Line::Begins { name, arguments }))
    })
}

/// The numbers before the end of a call's arguments.
fn numbers(arguments: &str) -> Vec<u64> {
    let end = arguments.find([')', '<']).unwrap_or(arguments.len());
    arguments[..end]
        .split(',')
        .map_while(|argument| {
            let argument = argument.trim();
            match argument.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => argument.parse().ok(),
            }
        })
        .collect()
}
