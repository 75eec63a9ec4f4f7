//! The rules as data, and denials as text. What the rules do to a process is tested in `crate::tests`.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::TargetArch;

use super::compile::compile_for;
use super::rules::{PROCESS_ID, Rules, rules};
use super::*;
use crate::event::Denial;
use crate::spec::Wx;

const ARCHITECTURES: [TargetArch; 2] = [TargetArch::x86_64, TargetArch::aarch64];

/// What rules there are for: the mode, and whether the worker has files.
const KINDS: [(Wx, bool); 3] = [(Wx::Jit, false), (Wx::Strict, false), (Wx::Strict, true)];

fn all_rules() -> Vec<(String, Rules)> {
    ARCHITECTURES
        .into_iter()
        .flat_map(|arch| KINDS.map(|(wx, files)| (wx, files, arch)))
        .map(|(wx, files, arch)| {
            let name = format!("{wx:?}, files {files}, on {arch:?}");
            (name, rules(wx, files, arch).unwrap())
        })
        .collect()
}

#[test]
fn rules_compile_on_both_architectures() {
    for arch in ARCHITECTURES {
        for (wx, files) in KINDS {
            let filters = compile_for(wx, files, arch).unwrap();
            let returns = |action: u32| {
                let program = filters.program.iter();
                program
                    .filter(|line| line.code == 6 && line.k == action)
                    .count()
            };
            assert!(returns(libc::SECCOMP_RET_USER_NOTIF) > 0, "{wx:?} {arch:?}");
            assert!(returns(libc::SECCOMP_RET_ERRNO | 9) > 0, "{wx:?} {arch:?}");
            assert!(returns(libc::SECCOMP_RET_ERRNO | 22) > 0, "{wx:?} {arch:?}");
            assert!(returns(libc::SECCOMP_RET_ERRNO | 38) > 0, "{wx:?} {arch:?}");
            assert_eq!(returns(libc::SECCOMP_RET_TRACE | 1), 0, "{wx:?} {arch:?}");
            let fitted = filters.fit(77).unwrap();
            assert!(!fitted.iter().any(|line| line.k == PROCESS_ID));
            assert!(fitted.len() < 1_000, "{} instructions", fitted.len());
        }
    }
}

#[test]
fn rules_each_say_who_needs_them() {
    for (name, rules) in all_rules() {
        for rule in rules.values().flat_map(|section| &section.filter) {
            let syscall = &rule.syscall;
            let comment = rule.comment.strip_prefix("used by: ");
            assert!(
                comment.is_some_and(|who| who.len() > 3),
                "{name}: {syscall}"
            );
            for argument in rule.args.iter().flatten() {
                let comment = argument["comment"].as_str();
                assert!(
                    comment.is_some_and(|what| what.len() > 2),
                    "{name}: {syscall}"
                );
            }
        }
    }
}

/// `seccompiler` drops a rule without arguments where there is one with them.
#[test]
fn rules_of_a_call_are_all_with_arguments_or_one_without_and_differ() {
    for (name, rules) in all_rules() {
        for section in rules.values() {
            let mut of_call: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for rule in &section.filter {
                let args = serde_json::to_string(&rule.args).unwrap();
                of_call.entry(&rule.syscall).or_default().push(args);
            }
            for (syscall, args) in of_call {
                let different: BTreeSet<&String> = args.iter().collect();
                assert_eq!(different.len(), args.len(), "{name}: {syscall} twice");
                let bare = args.iter().filter(|args| *args == "null").count();
                assert!(bare == 0 || args.len() == 1, "{name}: {syscall}");
            }
        }
    }
}

/// The kernel takes these as `int`: the upper half of the register is noise that must not matter.
#[test]
fn rules_compare_int_arguments_as_dword_and_long_ones_as_qword() {
    let long = [
        ("mmap", 2),
        ("mmap", 3),
        ("mprotect", 2),
        ("pkey_mprotect", 2),
        ("mremap", 3),
        ("recvfrom", 4),
        ("set_robust_list", 1),
        ("sendto", 4),
    ];
    for (name, rules) in all_rules() {
        for rule in rules.values().flat_map(|section| &section.filter) {
            for argument in rule.args.iter().flatten() {
                let index = argument["index"].as_u64().unwrap();
                let is_long = long.contains(&(rule.syscall.as_str(), index));
                let expected = if is_long { "qword" } else { "dword" };
                assert_eq!(
                    argument["type"], expected,
                    "{name}: {} {index}",
                    rule.syscall
                );
            }
        }
    }
}

