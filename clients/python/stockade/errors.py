"""What a run can end with besides a result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Mapping, Optional

if TYPE_CHECKING:
    from .outcome import Outcome

# What a terminal would obey, and what reorders text: everything of a guest is printed without it.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text of a guest as a terminal may print it: control characters are escapes."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class StockadeError(Exception):
    """Why a run has no outcome: wrong options, a bound of the supervisor, no supervisor, or one that ended.

    `kind` is a stable word: `closed`, `foreign_socket`, `forked`, `no_program`, `no_supervisor`, `not_json`, `protocol`,
    `session_ended`, `supervisor_ended`, or one of the supervisor, such as `invalid_params` or `too_many`. `limit` and `fix` are
    those that the supervisor states.
    """

    def __init__(self, kind: str, message: str, *, limit: Optional[float] = None, fix: Optional[str] = None) -> None:
        super().__init__(f"{message}\n  fix: {fix}" if fix and "\n  fix: " not in message else message)
        self.kind = kind
        self.limit = limit
        self.fix = fix

    def again(self) -> StockadeError:
        """An equal error, for another thread: one that is raised twice keeps the frames of both."""
        return StockadeError(self.kind, str(self), limit=self.limit, fix=self.fix)

    def __reduce__(self) -> Any:
        return (_stockade_error, (self.kind, str(self), self.limit, self.fix))


def _stockade_error(kind: str, message: str, limit: Optional[float], fix: Optional[str]) -> StockadeError:
    return StockadeError(kind, message, limit=limit, fix=fix)


class GuestError(Exception):
    """What the guest threw, or why its run was ended.

    `kind` is a stable word: `thrown`, `syntax`, `cpu_limit_exceeded`, `timeout`, `cancelled`, and those that the
    documentation of runs lists. `code` is the property of that name of what was thrown, if it is a text or a number. `line` and `column` are those of the code as it was given, from 1. All texts are the
    guest's own and not to be trusted; in `str(error)` control characters are escapes.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.kind: str = str(fields.get("kind", "thrown"))
        # A thrown value that is not an error has the name ''.
        name = fields.get("name")
        self.name: str = "Error" if name is None else str(name)
        self.message: str = str(fields.get("message") or "")
        self.stack: str = str(fields.get("stack") or "")
        self.source: Optional[str] = fields.get("source")
        self.line: Optional[int] = fields.get("line")
        self.column: Optional[int] = fields.get("column")
        self.code: Optional[str] = fields.get("code")
        self.outcome: Optional[Outcome] = None
        super().__init__(self.message)

    def __str__(self) -> str:
        text = self.stack
        if not text:
            name = self.name if self.kind in ("thrown", "syntax") else self.kind
            text = ": ".join(part for part in (name, self.message) if part)
            if self.line is not None:
                text += f" ({self.source or 'main.ts'}:{self.line}:{self.column or 1})"
        return printable(text)

    def __reduce__(self) -> Any:
        fields = {key: getattr(self, key) for key in ("kind", "name", "message", "stack", "source", "line", "column", "code")}
        return (GuestError, (fields,))
