//! The example that the README shows, and the examples of the reference.

use std::fs;

use stockade_config::Config;

use crate::{good, root};

#[test]
fn example_loads_with_all_it_names() {
    let path = root().join("examples/serve/stockade.yaml");
    let loaded = Config::load(&path).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    assert_eq!(loaded.sources.len(), 1);
    let names: Vec<_> = loaded.config.instances.keys().collect();
    assert_eq!(names, ["hello", "notes"]);
    assert!(loaded.config.listeners[0].address.ip().is_loopback());
    assert!(loaded.config.state.is_absolute());
}

#[test]
fn examples_of_grants_load() {
    let mut examples = 0;
    for entry in fs::read_dir(root().join("examples/grants")).unwrap() {
        let path = entry.unwrap().path().join("stockade.yaml");
        let loaded = Config::load(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
        let granted = |instance: &stockade_config::Instance| {
            !instance.grants.is_empty() || !instance.sockets.connect.is_empty()
        };
        assert!(loaded.config.instances.values().any(granted), "{path:?}");
        examples += 1;
    }
    assert!(examples >= 1);
}

#[test]
fn reference_examples_that_are_whole_files_load() {
    let text = fs::read_to_string(root().join("docs/config.md")).unwrap();
    let mut whole = 0;
    for block in text.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        if block.starts_with("version:") {
            good(block);
            whole += 1;
        }
    }
    assert!(whole >= 3, "{whole}");
}
