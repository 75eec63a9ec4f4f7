"""Runs untrusted JavaScript and TypeScript, with limits, in a container of its own.

    from stockade import Sandbox

    with Sandbox(level="container", memory="64mb") as sandbox:
        outcome = sandbox.run("await tools.add({ a: 1, b: 2 })", tools={"add": lambda a, b: a + b})
        print(outcome.result)
"""

from ._aio import AsyncSandbox, AsyncSession
from ._options import RunOptions, SandboxOptions, SessionOptions
from ._sandbox import Run, Sandbox, Session
from ._supervisor import find_program
from .errors import GuestError, StockadeError
from .outcome import ConsoleLine, Outcome, Refused, Usage
from .tools import Tool

__all__ = [
    "AsyncSandbox",
    "AsyncSession",
    "ConsoleLine",
    "GuestError",
    "Outcome",
    "Refused",
    "Run",
    "RunOptions",
    "Sandbox",
    "SandboxOptions",
    "Session",
    "SessionOptions",
    "StockadeError",
    "Tool",
    "Usage",
    "find_program",
]
