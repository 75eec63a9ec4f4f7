"""Python functions as tools of a guest: their schemas, and how the input of the guest becomes their arguments."""

from __future__ import annotations

import enum
import inspect
import sys
import typing
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Dict, List, Literal, Mapping, Optional, Tuple, Union

JsonSchema = Dict[str, Any]
Function = Callable[..., Union[Any, Awaitable[Any]]]

_SCALARS: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_UNIONS: Tuple[Any, ...] = (Union,)
if sys.version_info >= (3, 10):
    import types

    _UNIONS = (Union, types.UnionType)


@dataclass(frozen=True)
class Tool:
    """A function of the host with a description and schemas for the authors of guests.

    The schemas are taken from the function's type hints where they are not given. Input is checked against type hints;
    an `input_schema` that is given only describes.
    """

    call: Function
    description: Optional[str] = None
    input_schema: Optional[JsonSchema] = None
    output_schema: Optional[JsonSchema] = None


class WrongInput(Exception):
    """The input of a guest that does not fit the function. The message is for the guest."""


class Prepared:
    """A tool that is ready to be called with the input of a guest."""

    def __init__(self, name: str, given: Union[Function, Tool]) -> None:
        tool = given if isinstance(given, Tool) else Tool(given)
        if not callable(tool.call):
            raise TypeError(f"the tool {name!r} is neither a function nor a stockade.Tool")
        self.name = name
        self.call = tool.call
        self.is_async = inspect.iscoroutinefunction(tool.call) or inspect.iscoroutinefunction(getattr(tool.call, "__call__", None))
        self.whole, self.parameters, self.defaults, self.others = _parameters(tool.call)
        hints = _hints(tool.call)
        self.checked = {name: schema_of(hints[name]) for name in self.parameters if name in hints}
        self.wire: Dict[str, Any] = {}
        description = tool.description or inspect.getdoc(tool.call)
        if description and not isinstance(tool.call, type(len)):
            self.wire["description"] = description
        schema = tool.input_schema or self._schema()
        if schema:
            self.wire["inputSchema"] = schema
        output = tool.output_schema or (schema_of(hints["return"]) if "return" in hints else None)
        if output:
            self.wire["outputSchema"] = output

    def _schema(self) -> JsonSchema:
        """The schema of the input."""
        if self.whole:
            return self.checked.get(self.parameters[0], {})
        required = [name for name in self.parameters if name not in self.defaults]
        schema: JsonSchema = {"type": "object", "properties": {name: self.checked.get(name, {}) for name in self.parameters}}
        if required:
            schema["required"] = required
        if not self.others:
            schema["additionalProperties"] = False
        return schema

    def bind(self, given: bool, value: Any) -> Callable[[], Any]:
        """The call with the input of a guest, which may have given none."""
        if self.whole:
            name = self.parameters[0]
            if not given:
                if name not in self.defaults:
                    raise WrongInput("the input is missing")
                return self.call
            check(value, self.checked.get(name, {}), "the input")
            return lambda: self.call(value)
        if value is None and not (set(self.parameters) - self.defaults):
            value = {}
        if not isinstance(value, dict):
            raise WrongInput(f"the input has to be an object with the members {', '.join(self.parameters) or '(none)'}")
        for name in self.parameters:
            if name in value:
                check(value[name], self.checked.get(name, {}), f"'{name}'")
            elif name not in self.defaults:
                raise WrongInput(f"the input has no '{name}'")
        if not self.others:
            for name in value:
                if name not in self.parameters:
                    raise WrongInput(f"the input has '{name[:64]}', and the tool takes: {', '.join(self.parameters) or 'nothing'}")
        return lambda: self.call(**value)


def _parameters(function: Function) -> Tuple[bool, List[str], typing.Set[str], bool]:
    """Whether the only parameter gets the whole input; the parameters, those with defaults, and whether others are taken."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of a function in C that does not say
        return True, ["input"], {"input"}, False
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        parameters = [one for one in parameters if one.kind is not one.VAR_POSITIONAL]
    named = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
    others = len(named) < len(parameters)
    names = [one.name for one in named]
    defaults = {one.name for one in named if one.default is not one.empty}
    whole = len(named) == 1 and not others and named[0].kind is not named[0].KEYWORD_ONLY
    if not whole and any(one.kind is one.POSITIONAL_ONLY for one in named):
        raise TypeError(f"{function!r} has several parameters without names, and a guest gives them by name")
    return whole, names, defaults, others


def _hints(function: Function) -> Dict[str, Any]:
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)
    try:
        return typing.get_type_hints(target)
    except Exception:  # names that are only there for the type checker
        return {}


def schema_of(hint: Any) -> JsonSchema:
    """The JSON Schema of a type hint; `{}`, which allows everything, for those that JSON has no type for."""
    if hint in _SCALARS if isinstance(hint, type) else hint is None:
        return {"type": _SCALARS[hint] if hint is not None else "null"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in _UNIONS:
        parts = [schema_of(one) for one in arguments]
        return {} if {} in parts else {"anyOf": parts}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [one.value for one in hint]} if issubclass(hint, (str, int)) else {}
    if typing.is_typeddict(hint) if sys.version_info >= (3, 10) else hasattr(hint, "__total__"):
        members = {name: schema_of(one) for name, one in typing.get_type_hints(hint).items()}
        return {"type": "object", "properties": members, "required": sorted(getattr(hint, "__required_keys__", ()))}
    base = origin or hint
    if base in (list, typing.Sequence, typing.Iterable) or getattr(base, "__name__", "") == "Sequence":
        items = schema_of(arguments[0]) if arguments else {}
        return {"type": "array", "items": items} if items else {"type": "array"}
    if base is dict or getattr(base, "__name__", "") == "Mapping":
        values = schema_of(arguments[1]) if len(arguments) == 2 else {}
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}
    return {}


_TYPES: Mapping[str, Any] = {"string": str, "boolean": bool, "null": type(None), "array": list, "object": dict}


def check(value: Any, schema: JsonSchema, place: str) -> None:
    """Raises `WrongInput` if a value of a guest does not fit a schema that `schema_of` made."""
    if "anyOf" in schema:
        for one in schema["anyOf"]:
            try:
                return check(value, one, place)
            except WrongInput:
                pass
        raise WrongInput(f"{place} has none of the types that are allowed")
    if "enum" in schema and not any(value == one and type(value) is type(one) for one in schema["enum"]):
        raise WrongInput(f"{place} has to be one of {', '.join(map(repr, schema['enum']))}")
    name = schema.get("type")
    if name in ("integer", "number"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or (name == "integer" and isinstance(value, float) and not value.is_integer()):
            raise WrongInput(f"{place} has to be of the type {name}")
    elif name is not None and not isinstance(value, _TYPES[name]):
        raise WrongInput(f"{place} has to be of the type {name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            check(item, schema["items"], f"{place}[{index}]")
    if isinstance(value, dict) and name == "object":
        members = schema.get("properties", {})
        for member in schema.get("required", ()):
            if member not in value:
                raise WrongInput(f"{place} has no '{member}'")
        rest = schema.get("additionalProperties", {})
        for member, item in value.items():
            part = members.get(member, rest)
            if part:
                check(item, part, f"{place}.{member[:64]}")
