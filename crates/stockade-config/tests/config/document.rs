//! The example of the document that the configuration follows.

use std::time::Duration;

use stockade_config::{ClientAuthMode, PortRange, Scaling, TlsVersion};
use stockade_http::{Host, HostPattern, Scheme};
use stockade_limits::Wx;

use crate::good;

const DOCUMENT: &str = r#"
version: "1.0"
instance:
  memory_limit: 512mb
  cpu_limit: 2.0
  timeout_seconds: 300
  
security:
  data_guard:
    enabled: true
    outbound_whitelist:
      - "api.example.com"
      - "storage.example.net"
  wx_policy:
    strict: true
    audit_logging: true
    
network:
  urls:
    - "https://service1.example.com"
    - "https://service2.example.com"
  tls:
    enabled: true
    min_version: "1.2"
    cert_path: "/path/to/server.crt"
    key_path: "/path/to/server.key"
    enable_mtls: true
    client_ca_path: "/path/to/client-ca.crt"
    require_client_cert: true
  
scaling:
  mirrors: 3
  autoscale:
    min_instances: 2
    max_instances: 10
    cpu_threshold: 75
"#;

#[test]
fn document_example_loads_as_it_is() {
    let loaded = good(DOCUMENT);
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    let config = loaded.config;
    let main = &config.instances["main"];
    assert_eq!(main.limits.memory, 512 << 20);
    assert_eq!(main.limits.cores.fraction(), 1.0);
    assert_eq!(main.limits.timeout, Duration::from_secs(300));
    assert_eq!((main.wx, main.wx_audit), (Wx::Strict, true));
    assert_eq!(main.code.as_deref(), Some("/srv".as_ref()));
    let hosts: Vec<_> = main
        .data_guard
        .rules
        .iter()
        .map(|rule| &rule.hosts[0])
        .collect();
    assert_eq!(
        *hosts[0],
        HostPattern::Exact(Host::Name("api.example.com".to_owned()))
    );
    assert_eq!(
        *hosts[1],
        HostPattern::Exact(Host::Name("storage.example.net".to_owned()))
    );
    assert_eq!(
        main.data_guard.rules[0].ports,
        [PortRange::one(80), PortRange::one(443)]
    );
    assert_eq!(main.urls.len(), 2);
    assert_eq!(main.urls[0].scheme, Some(Scheme::Https));
    assert_eq!(
        main.urls[0].host,
        HostPattern::Exact(Host::Name("service1.example.com".to_owned()))
    );
    let Scaling::Auto(auto) = &main.scaling else {
        panic!("{:?}", main.scaling)
    };
    assert_eq!((auto.min, auto.initial, auto.max), (2, 3, 10));
    assert_eq!(auto.cpu_percent, 75.0);
    let listener = &config.listeners[0];
    assert_eq!(listener.address.to_string(), "127.0.0.1:8443");
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.min_version, TlsVersion::V1_2);
    assert_eq!(
        tls.certificates[0].key.to_str(),
        Some("/path/to/server.key")
    );
    assert_eq!(tls.client_auth.mode, ClientAuthMode::Required);
    assert_eq!(
        tls.client_auth.ca[0].to_str(),
        Some("/path/to/client-ca.crt")
    );
}

#[test]
fn document_example_without_mtls_asks_for_no_certificate() {
    let text = DOCUMENT.replace("enable_mtls: true", "enable_mtls: false");
    let tls = good(&text).config.listeners[0].tls.clone().unwrap();
    assert_eq!(tls.client_auth.mode, ClientAuthMode::None);
    let text = DOCUMENT.replace("require_client_cert: true", "require_client_cert: false");
    let tls = good(&text).config.listeners[0].tls.clone().unwrap();
    assert_eq!(tls.client_auth.mode, ClientAuthMode::Optional);
}

#[test]
fn document_example_below_tls_1_2_is_refused() {
    let text = DOCUMENT.replace("min_version: \"1.2\"", "min_version: \"1.1\"");
    let text = crate::refused(&text);
    assert!(
        text.contains("network.tls.min_version: \"1.1\" is not allowed"),
        "{text}"
    );
    assert!(text.contains("allowed: 1.2 or 1.3"), "{text}");
}
