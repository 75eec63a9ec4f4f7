"""What came of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional

from .errors import GuestError, StockadeError


@dataclass(frozen=True)
class ConsoleLine:
    """One call of the guest's `console`. `level` is `debug`, `info`, `warn` or `error`."""

    level: str
    text: str


@dataclass(frozen=True)
class Usage:
    """What a run used. Times are in milliseconds; `memory_bytes` is the most that was measured, where it is known."""

    cpu_ms: float
    elapsed_ms: float
    memory_bytes: Optional[int]


@dataclass(frozen=True)
class Refused:
    """A host that the guest tried to reach and may not."""

    host: str
    port: Optional[int]
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What came of one run: `result`, or `error` if the run failed. The result is JSON, and not to be trusted."""

    result: Any
    error: Optional[GuestError]
    console: List[ConsoleLine]
    console_truncated: bool
    usage: Usage
    refused: List[Refused]
    level: str
    v8: str
    state_lost: bool

    @staticmethod
    def from_wire(fields: Mapping[str, Any]) -> Outcome:
        """Reads the outcome that a supervisor sent."""
        try:
            return Outcome._read(fields)
        except (AttributeError, KeyError, TypeError) as error:
            raise StockadeError("protocol", f"the supervisor sent an outcome that this package does not know ({error!r})") from None

    @staticmethod
    def _read(fields: Mapping[str, Any]) -> Outcome:
        usage = fields.get("usage") or {}
        error = GuestError(fields["error"]) if fields.get("error") else None
        outcome = Outcome(
            result=fields.get("result"),
            error=error,
            console=[ConsoleLine(line["level"], line["text"]) for line in fields.get("console", [])],
            console_truncated=bool(fields.get("consoleTruncated")),
            usage=Usage(usage.get("cpuMs", 0.0), usage.get("elapsedMs", 0.0), usage.get("memoryBytes")),
            refused=[Refused(one["host"], one.get("port"), one["reason"]) for one in fields.get("refused", [])],
            level=fields.get("level", ""),
            v8=fields.get("v8", ""),
            state_lost=bool(fields.get("stateLost")),
        )
        if error:
            error.outcome = outcome
        return outcome
