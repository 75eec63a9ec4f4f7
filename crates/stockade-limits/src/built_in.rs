//! The modules that guests may import and that are not theirs.

/// What Node calls its own modules, as far as guests have them, without `node:`.
pub const NODE_MODULES: &[&str] = &[
    "assert",
    "assert/strict",
    "async_hooks",
    "buffer",
    "child_process",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "dns/promises",
    "events",
    "fs",
    "fs/promises",
    "http",
    "https",
    "module",
    "net",
    "os",
    "path",
    "path/posix",
    "perf_hooks",
    "process",
    "querystring",
    "stream",
    "stream/promises",
    "stream/web",
    "string_decoder",
    "timers",
    "timers/promises",
    "tls",
    "tty",
    "url",
    "util",
    "util/types",
    "worker_threads",
    "zlib",
];

/// What handlers of sites import by these names, in serve mode alone.
pub const SITE_MODULES: &[&str] = &[
    "cloudflare:sockets",
    "cloudflare:workers",
    "stockade:sockets",
];

/// The name under which a module of Node is loaded, `node:` and its name; `None` where guests have no such module.
#[must_use]
pub fn node_module(specifier: &str) -> Option<String> {
    let name = specifier.strip_prefix("node:").unwrap_or(specifier);
    NODE_MODULES.contains(&name).then(|| format!("node:{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_of_node_has_one_name_however_it_is_written() {
        assert_eq!(node_module("node:net").as_deref(), Some("node:net"));
        assert_eq!(
            node_module("dns/promises").as_deref(),
            Some("node:dns/promises")
        );
        assert_eq!(node_module("node:node:net"), None);
        assert_eq!(node_module("./net"), None);
        assert_eq!(node_module("cluster"), None);
    }
}
