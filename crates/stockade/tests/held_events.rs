//! A guest that floods its host during a call: what the host has not taken keeps its place in the queue.

use stockade::{Event, IsolateOptions, Limits, Sandbox, SandboxOptions};

const EVENTS: usize = 300;

#[test]
fn isolate_that_floods_during_a_call_waits_and_loses_nothing() {
    stockade::initialize();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::new(SandboxOptions {
            defaults: IsolateOptions {
                limits: Limits {
                    cpu: None,
                    wall: None,
                    ..Limits::default()
                },
                ..IsolateOptions::default()
            },
            ..SandboxOptions::default()
        });
        let mut isolate = sandbox.create_default().await.unwrap();
        let handle = isolate.handle();
        {
            let flood = format!(
                "const text = 'x'.repeat(1 << 20);
                for (let i = 0; i < {EVENTS}; i++) NETWORK.send('x', text);"
            );
            let call = isolate.evaluate(flood);
            tokio::pin!(call);
            // This many events of 1 MiB fit.
            while handle.stats().queued_from < 255 {
                tokio::select! {
                    biased;
                    _ = &mut call => panic!("the guest did not wait"),
                    () = tokio::task::yield_now() => {}
                }
            }
            // The caller can see that the guest waits for it.
            tokio::select! {
                _ = &mut call => panic!("the guest did not wait"),
                () = handle.events_full() => {}
            }
        }
        for _ in 0..EVENTS {
            let event = isolate.next().await;
            assert!(matches!(event, Some(Event::Message { .. })), "{event:?}");
        }
        assert_eq!(handle.stats().queued_from, 0);
        sandbox.shutdown();
    });
}
