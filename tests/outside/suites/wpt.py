"""What runs of a test of WPT in a guest, as classic scripts in their order: the harness, what its `META: script=` lines
name, the test. Its results are collected by a script after it."""

import re

BEFORE = """
self.GLOBAL = { isWindow: () => false, isWorker: () => true, isShadowRealm: () => false };
self.location ??= { href: "https://web-platform.test/", origin: "https://web-platform.test", protocol: "https:",
  host: "web-platform.test", hostname: "web-platform.test", pathname: "/", search: "", hash: "" };
{
  // Data that tests load by a path of their own tree comes from the host.
  const { fetch } = self;
  self.fetch = function (input, init) {
    if (typeof input !== "string" || /^[a-z][a-z0-9+.-]*:|^$/i.test(input)) return Reflect.apply(fetch, self, arguments);
    return NETWORK.request("resource", input).then((bytes) => new Response(bytes));
  };
}
"""
HARNESS = """
add_result_callback(({ name, status, message, stack }) => {
  const ok = status === 0;
  const text = `${message ?? ""}\\n${stack ?? ""}`.slice(0, 2000);
  // 3: the test itself says that it does not apply
  NETWORK.send("result", { name, ok, ...(ok ? {} : { error: text }), ...(status === 3 ? { missing: "a precondition" } : {}) });
});
add_completion_callback((_, { status, message }) => {
  if (status !== 0) NETWORK.send("result", { name: "(harness)", ok: false, error: String(message) });
  NETWORK.send("result", { end: true });
});
"""


SERVER = re.compile(r"\.py\b|get-host-info|RESOURCES_DIR|\.sub\.(js|any)|\{\{(host|domains|ports)")


def named(root, file):
    """The files that `META: script=` lines of a test name."""
    for name in re.findall(r"^// META: script=(\S+)", (root / file).read_text(), re.M):
        name = name.split("?")[0]
        name = {"/resources/WebIDLParser.js": "/resources/webidl2/lib/webidl2.js"}.get(name, name)
        yield root / name.lstrip("/") if name.startswith("/") else (root / file).parent / name


def needs_server(root, file):
    """Whether a test, or a script that it names, requests something from WPT's own server that is not a file."""
    for path in (root / file, *named(root, file)):
        if SERVER.search(path.name) or path.is_file() and SERVER.search(path.read_text(errors="replace")):
            return True
    return False


def scripts(root, file, folder):
    paths = list(named(root, file))
    before = folder / "before.js"
    before.write_text(BEFORE)
    collect = folder / "collect.js"
    collect.write_text(HARNESS)
    return [str(path) for path in (before, root / "resources/testharness.js", collect, *paths, root / file)]
