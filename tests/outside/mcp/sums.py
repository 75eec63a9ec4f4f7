"""A server of the official Python SDK, over HTTP at the port that it prints: sums."""

import socket

from mcp.server import MCPServer

with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    port = one.getsockname()[1]
server = MCPServer("sums", log_level="ERROR")


@server.tool()
def add(numbers: list[float]) -> float:
    """Adds numbers"""
    return sum(numbers)


@server.tool()
def fail() -> str:
    """Fails"""
    raise ValueError("no sum today")


print(port, flush=True)
server.run("streamable-http", host="127.0.0.1", port=port)