#[test]
fn allowed_names_nothing_that_makes_descriptors_threads_or_processes() {
    for wx in [Wx::Jit, Wx::Strict] {
        let allowed = allowed(wx);
        assert!(allowed.iter().any(|name| name == "mmap"));
        for never in [
            "clone",
            "clone3",
            "fork",
            "vfork",
            "execve",
            "execveat",
            "open",
            "openat",
            "openat2",
            "socket",
            "socketpair",
            "connect",
            "bind",
            "accept",
            "accept4",
            "recvmsg",
            "dup",
            "dup2",
            "dup3",
            "fcntl",
            "ioctl",
            "memfd_create",
            "memfd_secret",
            "eventfd2",
            "epoll_create1",
            "pidfd_open",
            "pidfd_getfd",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "bpf",
            "io_uring_setup",
            "perf_event_open",
            "userfaultfd",
            "keyctl",
            "add_key",
            "request_key",
            "prlimit64",
            "setrlimit",
            "shmat",
            "shmget",
            "personality",
            "seccomp",
            "kill",
            "tkill",
            "rt_tgsigqueueinfo",
            "mount",
            "unshare",
            "setns",
            "chroot",
            "pivot_root",
            "mlock",
            "set_robust_list",
            "modify_ldt",
            "stat",
            "newfstatat",
            "statx",
            "readlink",
            "uname",
        ] {
            assert!(!allowed.iter().any(|name| name == never), "{wx:?}: {never}");
        }
    }
    assert!(allowed(Wx::Jit).len() > 20);
    assert!(!allowed(Wx::Strict).contains(&"pkey_mprotect".to_owned()));
}

#[test]
fn denial_display_teaches() {
    let check = |syscall: &str, args: [u64; 6], expect: &str| {
        let denial = Denial {
            syscall: syscall.to_owned(),
            number: 0,
            args,
            thread: 1,
        };
        assert_eq!(denial.to_string(), expect);
    };
    check(
        "mmap",
        [0, 4096, 7, 0x22, u64::MAX, 0],
        "mmap with PROT_EXEC",
    );
    check("mmap", [0, 4096, 1, 2, 3, 0], "mmap of descriptor 3");
    check(
        "mmap",
        [0, 4096, 1, 0x21, u64::MAX, 0],
        "mmap with MAP_SHARED",
    );
    check("mprotect", [0, 4096, 5, 0, 0, 0], "mprotect with PROT_EXEC");
    check("mprotect", [0, 4096, 1, 0, 0, 0], "mprotect");
    check(
        "unshare",
        [0x1000_0000, 0, 0, 0, 0, 0],
        "unshare with CLONE_NEWUSER",
    );
    check("clone", [17, 0, 0, 0, 0, 0], "clone of a process");
    check("clone", [0x0001_0000, 0, 0, 0, 0, 0], "clone of a thread");
    check("socket", [2, 1, 0, 0, 0, 0], "socket of family AF_INET");
    check("socket", [99, 1, 0, 0, 0, 0], "socket of family 99");
    check(
        "kill",
        [u64::MAX, 9, 0, 0, 0, 0],
        "kill with signal 9 to -1",
    );
    check(
        "ioctl",
        [0, 0xffff_ffff_0000_5412, 0, 0, 0, 0],
        "ioctl 0x5412 on descriptor 0",
    );
    check("openat", [0; 6], "openat");
}

#[test]
fn rules_of_files_are_for_the_files_alone() {
    for arch in ARCHITECTURES {
        let without = rules(Wx::Strict, false, arch).unwrap();
        let known: BTreeSet<String> = without["allow"]
            .filter
            .iter()
            .map(|rule| serde_json::to_string(rule).unwrap())
            .collect();
        let with = rules(Wx::Strict, true, arch).unwrap();
        assert_eq!(without.len(), with.len(), "{arch:?}");
        let mut calls = BTreeSet::new();
        for rule in &with["allow"].filter {
            if known.contains(&serde_json::to_string(rule).unwrap()) {
                continue;
            }
            calls.insert(&*rule.syscall);
            let bounds: Vec<_> = rule
                .args
                .iter()
                .flatten()
                .map(|bound| (&bound["index"], &bound["type"], &bound["op"], &bound["val"]))
                .map(|(index, kind, op, value)| format!("{index} {kind} {op} {value}"))
                .collect();
            let files = [r#"0 "dword" "ge" 13"#, r#"0 "dword" "le" 15"#];
            assert_eq!(bounds, files, "{}", rule.syscall);
        }
        let expected = [
            "fdatasync",
            "fstat",
            "fsync",
            "ftruncate",
            "pread64",
            "pwrite64",
        ];
        assert!(calls.into_iter().eq(expected), "{arch:?}");
    }
}
