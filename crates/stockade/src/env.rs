//! Functions of the host in a guest's `NETWORK.env`.

use serde_json::{Map, Value};

/// The method of the request that calling a function is, before its path.
pub(crate) const PREFIX: &str = "env:";

/// Where `env` lists the functions: paths, each a list of keys. Read by `stockade_realm/network.js`.
const FUNCTIONS: &str = "\0functions";

/// Puts functions into `env`, which the guest finds at these dotted paths, such as `svc.price`, and
/// calls as `await NETWORK.env.svc.price(…)`. What is missing on the way there is made.
///
/// Answer the calls with [`Isolate::serve`](crate::Isolate::serve). In `env` no other name may begin
/// with U+0000.
pub fn name_env_functions<'a>(
    env: &mut Map<String, Value>,
    paths: impl IntoIterator<Item = &'a str>,
) {
    for path in paths {
        let keys: Vec<&str> = path.split('.').collect();
        let mut holder = &mut *env;
        for key in keys.iter().take(keys.len().saturating_sub(1)) {
            let next = holder
                .entry(*key)
                .or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(next) = next else { break };
            holder = next;
        }
        let list = env
            .entry(FUNCTIONS)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(Value::from(keys));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_env_functions_makes_the_way_and_lists_the_paths() {
        let mut env = Map::new();
        env.insert("svc".to_owned(), serde_json::json!({ "url": "x" }));
        name_env_functions(&mut env, ["svc.price", "a.b.c", "top"]);
        assert_eq!(
            Value::Object(env),
            serde_json::json!({
                "svc": { "url": "x" },
                "a": { "b": {} },
                "\0functions": [["svc", "price"], ["a", "b", "c"], ["top"]],
            })
        );
    }
}
