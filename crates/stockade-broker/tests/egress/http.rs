//! Requests and responses: what goes out, what comes back, and what never does.

use http::{Method, Request, header};
use stockade_broker::{EgressError, Outcome, Reason};
use stockade_http::Scheme;

use super::servers::{self, reply};
use super::setting::{Setting, empty, full, get, rule, text};

#[tokio::test]
async fn request_reaches_the_server_and_its_answer_the_guest() {
    let server = servers::http(|request| async move {
        let method = request.method().clone();
        let path = request.uri().to_string();
        let body = http_body_util::BodyExt::collect(request.into_body())
            .await
            .unwrap()
            .to_bytes();
        let mut response = reply(format!(
            "{method} {path} {}",
            String::from_utf8_lossy(&body)
        ));
        response
            .headers_mut()
            .insert("x-answer", "42".parse().unwrap());
        *response.status_mut() = http::StatusCode::CREATED;
        response
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let request = Request::post(server.url("/a%20b?c=d#e"))
        .body(full("hello"))
        .unwrap();
    let response = egress.fetch(request).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-answer"], "42");
    assert_eq!(text(response).await, "POST /a%20b?c=d hello");
    let used = setting.used().await;
    assert_eq!((used.outcome, used.status), (Outcome::Done, Some(201)));
    assert_eq!((used.sent, used.received), (5, 21));
    assert_eq!((&*used.instance, &*used.rule), ("acme", "test"));
    assert_eq!(used.target, format!("http://{}", server.address));
}

#[tokio::test]
async fn nothing_that_identifies_the_machine_or_steers_a_proxy_goes_out() {
    let (server, heads) = servers::recorder().await;
    let setting = Setting::new();
    let request = Request::get(server.url("/"))
        .header("host", "evil.example")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("transfer-encoding", "chunked")
        .header("content-length", "0")
        .header("upgrade", "h2c")
        .header("te", "trailers")
        .header("expect", "100-continue")
        .header("proxy-authorization", "Basic eA==")
        .header("x-kept", "yes")
        .body(empty())
        .unwrap();
    let response = setting.open(|_| ()).fetch(request).await.unwrap();
    assert_eq!(text(response).await, "ok");
    let head = heads.lock()[0].clone();
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    assert_eq!(
        lines,
        [
            "GET / HTTP/1.1",
            "accept-encoding: gzip, br",
            "accept: */*",
            &*host,
            "user-agent: Stockade",
            "x-kept: yes"
        ]
    );
}

#[tokio::test]
async fn method_that_no_rule_or_no_fetch_allows_is_refused() {
    let (server, heads) = servers::recorder().await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.rules[0].methods = Some(vec![Method::GET]));
    let send = |method: &str| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(server.url("/"))
            .body(empty())
            .unwrap();
        egress.clone().fetch(request)
    };
    assert_eq!(text(send("GET").await.unwrap()).await, "ok");
    let refused = send("DELETE").await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().reason, Reason::MethodNotAllowed);
    assert_eq!(setting.reasons(), [Reason::MethodNotAllowed]);
    for method in ["CONNECT", "TRACE", "TRACK"] {
        let error = send(method).await.unwrap_err();
        assert!(
            matches!(error, EgressError::Invalid { .. }),
            "{method}: {error}"
        );
    }
    assert_eq!(heads.lock().len(), 1);
}

