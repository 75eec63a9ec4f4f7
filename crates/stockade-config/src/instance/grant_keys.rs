//! The tables of what an instance is granted: assets, secrets, bindings, state, folders.

use crate::keys::{
    FOLDER, HEADER, HOST, INSTANCE_NAME, Key, Kind, SECRET_FILE, Section, TEXT, VARIABLE,
};

/// `assets`.
pub(super) const ASSETS: Section = Section {
    name: "assets",
    doc: "Files served without running code. Hidden files and what links lead to outside the folder are never served. A `name.br` or `name.gz` beside a file is served to clients that take it.",
    keys: &[
        Key::needed("folder", Kind::Text(FOLDER), "The folder.").like(&["./public"]),
        Key::maybe(
            "binding",
            Kind::Text(VARIABLE),
            "The name in `env` by which code asks for files: `env.ASSETS.fetch(request)`.",
        )
        .like(&["ASSETS"]),
        Key::with(
            "index",
            Kind::Text(TEXT),
            "index.html",
            "The file served for a folder.",
        ),
        Key::maybe(
            "fallback",
            Kind::Text(TEXT),
            "A file in the folder for paths that match none: the page of a single-page application, or one that says so. With code, paths that match no file go there instead.",
        )
        .like(&["index.html", "404.html"]),
        Key::derived(
            "fallback_status",
            Kind::Whole(200, 404),
            "404 where the file is named 404, else 200",
            "200 or 404.",
        ),
        Key::with(
            "order",
            Kind::Words(&["files_first", "code_first"]),
            "files_first",
            "Who is asked first where there is code too. With `code_first` files are served through `binding` only.",
        ),
        Key::with(
            "compress",
            Kind::Flag,
            "true",
            "Compresses text for clients that take it.",
        ),
        Key::maybe(
            "cache_control",
            Kind::Text(TEXT),
            "`cache-control` of every file.",
        )
        .like(&["\"public, max-age=3600\""]),
        Key::maybe(
            "headers",
            Kind::Map(HEADER, &Kind::Text(TEXT)),
            "Further headers of every file.",
        )
        .like(&["{x-content-type-options: nosniff}"]),
    ],
};

/// One entry of `secrets`.
pub(super) const SECRET: Section = Section {
    name: "secret",
    doc: "A secret: from `file` or from `variable`. With `hosts` the guest never sees it: it gets a placeholder, and the broker fills in the secret in headers of requests to those hosts.",
    keys: &[
        Key::maybe(
            "file",
            Kind::Text(SECRET_FILE),
            "A file with it, at most 64 KiB of text; one line end at its end does not count.",
        ),
        Key::maybe(
            "variable",
            Kind::Text(VARIABLE),
            "An environment variable of the supervisor.",
        ),
        Key::maybe(
            "hosts",
            Kind::List(&Kind::Text(HOST)),
            "Where the broker fills it in.",
        )
        .like(&["[api.example.com]"]),
        Key::with(
            "over_plain_http",
            Kind::Flag,
            "false",
            "With `hosts`: fills it in over plain HTTP too, where whoever listens on the way reads it.",
        ),
        Key::with(
            "in_urls",
            Kind::Flag,
            "false",
            "With `hosts`: fills it in in paths and queries too, which servers write to their logs.",
        ),
    ],
};

/// One entry of `bindings`.
pub(super) const BINDING: Section = Section {
    name: "binding",
    doc: "Another instance, called without the network.",
    keys: &[Key::needed(
        "instance",
        Kind::Text(INSTANCE_NAME),
        "Its name.",
    )],
};

/// `state`.
pub(super) const STATE: Section = Section {
    name: "instance_state",
    doc: "The state shared by an instance's mirrors.",
    keys: &[
        Key::with(
            "binding",
            Kind::Text(VARIABLE),
            "STATE",
            "The name it has in `env`.",
        ),
        Key::derived(
            "storage",
            Kind::Size(0, 1 << 50),
            "`limits.storage`",
            "Bytes stored.",
        ),
        Key::with(
            "max_value",
            Kind::Size(1, 16 << 20),
            "1mb",
            "Bytes of one value.",
        ),
        Key::with(
            "write_rate",
            Kind::Whole(1, 1_000_000),
            "10000",
            "Writes a second, over time; beyond it they wait.",
        ),
    ],
};

/// One entry of `files`.
pub(super) const FILES: Section = Section {
    name: "files",
    doc: "A folder that an instance may read or write. Nothing outside it is reached, whatever links it holds.",
    keys: &[
        Key::needed("path", Kind::Text(FOLDER), "The folder.").like(&["./data"]),
        Key::with(
            "binding",
            Kind::Text(VARIABLE),
            "FILES",
            "The name it has in `env`.",
        ),
        Key::with(
            "mode",
            Kind::Words(&["read", "write"]),
            "read",
            "`write` reads too, and makes, changes and deletes.",
        ),
        Key::derived(
            "storage",
            Kind::Size(0, 1 << 50),
            "`limits.storage`",
            "Bytes stored in it, with `mode: write`.",
        ),
        Key::with(
            "max_file",
            Kind::Size(1, 1 << 40),
            "100mb",
            "Bytes of one file.",
        ),
    ],
};
