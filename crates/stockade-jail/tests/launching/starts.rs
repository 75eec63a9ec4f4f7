//! What a worker is when it has started.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use stockade_jail::{CgroupUse, JailError, JailEvent, JailSpec, Launcher, Level, Wx};

use crate::supervisor::{LEVELS, Tested, closed, note, spec, start};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for level in LEVELS {
        for (name, test) in [
            ("echoes_when_sealed", echoes as fn(Level)),
            ("has_ids_and_no_privileges", ids),
            ("has_no_files", files),
            ("has_exactly_its_descriptors", descriptors),
            ("leaked_descriptor_fails_to_close", leak),
            ("clock_counts_work_until_the_end", clock),
            ("paused_does_nothing", pause),
            ("takes_another_limit_of_memory", memory),
            ("is_listed_with_its_guests", listed),
        ] {
            trials.push(Trial::test(
                format!("starts::{level:?}_{name}"),
                move || {
                    test(level);
                    Ok(())
                },
            ));
        }
        trials.push(
            Trial::test(format!("starts::{level:?}_time"), move || {
                time(level);
                Ok(())
            })
            .with_ignored_flag(true),
        );
    }
    trials.push(Trial::test("starts::Container_is_alone", || {
        alone();
        Ok(())
    }));
    trials.push(Trial::test("starts::strict_starts", || {
        for level in LEVELS {
            echo(&closed(&JailSpec {
                wx: Wx::Strict,
                ..spec(level)
            }));
        }
        Ok(())
    }));
    trials.push(Trial::test("starts::two_hundred_live_at_once", || {
        many();
        Ok(())
    }));
    trials.push(Trial::test("starts::layers_are_all_tried", || {
        layers();
        Ok(())
    }));
    trials.push(Trial::test("starts::nonsense_is_refused", || {
        let refused = refusal(&JailSpec {
            threads: 0,
            ..spec(Level::Process)
        });
        assert!(refused.what.contains("0 threads"), "{refused}");
        Ok(())
    }));
    trials.push(Trial::test(
        "starts::required_cgroup_is_had_or_refused",
        || {
            require();
            Ok(())
        },
    ));
    trials
}

fn refusal(spec: &JailSpec) -> JailError {
    Launcher::get()
        .unwrap()
        .launch(spec, Box::new(|_| {}))
        .unwrap_err()
}

fn echo(tested: &Tested) {
    tested.say("hello");
    assert_eq!(tested.receive(), "hello\n");
}

fn echoes(level: Level) {
    echo(&closed(&spec(level)));
}

fn listed(level: Level) {
    let tested = closed(&spec(level));
    let shown = || {
        let path = format!("/proc/{}/cmdline", tested.worker.pid());
        let line = std::fs::read(path).unwrap();
        String::from_utf8(line).unwrap()
    };
    let show = |guests: &str| {
        tested.say(&format!("show {guests}"));
        assert_eq!(tested.receive(), "shown\n");
        shown().trim_end_matches('\0').to_owned()
    };
    assert_eq!(shown().trim_end_matches('\0'), "stockade-worker");
    assert_eq!(show("shop"), "stockade-worker shop");
    // What a terminal would obey, and what is too long.
    assert_eq!(show("a\x1b[2Jb"), "stockade-worker a?[2Jb");
    let long = show(&"x".repeat(500));
    assert!(long.starts_with("stockade-worker xxx"), "{long}");
    assert_eq!(long.len() + 1, shown().len());
    assert_eq!(show(""), "stockade-worker");
    echo(&tested);
}

fn seen(level: Level) -> (Tested, HashMap<String, String>) {
    let tested = start(&spec(level));
    let seen = tested.look().into_iter().collect();
    (tested, seen)
}

fn ids(level: Level) {
    let (_tested, seen) = seen(level);
    let (other, others) = self::seen(level);
    drop(other);
    let has_ids = rustix::process::geteuid().is_root()
        && std::fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().next_back() == Some("4294967295"));
    match (level, has_ids) {
        (Level::Container, _) => assert_eq!(seen["uid"], "1000"),
        // Where there are ids to give, two workers share none.
        (Level::Process, true) => assert_ne!(seen["uid"], others["uid"]),
        (Level::Process, false) => {
            assert_eq!(seen["uid"], rustix::process::geteuid().as_raw().to_string())
        }
    }
    assert_eq!(seen["uid"], seen["euid"]);
    if has_ids {
        assert_eq!(seen["uid"], seen["gid"]);
        assert_eq!(seen["groups"], "0");
    }
    assert_eq!(seen["capabilities"], "0");
    assert_eq!(seen["no_new_privs"], "true");
    assert_eq!(seen["dumpable"], "false");
    assert_eq!(seen["environment"], "0");
    assert_eq!(seen["arguments"], "1");
}

fn files(level: Level) {
    let (_tested, seen) = seen(level);
    assert_eq!(seen["made"], "false");
    match level {
        // Landlock: it is there and cannot be read.
        Level::Process => assert_eq!(seen["root"], "permission denied"),
        Level::Container => {
            // Landlock refuses here too; that it is empty, the worker has checked before.
            assert_eq!(seen["root"], "permission denied");
            assert_eq!(seen["proc"], "false");
        }
    }
}

