"""The options of sandboxes and runs, from the words of Python to those of the protocol."""

from __future__ import annotations

import base64
import os
from datetime import timedelta
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

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


def open_params(
    *,
    level: Optional[str] = None,
    memory: Optional[Size] = None,
    cpu: Optional[Time] = None,
    timeout: Optional[Time] = None,
    env: Optional[Mapping[str, Json]] = None,
    fetch: Optional[Sequence[str]] = None,
    grants: Optional[Mapping[str, Mapping[str, Any]]] = None,
    output: Optional[Size] = None,
    pool: Optional[int] = None,
) -> Dict[str, Any]:
    """The params of `open`, without files and tools. What is not given has the supervisor's default."""
    if isinstance(fetch, str):
        raise TypeError(f"fetch={fetch!r} is not a list of hosts\n  fix: fetch=[{fetch!r}]")
    params: Dict[str, Any] = {"level": level, "memory": memory, "output": output, "pool": pool}
    params["cpu"] = None if cpu is None else time("cpu", cpu)
    params["timeout"] = None if timeout is None else time("timeout", timeout)
    params["env"] = None if env is None else dict(env)
    params["fetch"] = None if fetch is None else list(fetch)
    params["grants"] = None if grants is None else {name: dict(grant) for name, grant in grants.items()}
    return {key: value for key, value in params.items() if value is not None}


def merge(base: Mapping[str, Any], added: Mapping[str, Any]) -> Dict[str, Any]:
    """The params of a sandbox with those of one run: variables, grants and hosts are added, limits are replaced."""
    merged = {**base, **added}
    for key in ("env", "grants"):
        if key in base and key in added:
            merged[key] = {**base[key], **added[key]}
    if "fetch" in base and "fetch" in added:
        merged["fetch"] = [*base["fetch"], *added["fetch"]]
    return merged
