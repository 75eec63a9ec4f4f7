//! Probes of a worker that answers as the test wants.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::atomic::Ordering;
use std::time::Duration;

use stockade_limits::{IsolateOptions, Limits};
use stockade_protocol::bounds::{MAX_DEBUG_BYTES, MAX_FINDING_BYTES};
use stockade_protocol::frame::{FromWorker, ToWorker};
use stockade_protocol::{Finding, HeapStatistics, Payload, Probe, ProbeId, ProbeOrder};
use stockade_supervisor::{
    DebugError, ExitCause, IsolateHandle, LONGEST_PROFILE, ProbeError, Supervisor,
};

use crate::scripted::{Scripted, Worker};
use crate::{block_on, create, options, supervisor, until_destroyed};

/// The next order, by the number of its probe.
fn order(worker: &mut Worker) -> Option<(ProbeId, ProbeOrder)> {
    loop {
        if let ToWorker::Probe { id, order, .. } = worker.next()? {
            return Some((id, order));
        }
    }
}

/// Answers each probe with `findings`: a recording when it is stopped, others at once.
fn answering(
    findings: impl Fn(Probe) -> Vec<Finding> + Clone + Send + Sync + 'static,
) -> Supervisor {
    supervisor(Scripted(move |mut worker: Worker| {
        let Some(isolate) = worker.start() else {
            return;
        };
        let mut recording = None;
        while let Some((id, order)) = order(&mut worker) {
            let probe = match order {
                ProbeOrder::Start(Probe::CpuProfile) => {
                    recording = Some(id);
                    continue;
                }
                ProbeOrder::Start(probe) => probe,
                ProbeOrder::Stop if recording == Some(id) => Probe::CpuProfile,
                ProbeOrder::Stop => continue,
            };
            for finding in findings(probe) {
                worker.send(FromWorker::Found {
                    isolate,
                    id,
                    finding,
                });
            }
        }
    }))
}

fn file() -> File {
    tempfile::tempfile().unwrap()
}

async fn snapshot(handle: &IsolateHandle) -> Result<Vec<u8>, ProbeError> {
    let file = file();
    let size = handle.heap_snapshot(file.try_clone().unwrap()).await?;
    let mut file = file;
    file.rewind().unwrap();
    let mut text = Vec::new();
    file.read_to_end(&mut text).unwrap();
    assert_eq!(text.len() as u64, size);
    Ok(text)
}

#[test]
fn pieces_come_to_the_file_in_order_and_the_next_probe_is_free() {
    let pieces = 100;
    block_on(async {
        let supervisor = answering(move |probe| match probe {
            Probe::HeapStatistics => {
                let text = serde_json::to_vec(&HeapStatistics::default()).unwrap();
                vec![Finding::Piece(text), Finding::Done]
            }
            _ => (0..pieces)
                .map(|number| Finding::Piece(vec![number; MAX_FINDING_BYTES]))
                .chain([Finding::Done])
                .collect(),
        });
        let (handle, _queue) = create(&supervisor, options()).await;
        // More than waits in memory.
        let text = snapshot(&handle).await.unwrap();
        let expected = (0..pieces).flat_map(|number| [number; MAX_FINDING_BYTES]);
        assert!(text.into_iter().eq(expected));
        assert_eq!(
            handle.heap_statistics().await.unwrap(),
            HeapStatistics::default()
        );
        let size = handle.cpu_profile(Duration::ZERO, file()).await.unwrap();
        assert_eq!(size, u64::from(pieces) * MAX_FINDING_BYTES as u64);
        handle.destroy();
    });
}

#[test]
fn second_probe_is_refused_until_the_first_is_given_up() {
    block_on(async {
        let supervisor = answering(|_| vec![Finding::Done]);
        let (handle, _queue) = create(&supervisor, options()).await;
        let recording = handle.record_cpu().unwrap();
        assert!(matches!(handle.record_cpu(), Err(ProbeError::Busy(_))));
        assert!(matches!(
            handle.heap_statistics().await,
            Err(ProbeError::Busy(_))
        ));
        drop(recording);
        assert!(handle.record_cpu().unwrap().finish(file()).await.is_ok());
        let long = LONGEST_PROFILE + Duration::from_secs(1);
        let error = handle.cpu_profile(long, file()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "a CPU profile takes at most 300 s, and 301 s were asked for"
        );
        handle.destroy();
    });
}