#[tokio::test]
async fn scheme_and_port_beyond_the_rule_are_refused_with_the_rules_name() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.rules[0].schemes = vec![Scheme::Https]);
    let refused = get(&egress, &server.url("/secret?token=1"))
        .await
        .unwrap_err();
    let expected = format!(
        "fetch to http://{} refused: data_guard allows this host, but not with this scheme \
         (instance acme, rule test)",
        server.address
    );
    assert_eq!(refused.to_string(), expected);
    let egress = setting.open(|policy| policy.rules[0].ports = vec![1..=2]);
    let refused = get(&egress, &server.url("/")).await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().reason, Reason::PortNotAllowed);
    let egress = setting.open(|policy| policy.rules = vec![rule(&["other.example"])]);
    let refused = get(&egress, &server.url("/")).await.unwrap_err();
    let expected = format!(
        "fetch to http://{} refused: no rule of data_guard allows this host (instance acme)",
        server.address
    );
    assert_eq!(refused.to_string(), expected);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn redirect_is_an_answer_and_its_target_is_checked_when_it_is_followed() {
    let server = servers::says(
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let response = get(&egress, &server.url("/")).await.unwrap();
    assert_eq!(response.status(), 302);
    let location = response.headers()[header::LOCATION]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        get(&egress, &location)
            .await
            .unwrap_err()
            .refusal()
            .is_some()
    );
}

#[tokio::test]
async fn interim_answers_are_skipped_and_switching_protocols_is_refused() {
    let server = servers::says(
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    assert_eq!(
        text(get(&egress, &server.url("/")).await.unwrap()).await,
        "ok"
    );
    let server = servers::says(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
    )
    .await;
    let error = get(&egress, &server.url("/")).await.unwrap_err();
    assert!(matches!(error, EgressError::Upstream { .. }), "{error}");
}

#[tokio::test]
async fn head_and_not_modified_keep_their_headers_and_have_no_body() {
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    // As the response to GET has them for the guest: what is decompressed has neither coding nor length.
    for (fields, coding, length) in [
        ("", None, Some("1000")),
        ("content-encoding: gzip\r\n", None, None),
        ("content-encoding: x\r\n", Some("x"), Some("1000")),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n{fields}\r\n");
        let server = servers::says(head).await;
        let request = Request::head(server.url("/")).body(empty()).unwrap();
        let response = egress.clone().fetch(request).await.unwrap();
        let header = |name| {
            let value = response.headers().get(name);
            value.map(|value: &http::HeaderValue| value.to_str().unwrap())
        };
        assert_eq!(header("content-encoding"), coding, "{fields}");
        assert_eq!(header("content-length"), length, "{fields}");
        assert_eq!(text(response).await, "");
    }
    let server = servers::says("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n").await;
    let response = get(&egress, &server.url("/")).await.unwrap();
    assert_eq!(response.status(), 304);
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn name_of_a_status_that_is_the_servers_own_reaches_the_guest() {
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    for (line, name) in [
        ("299 Odd, but fine", Some("Odd, but fine")),
        ("200 OK", None),
    ] {
        let server = servers::says(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n")).await;
        let response = get(&egress, &server.url("/")).await.unwrap();
        let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
        let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
        assert_eq!(reason.as_deref(), name);
    }
}

#[tokio::test]
async fn get_with_a_body_is_refused() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let request = Request::get(server.url("/"))
        .body(full("smuggled"))
        .unwrap();
    let error = setting.open(|_| ()).fetch(request).await.unwrap_err();
    assert!(matches!(error, EgressError::Invalid { .. }), "{error}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn answer_that_is_no_http_is_an_error_of_its_own_not_of_the_broker() {
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.head_timeout = std::time::Duration::from_secs(2);
    });
    let giant = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "v".repeat(200_000));
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    for answer in [
        "",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        &giant,
        &many,
    ] {
        let server = servers::says(answer.to_owned()).await;
        let error = get(&egress, &server.url("/"))
            .await
            .map(|_| ())
            .unwrap_err();
        let shown: String = answer.chars().take(60).collect();
        assert!(
            matches!(error, EgressError::Upstream { .. }),
            "{shown:?}: {error}"
        );
        setting.ended(Outcome::Failed).await;
    }
}

#[tokio::test]
async fn answer_of_the_connection_is_not_the_guests() {
    let server = servers::says(
        "HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-authenticate: Basic\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let setting = Setting::new();
    let response = get(&setting.open(|_| ()), &server.url("/")).await.unwrap();
    let mut names: Vec<_> = response
        .headers()
        .keys()
        .map(|name| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "set-cookie"]);
}
