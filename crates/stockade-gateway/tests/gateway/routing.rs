//! Which target gets a request, and by which path.

use std::sync::Arc;

use http::Request;
use stockade_gateway::{
    Limits, Outcome, Pattern, Refusal, Route, RouteTable, TableError, TableOptions,
};
use stockade_http::{Body, EncodedSlashes, Host, HostPattern, PathPattern, Scheme, Slashes};

use crate::harness::*;

fn pattern(host: &str, path: &str) -> Pattern {
    Pattern {
        host: match host.strip_prefix("*.") {
            Some(below) => HostPattern::Below(below.to_owned()),
            None if host == "*" => HostPattern::Any,
            None => HostPattern::Exact(Host::Name(host.to_owned())),
        },
        path: match path.strip_suffix("/*") {
            Some(under) => PathPattern::Under(under.to_owned()),
            None => PathPattern::Exact(path.to_owned()),
        },
        ..Pattern::any()
    }
}

/// Answers with its label and the URL that it was asked for.
fn named(label: &str, patterns: Vec<Pattern>) -> Route {
    let name = label.to_owned();
    let target = move |request: Request<Body>| {
        let url = request.uri().to_string();
        let name = name.clone();
        async move { text(format!("{name} {url}")) }
    };
    Route::new(label, patterns, Arc::new(target))
}

async fn serve(routes: Vec<Route>, options: TableOptions) -> Server {
    Server::start(
        listener(),
        RouteTable::new(routes, options).unwrap(),
        Limits::default(),
    )
    .await
}

