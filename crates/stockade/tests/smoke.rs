//! An isolate starts and answers.
#[test]
fn isolate_evaluates() {
    stockade::initialize();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sandbox = stockade::Sandbox::new(stockade::SandboxOptions::default());
        let mut isolate = sandbox.create_default().await.unwrap();
        assert_eq!(
            isolate
                .evaluate("1 + 1")
                .await
                .unwrap()
                .read::<u32>()
                .unwrap(),
            2
        );
        sandbox.shutdown();
    });
}
