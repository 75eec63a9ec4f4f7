//! Address literals, in every form in which guests write them.

use stockade_broker::{Reason, Rule};

use super::servers;
use super::setting::{Setting, get, rule, text};

#[tokio::test]
async fn loopback_in_any_form_is_refused_unless_listed() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let closed = setting.open(|policy| {
        policy.allow_private.clear();
        let all = rule(&["*", "127.0.0.1", "::1"]);
        let any = Rule {
            addresses: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            ..rule(&[])
        };
        policy.rules = vec![all, any];
    });
    let port = server.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "127.255.255.254",
    ] {
        let error = get(&closed, &format!("http://{host}:{port}/"))
            .await
            .unwrap_err();
        let refusal = error.refusal().unwrap_or_else(|| panic!("{host}: {error}"));
        assert!(
            matches!(refusal.reason, Reason::AddressNotAllowed(_)),
            "{host}: {error}"
        );
    }
    assert_eq!(server.connections(), 0);
    // The control: the same target, listed.
    let open = setting.open(|_| ());
    assert_eq!(
        text(get(&open, &format!("http://127.1:{port}/")).await.unwrap()).await,
        "ok"
    );
}

#[tokio::test]
async fn inner_networks_are_refused_by_default() {
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.rules = vec![Rule {
            addresses: vec!["0.0.0.0/0".parse().unwrap()],
            ..rule(&[])
        }];
    });
    for host in [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
    ] {
        let error = get(&egress, &format!("http://{host}/")).await.unwrap_err();
        assert!(error.refusal().is_some(), "{host}: {error}");
    }
}

#[tokio::test]
async fn url_that_hides_its_host_is_refused() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.rules = vec![rule(&["good.example"])]);
    let port = server.port();
    for url in [
        format!("http://good.example@127.0.0.1:{port}/"),
        format!("http://good.example:80@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/@good.example"),
        format!("http://127.0.0.1:{port}/?x=http://good.example/"),
        format!("http://good.example.127.0.0.1.nip.example:{port}/"),
    ] {
        let Ok(uri) = url.parse::<http::Uri>() else {
            continue;
        };
        let request = http::Request::get(uri)
            .body(super::setting::empty())
            .unwrap();
        assert!(egress.clone().fetch(request).await.is_err(), "{url}");
    }
    assert_eq!(server.connections(), 0);
}
