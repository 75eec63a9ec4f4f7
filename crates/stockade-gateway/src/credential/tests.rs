use super::*;
use http::Request;
use stockade_auth::{ApiKey, Pepper};

fn rule(folder: &std::path::Path) -> KeyRule {
    let pepper = Pepper::new(&[7; 32]).unwrap();
    KeyRule {
        keys: Some(Keys::open(&folder.join("keys.db"), pepper).unwrap()),
        tokens: None,
        certificates: None,
        failures: Arc::default(),
        instance: "shop".into(),
        header: Some(AUTHORIZATION),
        query: Some("api_key".to_owned()),
        cookie: Some("key".to_owned()),
        scopes: Vec::new(),
        methods: Vec::new(),
        paths: Vec::new(),
        open: vec![PathPattern::Under("/public".to_owned())],
    }
}

fn take(rule: &KeyRule, uri: &str, headers: &[(&str, &str)]) -> (String, String) {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let found = match rule.take(&mut head) {
        Ok(Some(Credential::Key(key) | Credential::Token(key))) => String::from_utf8(key).unwrap(),
        Ok(None) => "none".to_owned(),
        Err(error) => {
            assert_eq!(error, CredentialError::Several);
            "several".to_owned()
        }
    };
    let fields = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let left = std::iter::once(head.uri.to_string()).chain(fields);
    (found, left.collect::<Vec<_>>().join("\n"))
}

#[test]
fn key_is_taken_from_each_place_and_what_is_next_to_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let rule = rule(folder.path());
    for (uri, headers, found, left) in [
        ("/a?b=1", vec![("authorization", "Bearer k")], "k", "/a?b=1"),
        (
            "/a?b=1",
            vec![("authorization", "bEaReR   k")],
            "k",
            "/a?b=1",
        ),
        ("/a?x=%201&api_key=k&y=2", vec![], "k", "/a?x=%201&y=2"),
        ("/a?api%5Fkey=k", vec![], "k", "/a"),
        ("/a?%61pi_key=%6b", vec![], "k", "/a"),
        (
            "https://a.example/p?api_key=k&z",
            vec![],
            "k",
            "https://a.example/p?z",
        ),
        (
            "/a",
            vec![("cookie", "a=1; key=k; b=2")],
            "k",
            "/a\ncookie: a=1; b=2",
        ),
        ("/a", vec![("cookie", "key=\"k\"")], "k", "/a"),
        (
            "/a",
            vec![("cookie", "a=1"), ("cookie", "key=k")],
            "k",
            "/a\ncookie: a=1",
        ),
        (
            "/a?API_KEY=k&api_key2=k",
            vec![],
            "none",
            "/a?API_KEY=k&api_key2=k",
        ),
        (
            "/a",
            vec![("authorization", "Basic k")],
            "none",
            "/a\nauthorization: Basic k",
        ),
        (
            "/a",
            vec![("cookie", "KEY=k; akey=k")],
            "none",
            "/a\ncookie: KEY=k; akey=k",
        ),
        ("/a?api_key", vec![], "", "/a"),
    ] {
        let (key, rest) = take(&rule, uri, &headers);
        assert_eq!(
            (key.as_str(), rest.as_str()),
            (found, left),
            "{uri} {headers:?}"
        );
    }
}

#[test]
fn several_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rule = rule(folder.path());
    for (uri, headers) in [
        ("/?api_key=a&api_key=a", vec![]),
        ("/?api_key=a&api%5fkey=b", vec![]),
        ("/?api_key=a", vec![("authorization", "Bearer a")]),
        ("/?api_key=a", vec![("cookie", "key=a")]),
        (
            "/",
            vec![("authorization", "Bearer a"), ("authorization", "Bearer a")],
        ),
        (
            "/",
            vec![("authorization", "Bearer a"), ("authorization", "Basic b")],
        ),
        ("/", vec![("cookie", "key=a; key=b")]),
        ("/", vec![("cookie", "key=a"), ("cookie", "key=b")]),
    ] {
        let (found, left) = take(&rule, uri, &headers);
        assert_eq!(found, "several", "{uri} {headers:?}");
        assert!(!left.contains("Bearer") && !left.contains("key="), "{left}");
    }
}

#[test]
fn key_at_another_place_opens_nothing_and_is_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let rule = rule(folder.path());
    let key = ApiKey::generate().unwrap();
    let key = key.reveal();
    let escaped = key.replace('_', "%5F");
    let uri = format!("/a?other={key}&b=1&{escaped}=x&c={escaped}");
    let referer = format!("https://a.example/?api_key={key}");
    let cookie = format!("a=1; other={key}");
    let headers = [
        ("x-api-key", key),
        ("authorization", key),
        ("referer", referer.as_str()),
        ("cookie", cookie.as_str()),
        ("x-harmless", "1"),
    ];
    let (found, left) = take(&rule, &uri, &headers);
    assert_eq!(found, "none");
    assert_eq!(left, "/a?b=1\ncookie: a=1\nx-harmless: 1");
    let logged = logged_query(uri.split_once('?').unwrap().1);
    assert_eq!(logged, "other=***&b=1&***&c=***");
    assert_eq!(logged_query("a=%20&b"), "a=%20&b");
}

#[test]
fn open_paths_are_whole_segments() {
    let folder = tempfile::tempdir().unwrap();
    let rule = rule(folder.path());
    for (path, open) in [
        ("/public", true),
        ("/public/a", true),
        ("/publicity", false),
        ("/Public", false),
        ("/", false),
        ("/a/public", false),
    ] {
        assert_eq!(rule.is_open(path), open, "{path}");
    }
}
