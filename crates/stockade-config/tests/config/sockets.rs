//! Connections of sites: what they may connect to, and listeners whose connections they take.

use std::time::Duration;

use stockade_config::{Config, Protocol, TlsUse};

use crate::{good, refused, root, web, web_refused};

#[test]
fn sockets_allow_nothing_by_default_and_have_bounds() {
    let sockets = web("").sockets;
    assert!(sockets.connect.is_empty() && sockets.allow_private.is_empty());
    assert_eq!((sockets.concurrent, sockets.rate), (64, Some(100)));
    assert_eq!(sockets.idle_timeout, Duration::from_secs(600));
    assert_eq!(sockets.lifetime, Duration::from_secs(24 * 3600));
    assert_eq!(web("").limits.connections, 1000);
}

#[test]
fn rule_of_sockets_requires_tls_unless_it_says_otherwise() {
    let rules = web(
        "sockets: {connect: [{hosts: [db.example], ports: [5432, 6000-6100]}, {name: plain, addresses: [10.0.0.0/8], \
         ports: [25], tls: off}]}",
    );
    let [tls, plain] = rules.sockets.connect.as_slice() else {
        panic!("two rules");
    };
    assert_eq!((tls.tls, plain.tls), (TlsUse::Required, TlsUse::Off));
    assert_eq!(tls.name, "instances.web.sockets.connect[0]");
    assert_eq!((plain.name.as_str(), plain.ports[0].first), ("plain", 25));
}

#[test]
fn rule_of_sockets_that_allows_nothing_or_half_is_refused() {
    let rule = |keys: &str| web_refused(&format!("sockets: {{connect: [{{{keys}}}]}}"));
    let without = rule("ports: [1]");
    assert!(
        without.contains("does not say what may be reached"),
        "{without}"
    );
    assert!(rule("hosts: [a.example]").contains("at which ports"));
    let datagrams = rule("hosts: [a.example], ports: [1], protocol: udp, tls: off");
    assert!(datagrams.contains("datagrams have no TLS"), "{datagrams}");
    assert!(rule("hosts: [a.example], ports: []").contains("ports"));
    assert!(rule("hosts: [10.0.0.1], ports: [1]").contains("is an address"));
    assert!(
        rule("hosts: [a.example], ports: [1], tls: maybe").contains("required, allowed or off")
    );
    let half = rule("hosts: [a.example], ports: [1], client_key: a.pem");
    assert!(half.contains("used together"), "{half}");
}

#[test]
fn rule_leads_through_a_tunnel_or_a_proxy_and_not_both() {
    let lines = |keys: &str| {
        format!(
            "sockets: {{connect: [{{hosts: [a.example], ports: [1], {keys}}}]}}\n\
             data_guard: {{rules: [{{hosts: [a.example], {keys}}}]}}\n\
             grants: {{OFFICE: {{wireguard_tunnel: {{config: {{file: ./wg.conf}}}}}}}}"
        )
    };
    let tunnel = web(&lines("via: OFFICE"));
    assert_eq!(tunnel.sockets.connect[0].via.as_deref(), Some("OFFICE"));
    let proxy = "proxy: \"socks5://127.0.0.1:1080\"";
    assert!(web(&lines(proxy)).data_guard.rules[0].proxy.is_some());
    let both = web_refused(&lines(&format!("via: OFFICE, {proxy}")));
    for at in ["sockets.connect[0].proxy", "data_guard.rules[0].proxy"] {
        let line = format!("instances.web.{at}: ");
        assert!(both.contains(&line), "{line}: {both}");
    }
    assert_eq!(
        both.matches("`via` or `proxy`, not both").count(),
        2,
        "{both}"
    );
}

#[test]
fn listener_may_give_its_connections_to_an_instance() {
    let file = |listener: &str| {
        format!(
            "version: \"1.0\"\nlisteners: [{{address: \"127.0.0.1:8080\"}}, {{address: \"127.0.0.1:25\", {listener}}}]\n\
             instances: {{mail: {{code: ./a.ts, urls: [\"/\"]}}, page: {{assets: ./b, urls: [\"/b\"]}}}}\n"
        )
    };
    let config = good(&file("connect: mail, connections: 5")).config;
    let listener = &config.listeners[1];
    assert_eq!(listener.connect.as_deref(), Some("mail"));
    assert_eq!(
        (listener.connections, config.listeners[0].connections),
        (5, 1000)
    );
    for (listener, why) in [
        ("connect: male", "there is no instance \"male\" with code"),
        ("connect: page", "there is no instance \"page\" with code"),
        ("connections: 5", "connections that an instance gets"),
        ("connect: mail, http2: true", "speaks no HTTP"),
        (
            "connect: mail, proxy_protocol: required",
            "no proxy is trusted",
        ),
    ] {
        let found = refused(&file(listener));
        assert!(found.contains(why), "{listener}: {found}");
    }
    // Datagrams, at a port that a listener of TCP can have too.
    let datagrams = format!(
        "{}tls: {{certificates: [{{cert: a.pem, key: a.key}}]}}\n",
        file("connect: mail, protocol: udp, datagrams: 7, amplification: 2")
            .replace("127.0.0.1:25", "127.0.0.1:8080")
    );
    let listeners = good(&datagrams).config.listeners;
    let udp = &listeners[1];
    assert_eq!((udp.protocol, udp.tls.is_none()), (Protocol::Udp, true));
    assert_eq!((udp.datagrams, udp.amplification), (7, 2));
    assert_eq!(udp.idle_timeout, Duration::from_secs(60));
    assert_eq!(listeners[0].idle_timeout, Duration::from_secs(600));
    for (listener, why) in [
        ("protocol: udp", "connections that an instance gets"),
        ("connect: mail, datagrams: 5", "the key is for datagrams"),
        (
            "connect: mail, amplification: 5",
            "the key is for datagrams",
        ),
        (
            "connect: mail, protocol: udp, tls: true",
            "no section `tls`",
        ),
        (
            "connect: mail, protocol: udp, tls: {certificates: [{cert: a.pem, key: a.key}]}",
            "datagrams have no TLS",
        ),
        (
            "connect: mail, protocol: udp, proxy_protocol: optional",
            "datagrams have no PROXY header",
        ),
    ] {
        let found = refused(&file(listener));
        assert!(found.contains(why), "{listener}: {found}");
    }
    // It is not one that clients of HTTP find: a site with TLS only is not reached by it.
    let alone = "version: \"1.0\"\nlisteners: [{address: \"127.0.0.1:25\", connect: mail}]\n\
                 instances: {mail: {code: ./a.ts, urls: [\"/\"]}}\n";
    assert!(refused(alone).contains("every listener gives its connections"));
}

#[test]
fn example_of_connections_loads_with_all_it_names() {
    let path = root().join("examples/grants/sockets/stockade.yaml");
    let loaded = Config::load(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    assert_eq!(loaded.config.listeners[1].connect.as_deref(), Some("shout"));
    assert_eq!(loaded.config.listeners[2].protocol, Protocol::Udp);
}
