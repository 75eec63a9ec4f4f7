"""A server of MCP on standard input and output that behaves as its first argument says."""

import json
import os
import sys
import time

how = sys.argv[1]


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tool(name, description="", schema=None):
    return {"name": name, "description": description, "inputSchema": schema or {"type": "object"}}


def tools(cursor):
    if how == "pages":
        page = int(cursor or 0)
        return {"tools": [tool(f"t{page}_{n}") for n in range(10)], "nextCursor": str(page + 1)}
    if how == "names":
        names = ["__proto__", "constructor", "then", "a-b", "a_b", "a.b", "x */ evil(); /*", "", "n" * 500, "1st"]
        return {"tools": [tool(name, "ends */ a comment\u2028 \u001b[2J") for name in names]}
    if how == "bombs":
        deep = {"type": "string"}
        for _ in range(60):
            deep = {"type": "array", "items": deep}
        wide = {"type": "object", "properties": {f"k{n}": {"type": "string"} for n in range(20000)}}
        loop = {"type": "object", "properties": {"next": {"$ref": "#"}}}
        defs = {f"d{n}": {"type": "object", "properties": {f"p{m}": {"$ref": f"#/$defs/d{n + 1}"} for m in range(9)}}
                for n in range(20)}
        tree = {"$ref": "#/$defs/d0", "$defs": defs}
        return {"tools": [tool("deep", "x" * 100000, deep), tool("wide", "", wide), tool("loop", "", loop),
                          tool("tree", "", tree)]}
    return {"tools": [tool("echo", "Gives its input"), tool("fail", "Fails"), tool("huge", "Answers with too much"),
                      tool("slow", "Never answers"), tool("end", "Ends the server"), tool("image", "Gives an image"),
                      tool("remove", "Removes things"), tool("seen", "Gives descriptors and variables")]}


def call(id, name, arguments):
    if name == "echo":
        say({"id": id, "result": {"content": [{"type": "text", "text": "echo"}], "structuredContent": arguments}})
    elif name == "fail":
        say({"id": id, "result": {"content": [{"type": "text", "text": "no\n" * 10000}], "isError": True}})
    elif name == "huge":
        say({"id": id, "result": {"content": [{"type": "text", "text": "x" * (5 << 20)}]}})
    elif name == "seen":
        files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        say({"id": id, "result": {"content": [], "structuredContent": {
            "files": files, "variables": sorted(os.environ)}}})
    elif name == "end":
        sys.exit(3)
    elif name == "image":
        say({"id": id, "result": {"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}})
    elif name == "remove":
        say({"id": id, "result": {"content": [{"type": "text", "text": "removed"}]}})


if how == "broken":
    print("no database at /srv/db", file=sys.stderr)
    sys.exit(1)
if how == "noise":
    import threading

    def lines():
        while True:
            os.write(2, b"noise\n" * 100)

    threading.Thread(target=lines, daemon=True).start()
if how == "mute":
    sys.stdin.read()
    sys.exit()
if how == "stubborn":
    tools_of_stubborn = {"tools": [tool(f"pid_{os.getpid()}")]}
    tools = lambda cursor: tools_of_stubborn  # noqa: E731
if how == "garbage":
    print("this is not MCP")
for line in sys.stdin:
    message = json.loads(line)
    method, id = message.get("method"), message.get("id")
    if method == "initialize":
        say({"id": id, "result": {"protocolVersion": message["params"]["protocolVersion"],
                                  "capabilities": {"tools": {"listChanged": True}},
                                  "serverInfo": {"name": how, "version": "1"}}})
    elif method == "tools/list":
        say({"id": id, "result": tools((message.get("params") or {}).get("cursor"))})
        if how == "flood":
            # Requests whose answers are never read.
            for n in range(100000):
                say({"id": f"f{n}", "method": "ping"})
    elif method == "tools/call":
        call(id, message["params"]["name"], message["params"].get("arguments", {}))
if how == "stubborn":
    # The input has ended, and this program goes on.
    time.sleep(600)