#[test]
fn answers_that_are_too_large_or_none_fail_and_leave_the_isolate_alone() {
    block_on(async {
        let supervisor = answering(|probe| match probe {
            Probe::HeapStatistics => vec![Finding::Piece(vec![b' '; 40_000]); 1000],
            Probe::HeapSnapshot { .. } => vec![Finding::Failed("no\u{1b}[2J memory".to_owned())],
            _ => vec![Finding::Piece(vec![0; MAX_FINDING_BYTES]); 600],
        });
        let (handle, _queue) = create(&supervisor, options()).await;
        let error = handle.heap_statistics().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "isolate #0 sent more than 65536 bytes, which is the limit"
        );
        // What is left of the first answer is not taken for one of the second.
        let error = snapshot(&handle).await.unwrap_err();
        assert_eq!(error.to_string(), "isolate #0: no\\u{1b}[2J memory");
        let error = handle
            .cpu_profile(Duration::ZERO, file())
            .await
            .unwrap_err();
        assert!(matches!(error, ProbeError::TooLarge { .. }), "{error}");
        assert_eq!(handle.end(), None);
        handle.destroy();
    });
}

#[test]
fn statistics_that_are_no_json_are_an_error() {
    block_on(async {
        let supervisor = answering(|_| vec![Finding::Piece(b"{".to_vec()), Finding::Done]);
        let (handle, _queue) = create(&supervisor, options()).await;
        let error = handle.heap_statistics().await.unwrap_err();
        assert!(matches!(error, ProbeError::Failed { .. }), "{error}");
        handle.destroy();
    });
}

#[test]
fn worker_that_ends_within_a_probe_fails_it() {
    block_on(async {
        let supervisor = supervisor(Scripted(|mut worker: Worker| {
            let Some(isolate) = worker.start() else {
                return;
            };
            let Some((id, _)) = order(&mut worker) else {
                return;
            };
            let finding = Finding::Piece(b"{".to_vec());
            worker.send(FromWorker::Found {
                isolate,
                id,
                finding,
            });
            worker.machine.exit(ExitCause::OutOfMemory);
        }));
        let (handle, queue) = create(&supervisor, options()).await;
        let error = snapshot(&handle).await.unwrap_err().to_string();
        assert!(error.contains("memory_limit_exceeded"), "{error}");
        until_destroyed(&queue).await;
        assert!(matches!(handle.record_cpu(), Err(ProbeError::Ended { .. })));
    });
}

#[test]
fn answer_to_a_probe_that_never_was_ends_the_worker() {
    block_on(async {
        let supervisor = supervisor(Scripted(|mut worker: Worker| {
            let Some(isolate) = worker.start() else {
                return;
            };
            worker.send(FromWorker::Found {
                isolate,
                id: 7,
                finding: Finding::Done,
            });
            worker.next();
        }));
        let (handle, queue) = create(&supervisor, options()).await;
        until_destroyed(&queue).await;
        let end = handle.end().unwrap().to_string();
        assert!(
            end.contains("it answers probe 7, which was never made"),
            "{end}"
        );
    });
}

#[test]
fn time_of_a_probe_is_not_the_guests() {
    block_on(async {
        let (sender, machines) = std::sync::mpsc::channel();
        let supervisor = supervisor(Scripted(move |mut worker: Worker| {
            let _ = sender.send(std::sync::Arc::clone(&worker.machine));
            let Some(isolate) = worker.start() else {
                return;
            };
            // Within a message, as a guest that computes is.
            while !matches!(worker.next(), Some(ToWorker::Message { .. }) | None) {}
            let Some((id, _)) = order(&mut worker) else {
                return;
            };
            worker.machine.computes.store(true, Ordering::SeqCst);
            while !matches!(order(&mut worker), Some((_, ProbeOrder::Stop)) | None) {}
            worker.send(FromWorker::Found {
                isolate,
                id,
                finding: Finding::Done,
            });
            worker.next();
        }));
        let limits = Limits {
            cpu: Some(Duration::from_millis(10)),
            cpu_total: Some(Duration::from_millis(10)),
            ..Limits::default()
        };
        let options = IsolateOptions {
            limits,
            ..options()
        };
        let (handle, queue) = create(&supervisor, options).await;
        let machine = machines.recv().unwrap();
        handle.send("work", Payload::default()).unwrap();
        let recording = handle.record_cpu().unwrap();
        // Seconds, by a clock of which 10 ms are allowed.
        while machine.clock() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(handle.end(), None);
        recording.finish(file()).await.unwrap();
        // Now it is the guest's.
        let events = until_destroyed(&queue).await;
        let events = format!("{events:?}");
        assert!(events.contains("by its process as a whole"), "{events}");
    });
}