fn descriptors(level: Level) {
    let (tested, seen) = seen(level);
    assert_eq!(seen["socket"], "3");
    // 4 is the setup socket and 16 the maps of the process; both are closed when the worker is sealed.
    assert_eq!(seen["descriptors"], "0 1 2 3 4 16");
    tested.say("close");
    assert_eq!(tested.event(), JailEvent::Closed);
    echo(&tested);
    if rustix::process::geteuid().is_root() {
        let directory = format!("/proc/{}/fd", tested.worker.pid());
        let mut left: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let target = std::fs::read_link(&path).unwrap();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, target.to_string_lossy().into_owned())
            })
            .collect();
        left.sort();
        let [zero, one, two, three] = &left[..] else {
            unreachable!("{left:?}");
        };
        for inert in [zero, one, two] {
            assert_eq!(inert.1, "anon_inode:[eventpoll]");
        }
        assert!(three.1.starts_with("socket:"), "{left:?}");
    }
}

fn leak(level: Level) {
    for leak in ["leak", "leak high", "leak pipe"] {
        let tested = start(&spec(level));
        tested.say(leak);
        tested.say("close");
        let event = tested.event();
        let JailEvent::Failed(error) = event else {
            unreachable!("it was sealed with a leaked descriptor: {event:?}");
        };
        assert_eq!(error.layer, "descriptors");
        let (_, exit) = tested.ended();
        assert_eq!(
            exit.status,
            stockade_jail::ExitStatus::Exited(stockade_jail::EXIT_FAILED)
        );
    }
    let tested = start(&spec(level));
    tested.say("loop");
    tested.say("close");
    assert_eq!(tested.event(), JailEvent::Closed);
    echo(&tested);
}

fn alone() {
    let (_tested, seen) = seen(Level::Container);
    assert_eq!(seen["pid"], "1");
    assert_eq!(seen["parent"], "0");
    assert_eq!(seen["host"], "stockade");
    assert_eq!(seen["domain"], "(none)");
}

fn clock(level: Level) {
    let tested = closed(&spec(level));
    let before = tested.worker.cpu().unwrap();
    tested.say("spin");
    crate::supervisor::eventually("some work", || {
        tested.worker.cpu().unwrap() > before + Duration::from_millis(20)
    });
    tested.worker.kill();
    assert!(matches!(tested.event(), JailEvent::Exited(_)));
    assert_eq!(tested.worker.cpu(), None);
}

fn pause(level: Level) {
    let tested = closed(&spec(level));
    tested.worker.pause();
    crate::supervisor::eventually("a stop", || {
        crate::supervisor::state(tested.worker.pid()) == Some('T')
    });
    tested.say("hello");
    tested
        .socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut byte = [0];
    std::io::Read::read(&mut &tested.socket, &mut byte).unwrap_err();
    tested.worker.resume();
    tested
        .socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(tested.receive(), "hello\n");
}

fn memory(level: Level) {
    let unlimited = JailSpec {
        memory: None,
        ..spec(level)
    };
    let tested = closed(&unlimited);
    tested.worker.set_memory(Some(16 << 20)).unwrap();
    tested.say("eat");
    let (_, exit) = tested.ended();
    assert_ne!(exit.status, stockade_jail::ExitStatus::Exited(0));
}

fn many() {
    let workers: Vec<Tested> = (0..200).map(|_| closed(&spec(Level::Container))).collect();
    for tested in &workers {
        tested.say("hello");
    }
    for tested in &workers {
        assert_eq!(tested.receive(), "hello\n");
    }
    let pss = |pid: i32| -> u64 {
        // Of a process that is not dumpable only root sees it.
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let rollup = rollup.unwrap_or_default();
        let mut fields = rollup.split_whitespace().skip_while(|word| *word != "Pss:");
        fields.nth(1).map_or(0, |number| number.parse().unwrap())
    };
    note(&format!(
        "proportional memory of a worker {} KiB, of the launcher {} KiB",
        workers
            .iter()
            .map(|tested| pss(tested.worker.pid()))
            .sum::<u64>()
            / 200,
        pss(crate::supervisor::launcher())
    ));
}

/// Here all levels work, so all layers that they need must be there.
fn layers() {
    let tried = stockade_jail::layers();
    for layer in &tried {
        note(&format!(
            "{} {} needed by {:?}, Linux {}: {} | {}",
            if layer.available { "has " } else { "LACKS" },
            layer.name,
            layer.needed_by,
            layer.kernel,
            layer.tested,
            layer.fix
        ));
        assert!(!layer.tested.is_empty());
        assert_eq!(layer.available, layer.fix.is_empty());
        let needed = layer
            .needed_by
            .iter()
            .any(|by| by == "process" || by == "container" || by == "wx: strict");
        assert!(layer.available || !needed);
    }
    assert!(tried.len() > 15);
    // Trying them harms nothing.
    echo(&closed(&spec(Level::Container)));
}

fn require() {
    let required = JailSpec {
        cgroup: CgroupUse::Require,
        ..spec(Level::Container)
    };
    match Launcher::get().unwrap().launch(&required, Box::new(|_| {})) {
        Ok(_) => {}
        Err(error) => {
            assert!(error.layer.starts_with("cgroup "), "{error}");
            assert!(!error.fix.is_empty());
        }
    }
}

/// From the launch to the sealed worker.
fn time(level: Level) {
    let mut times: Vec<(Duration, Duration)> = (0..200)
        .map(|_| {
            let before = Instant::now();
            let tested = start(&spec(level));
            tested.say("close");
            let launched = before.elapsed();
            assert_eq!(tested.event(), JailEvent::Closed);
            let all = before.elapsed();
            drop(tested.worker);
            while tested.events.recv().is_ok() {}
            (all, launched)
        })
        .collect();
    times.sort();
    note(&format!(
        "{level:?}: launch to sealed: least {:?}, median {:?}, 95 of 100 within {:?}; launch alone in \
         the median run {:?}",
        times[0].0, times[100].0, times[190].0, times[100].1
    ));
}
