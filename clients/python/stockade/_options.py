"""The options of sandboxes and runs, from the words of Python to those of the protocol."""

from __future__ import annotations

import base64
import os
from datetime import timedelta
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TypedDict, Union

from .tools import Function, Prepared, Tool

Json = Union[None, bool, int, float, str, List[Any], Dict[str, Any]]
#: Bytes as a number, or text with a unit: `"64mb"`. 0 means no limit.
Size = Union[int, str]
#: Text with a unit, `"500ms"` or `"2s"`, or a `timedelta`. 0 means no limit.
Time = Union[str, timedelta, int]
Files = Mapping[str, Union[str, bytes, "os.PathLike[str]"]]
Tools = Mapping[str, Union[Function, Tool]]


def time(name: str, value: Time) -> Union[str, float]:
    """A time for the protocol. A number alone would be seconds to some and milliseconds to others."""
    if isinstance(value, timedelta):
        return value / timedelta(milliseconds=1)
    if isinstance(value, str) or (value == 0 and not isinstance(value, bool)):
        return value
    raise TypeError(f"{name}={value!r} has no unit\n  fix: {name}='{value}s', {name}='{value}ms' or a datetime.timedelta")


def files(given: Files) -> Dict[str, Any]:
    """Files for the protocol. A path of the host is read now."""
    return {name: _file(contents) for name, contents in given.items()}


def _file(contents: Union[str, bytes, os.PathLike[str]]) -> Any:
    if isinstance(contents, str):
        return contents
    if isinstance(contents, os.PathLike):
        with open(contents, "rb") as file:
            contents = file.read()
        try:
            return contents.decode()
        except UnicodeDecodeError:
            pass
    return {"$bytes": base64.b64encode(contents).decode()}


def prepare(tools: Optional[Tools]) -> Dict[str, Prepared]:
    """Tools that are ready to be called."""
    return {name: Prepared(name, tool) for name, tool in (tools or {}).items()}


class RunOptions(TypedDict, total=False):
    """For one run: names and hosts are added to those of its sandbox, limits replace them."""

    tools: Optional[Tools]
    files: Optional[Files]
    fetch: Optional[Sequence[str]]
    env: Optional[Mapping[str, Json]]
    grants: Optional[Mapping[str, Mapping[str, Any]]]
    memory: Optional[Size]
    cpu: Optional[Time]
    timeout: Optional[Time]
    output: Optional[Size]


class SessionRunOptions(TypedDict, total=False):
    """For one run of a session."""

    timeout: Optional[Time]


class SessionOptions(RunOptions, total=False):
    """For a session, all of whose runs share an isolate."""

    level: Optional[str]
    prelude: Optional[str]
    connect: Optional[str]
    program: Optional[str]


class SandboxOptions(SessionOptions, total=False):
    """For a sandbox, each of whose runs has an isolate."""

    pool: Optional[int]


def checked(what: str, given: Mapping[str, Any], known: Any) -> None:
    """Refuses options that are not known."""
    for name in given:
        if name not in known.__annotations__:
            raise TypeError(f"{what} has no option {name!r}\n  fix: one of {', '.join(sorted(known.__annotations__))}")


def run_params(given: Mapping[str, Any]) -> Dict[str, Any]:
    """The options of a run that are those of its sandbox in the protocol, without files and tools."""
    return open_params({key: value for key, value in given.items() if key != "timeout"})


def open_params(given: Mapping[str, Any]) -> Dict[str, Any]:
    """The params of `open`, without files and tools. What is not given has the supervisor's default."""
    if isinstance(fetch := given.get("fetch"), str):
        raise TypeError(f"fetch={fetch!r} is not a list of hosts\n  fix: fetch=[{fetch!r}]")
    convert: Mapping[str, Callable[[Any], Any]] = {
        "cpu": lambda value: time("cpu", value),
        "timeout": lambda value: time("timeout", value),
        "env": dict,
        "fetch": list,
        "grants": lambda value: {name: dict(grant) for name, grant in value.items()},
    }
    names = ("level", "memory", "output", "pool", "prelude", *convert)
    known = {name: given[name] for name in names if given.get(name) is not None}
    return {name: convert[name](value) if name in convert else value for name, value in known.items()}


def merge(base: Mapping[str, Any], added: Mapping[str, Any]) -> Dict[str, Any]:
    """The params of a sandbox with those of one run: variables, grants and hosts are added, limits are replaced."""
    merged = {**base, **added}
    for key in ("env", "grants"):
        if key in base and key in added:
            merged[key] = {**base[key], **added[key]}
    if "fetch" in base and "fetch" in added:
        merged["fetch"] = [*base["fetch"], *added["fetch"]]
    return merged
