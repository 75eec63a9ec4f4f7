//! The API from outside of the router: who is let in, and what is recorded.

use super::*;

#[test]
fn document_lists_every_route_with_its_problems() {
    let document = serde_json::to_value(router::openapi()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/status") && paths.contains_key("/v1/reload"));
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["responses"]["4XX"]["content"];
            let is_problem = content["application/problem+json"].is_object();
            assert!(is_problem, "{method} {path}");
            let described = operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            assert!(described, "{method} {path}");
        }
    }
}