async fn ask(server: &Server, host: &str, target: &str) -> Answer {
    let mut client = server.connect().await;
    client
        .ask(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
        .await
}

#[tokio::test]
async fn most_specific_pattern_wins() {
    let server = serve(
        vec![
            named("any", vec![pattern("*", "/*")]),
            named("any-api", vec![pattern("*", "/api/*")]),
            named("site", vec![pattern("a.example", "/*")]),
            named("api", vec![pattern("a.example", "/api/*")]),
            named("one", vec![pattern("a.example", "/api/one")]),
            named("deep", vec![pattern("a.example", "/api/v1/x/*")]),
            named("below", vec![pattern("*.example", "/*")]),
            named("below-b", vec![pattern("*.b.example", "/*")]),
            named("only", vec![pattern("c.example", "/only/*")]),
        ],
        TableOptions::default(),
    )
    .await;
    let check = async |host: &str, path: &str, label: &str| {
        let answer = ask(&server, host, path).await;
        let found = answer.text().split(' ').next().unwrap().to_owned();
        assert_eq!(found, label, "{host}{path}");
    };
    check("a.example", "/", "site").await;
    check("A.EXAMPLE.:80", "/", "site").await;
    check("a.example", "/apis", "site").await;
    check("a.example", "/api", "api").await;
    check("a.example", "/api/", "api").await;
    check("a.example", "/api/two", "api").await;
    check("a.example", "/api/one", "one").await;
    check("a.example", "/api/one/", "api").await;
    check("a.example", "/api/v1/x", "deep").await;
    check("a.example", "/api/v1/x/y/z/1/2/3", "deep").await;
    check("a.example", "/api/v1/xy", "api").await;
    check("b.example", "/api", "below").await;
    check("c.b.example", "/", "below-b").await;
    check("d.c.b.example", "/", "below-b").await;
    check("example", "/", "any").await;
    check("other", "/api/x", "any-api").await;
    // A host without a pattern for the path is answered by the next best host.
    check("c.example", "/only/x", "only").await;
    check("c.example", "/else", "below").await;
    check("127.0.0.1", "/", "any").await;
    check("[::1]:8080", "/", "any").await;
}

#[tokio::test]
async fn path_is_the_same_for_route_and_target() {
    let server = serve(
        vec![
            named("open", vec![pattern("*", "/*")]),
            named("admin", vec![pattern("*", "/admin/*")]),
        ],
        TableOptions::default(),
    )
    .await;
    for path in [
        "/admin/x",
        "//admin/x",
        "/%61dmin/x",
        "/a/../admin/x",
        "/a/%2e%2e/admin/x",
        "/./admin//x",
        "/admin/./x",
        "/a/..//admin/x",
    ] {
        let answer = ask(&server, "a", path).await;
        assert_eq!(answer.text(), "admin http://a/admin/x", "{path}");
    }
    for path in ["/ADMIN/x", "/admin;x", "/%2561dmin/x"] {
        let answer = ask(&server, "a", path).await;
        assert!(answer.text().starts_with("open "), "{path}");
    }
    for path in [
        "/..",
        "/a/../../admin",
        "/a%2f..%2fadmin",
        "/a%5c..%5cadmin",
        "/\\admin",
        "/%",
        "/%00",
    ] {
        let answer = ask(&server, "a", path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    let record = server.log.request().await;
    assert_eq!(record.path, "/admin/x");
}

#[tokio::test]
async fn encoded_slash_is_the_routes_to_decide() {
    let rule = |label, path, rule| {
        let mut route = named(label, vec![pattern("*", path)]);
        route.encoded_slashes = rule;
        route
    };
    let server = serve(
        vec![
            rule("reject", "/reject/*", EncodedSlashes::Reject),
            rule("keep", "/keep/*", EncodedSlashes::Keep),
            rule("decode", "/decode/*", EncodedSlashes::Decode),
        ],
        TableOptions::default(),
    )
    .await;
    assert_eq!(ask(&server, "a", "/reject/a%2Fb").await.status, 400);
    assert_eq!(
        ask(&server, "a", "/keep/a%2fb").await.text(),
        "keep http://a/keep/a%2Fb"
    );
    assert_eq!(
        ask(&server, "a", "/keep/a%2f..%2fb").await.text(),
        "keep http://a/keep/a%2F..%2Fb"
    );
    assert_eq!(
        ask(&server, "a", "/decode/a%2fb").await.text(),
        "decode http://a/decode/a/b"
    );
    assert_eq!(
        ask(&server, "a", "/decode/a%2f..%2fb").await.text(),
        "decode http://a/decode/b"
    );
    // What is another route's once it is decoded is not served by this one.
    assert_eq!(ask(&server, "a", "/decode/..%2freject/x").await.status, 400);
    let recorded = server
        .log
        .until(|recorded| recorded.requests.len() == 6)
        .await;
    assert_eq!(recorded.refusals, [Refusal::Path; 2]);
}

#[tokio::test]
async fn empty_segments_are_kept_where_the_operator_says_so() {
    let options = TableOptions {
        slashes: Slashes::Keep,
        ..TableOptions::default()
    };
    let server = serve(vec![named("all", vec![Pattern::any()])], options).await;
    assert_eq!(
        ask(&server, "a", "//x//y").await.text(),
        "all http://a//x//y"
    );
}

#[tokio::test]
async fn scheme_and_port_are_part_of_a_pattern() {
    let https = Pattern {
        scheme: Some(Scheme::Https),
        ..pattern("a.example", "/*")
    };
    let port = Pattern {
        port: Some(8080),
        ..pattern("b.example", "/*")
    };
    let options = TableOptions {
        https_redirect: Some(8443),
        ..TableOptions::default()
    };
    let routes = vec![named("secure", vec![https]), named("port", vec![port])];
    let server = serve(routes, options).await;
    let answer = ask(&server, "a.example", "/x/../y?z=1").await;
    assert_eq!(answer.status, 308);
    assert_eq!(
        answer.header("location"),
        Some("https://a.example:8443/y?z=1")
    );
    assert_eq!(
        ask(&server, "b.example:8080", "/").await.text(),
        "port http://b.example:8080/"
    );
    assert_eq!(ask(&server, "b.example", "/").await.status, 404);
}

#[tokio::test]
async fn url_that_nothing_matches_is_answered_404() {
    let server = serve(
        vec![named("a", vec![pattern("a.example", "/*")])],
        TableOptions::default(),
    )
    .await;
    let mut client = server.connect().await;
    let answer = client.ask("GET /x HTTP/1.1\r\nhost: unknown\r\n\r\n").await;
    assert_eq!(answer.status, 404);
    // The connection is good for more.
    assert_eq!(client.ask(get("/x")).await.status, 200);
    let record = server.log.request().await;
    assert_eq!(record.outcome, Outcome::Refused(Refusal::NoRoute));
    assert_eq!(record.route, None);
}

#[test]
fn pattern_that_is_given_twice_is_refused() {
    let routes = vec![
        named("one", vec![pattern("a.example", "/x/*")]),
        named(
            "two",
            vec![pattern("b.example", "/x/*"), pattern("a.example", "/x/*")],
        ),
    ];
    let error = RouteTable::new(routes, TableOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.example/x/* is in the routes \"one\" and \"two\"; give it to one of them"
    );
    for (host, path) in [
        ("A.example", "/*"),
        ("a.example.", "/*"),
        ("a b", "/*"),
        ("a", "/x/../y"),
        ("a", "x"),
    ] {
        let error = RouteTable::new(
            vec![named("one", vec![pattern(host, path)])],
            TableOptions::default(),
        );
        assert!(
            matches!(error, Err(TableError::Pattern { .. })),
            "{host} {path}"
        );
    }
}

#[tokio::test]
async fn thousand_sites_each_is_found() {
    let routes = (0..1000).map(|number| {
        let host = format!("site{number}.example");
        named(
            &format!("site{number}"),
            vec![pattern(&host, "/*"), pattern(&host, "/api/v1/*")],
        )
    });
    let server = serve(routes.collect(), TableOptions::default()).await;
    let mut client = server.connect().await;
    for number in 0..1000 {
        let request = format!("GET /api/v1/x HTTP/1.1\r\nhost: site{number}.example\r\n\r\n");
        let response = client.ask(&request).await;
        assert_eq!(response.status, 200);
        assert!(response.text().starts_with(&format!("site{number} ")));
    }
}
