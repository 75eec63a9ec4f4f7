//! The tables of `data_guard`.

use crate::keys::{FILE, HOST, Key, Kind, METHOD, NETWORK, PORTS, Section, TARGET, TEXT};

/// `data_guard`.
pub(crate) const DATA_GUARD: Section = Section {
    name: "data_guard",
    doc: "What an instance may reach with `fetch` and `WebSocket`. What no entry allows is refused; without entries nothing can be reached. Private, loopback, link-local and other special addresses are refused even then, unless `allow_private` lists them.",
    keys: &[
        Key::with(
            "enabled",
            Kind::Flag,
            "true",
            "The guard can't be switched off; the key is there to say so.",
        ),
        Key::maybe(
            "outbound_whitelist",
            Kind::List(&Kind::Text(TARGET)),
            "What may be reached: a host name, `*.` and a name for all below it, or a network; with `http://` or `https://` before it where only that is meant, and `:` and a port behind it. Without a port 80 and 443 are meant. `\"*\"` is every public host.",
        )
        .like(&["[api.example.com, \"*.example.org:443\", \"10.0.0.0/8:5432\"]"]),
        Key::maybe(
            "rules",
            Kind::List(&Kind::Section(&RULE)),
            "The same where methods or several ports matter.",
        ),
        Key::maybe(
            "allow_private",
            Kind::List(&Kind::Text(NETWORK)),
            "Special networks that may be reached all the same, where an entry allows the host.",
        )
        .like(&["[\"10.0.0.0/8\", \"127.0.0.1\"]"]),
        Key::maybe(
            "refuse",
            Kind::List(&Kind::Text(NETWORK)),
            "Networks that are never reached, such as the machine's own public addresses.",
        ),
        Key::maybe(
            "ca",
            Kind::List(&Kind::Text(FILE)),
            "Roots, PEM, to trust beside the public ones.",
        ),
        Key::with(
            "connect_timeout",
            Kind::Time(10, 600_000),
            "10s",
            "Until a connection stands, names resolved and TLS through.",
        ),
        Key::with(
            "response_timeout",
            Kind::Time(10, 3_600_000),
            "30s",
            "Until the head of the response is there.",
        ),
        Key::with(
            "idle_timeout",
            Kind::Time(10, 3_600_000),
            "30s",
            "Between two pieces of a body.",
        ),
        Key::with(
            "timeout",
            Kind::Time(10, 86_400_000),
            "15m",
            "For a whole exchange over HTTP, from the guest's call to the last byte.",
        ),
        Key::with(
            "max_request",
            Kind::Size(0, 1 << 40),
            "100mb",
            "Bytes of one request's body.",
        ),
        Key::with(
            "max_response",
            Kind::Size(0, 1 << 40),
            "100mb",
            "Bytes of one response's body as received.",
        ),
        Key::with(
            "max_decompressed",
            Kind::Size(0, 1 << 40),
            "200mb",
            "Bytes of one response's body after decompression.",
        ),
        Key::with(
            "concurrent",
            Kind::Whole(1, 100_000),
            "100",
            "Requests at the same time.",
        ),
        Key::with(
            "queue",
            Kind::Whole(0, 100_000),
            "256",
            "Requests that wait for others to end; beyond it they are refused.",
        ),
        Key::with(
            "websockets",
            Kind::Whole(0, 100_000),
            "64",
            "WebSockets at the same time.",
        ),
        Key::with(
            "rate",
            Kind::Whole(1, 1_000_000),
            "10000",
            "Requests a second; beyond it they are refused.",
        ),
        Key::maybe(
            "bandwidth",
            Kind::Size(1 << 10, 1 << 40),
            "Bytes a second, both directions together; beyond it they wait.",
        ),
        Key::maybe(
            "total_requests",
            Kind::Whole(0, 1 << 50),
            "Requests in each `total_period`; beyond it they are refused.",
        ),
        Key::maybe(
            "total_bytes",
            Kind::Size(0, 1 << 50),
            "Bytes in each `total_period`, both directions together; beyond it requests are refused.",
        ),
        Key::derived(
            "total_period",
            Kind::Time(1000, 31_536_000_000),
            "as long as Stockade runs",
            "How often the totals begin again.",
        )
        .like(&["1day"]),
    ],
};

/// One entry of `rules`.
pub(super) const RULE: Section = Section {
    name: "rule",
    doc: "One thing that is allowed: hosts or networks, at these ports, with these methods and schemes.",
    keys: &[
        Key::derived(
            "name",
            Kind::Text(TEXT),
            "its place in the list",
            "For logs.",
        ),
        Key::maybe(
            "hosts",
            Kind::List(&Kind::Text(HOST)),
            "Host names, `*.` before one for all below it.",
        ),
        Key::maybe(
            "addresses",
            Kind::List(&Kind::Text(NETWORK)),
            "Networks, for URLs with an address. With `hosts`: what every address of these hosts must be in.",
        ),
        Key::derived(
            "ports",
            Kind::List(&Kind::Text(PORTS)),
            "those of the schemes",
            "Ports or ranges.",
        )
        .like(&["[443, 8000-8999]"]),
        Key::derived(
            "methods",
            Kind::List(&Kind::Text(METHOD)),
            "all",
            "Methods; a WebSocket is opened with GET.",
        )
        .like(&["[GET, HEAD]"]),
        Key::derived(
            "schemes",
            Kind::List(&Kind::Words(&["http", "https"])),
            "both",
            "Schemes; `ws` counts as `http`, `wss` as `https`.",
        ),
    ],
};