#[test]
fn messages_of_a_debugger_pass_both_ways_until_one_side_ends() {
    block_on(async {
        let (sender, ended) = std::sync::mpsc::channel();
        let supervisor = supervisor(Scripted(move |mut worker: Worker| {
            let Some(isolate) = worker.start() else {
                return;
            };
            let answer = |worker: &mut Worker, id, finding| {
                worker.send(FromWorker::Found {
                    isolate,
                    id,
                    finding,
                });
            };
            while let Some(frame) = worker.next() {
                match frame {
                    ToWorker::Debug { id, text, .. } if text == "flood" => {
                        let piece = vec![b' '; MAX_FINDING_BYTES];
                        for _ in 0..=MAX_DEBUG_BYTES / MAX_FINDING_BYTES {
                            answer(&mut worker, id, Finding::Piece(piece.clone()));
                        }
                    }
                    ToWorker::Debug { id, text, .. } => {
                        for piece in text.as_bytes().chunks(MAX_FINDING_BYTES) {
                            answer(&mut worker, id, Finding::Piece(piece.to_vec()));
                        }
                        answer(&mut worker, id, Finding::Message);
                    }
                    ToWorker::Probe {
                        id,
                        order: ProbeOrder::Stop,
                        ..
                    } => {
                        answer(&mut worker, id, Finding::Done);
                        let _ = sender.send(id);
                    }
                    _ => {}
                }
            }
        }));
        let (handle, _queue) = create(&supervisor, options()).await;
        let session = handle.debug().unwrap();
        for text in [
            "{}".to_owned(),
            "é".repeat(MAX_FINDING_BYTES),
            String::new(),
        ] {
            session.send(text.clone());
            assert_eq!(session.next().await, Some(Ok(text)));
        }
        assert!(handle.debug().is_err(), "one at a time");
        // Neither way is without bounds.
        session.send(" ".repeat(MAX_DEBUG_BYTES + 1));
        assert_eq!(session.next().await, Some(Err(DebugError::Unanswered)));
        drop(session);
        assert_eq!(ended.recv(), Ok(1));
        let session = handle.debug().unwrap();
        session.send("flood".to_owned());
        assert_eq!(session.next().await, Some(Err(DebugError::TooLong)));
        drop(session);
        assert_eq!(ended.recv(), Ok(2));
        let session = handle.debug().unwrap();
        session.send("again".to_owned());
        assert_eq!(session.next().await, Some(Ok("again".to_owned())));
        handle.destroy();
        assert_eq!(session.next().await, None);
    });
}

#[test]
fn commands_of_a_debugger_that_have_no_answer_are_bounded() {
    block_on(async {
        let supervisor = supervisor(Scripted(move |mut worker: Worker| {
            let Some(isolate) = worker.start() else {
                return;
            };
            while let Some(frame) = worker.next() {
                if let ToWorker::Debug { id, text, .. } = frame
                    && text.starts_with("answered")
                {
                    let answer = b"{\"id\":1,\"result\":{}}".to_vec();
                    for finding in [Finding::Piece(answer), Finding::Message] {
                        worker.send(FromWorker::Found {
                            isolate,
                            id,
                            finding,
                        });
                    }
                }
            }
        }));
        let (handle, _queue) = create(&supervisor, options()).await;
        let session = handle.debug().unwrap();
        let command = |word: &str| word.to_owned() + &" ".repeat(MAX_DEBUG_BYTES / 4);
        for _ in 0..8 {
            session.send(command("answered"));
            assert!(session.next().await.unwrap().is_ok());
        }
        for _ in 0..4 {
            session.send(command("not"));
        }
        let over = Some(Err(DebugError::Unanswered));
        assert_eq!(session.next().await, over);
        drop(session);
        // Answers that are not the isolate's, and that the debugger does not take, count as well.
        let session = handle.debug().unwrap();
        let refused = "{\"id\":1,\"method\":\"Profiler.start\"}";
        session.send(refused.to_owned());
        assert!(session.next().await.unwrap().unwrap().contains("\"id\":1"));
        for _ in 0..MAX_DEBUG_BYTES / 64 {
            session.send(refused.to_owned());
        }
        assert_eq!(session.next().await, over);
    });
}
