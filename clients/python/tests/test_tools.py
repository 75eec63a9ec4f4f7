"""Schemas from type hints, and the check of input against them. Needs no program."""

import enum
import sys
import unittest
from typing import Any, Dict, List, Literal, Optional, TypedDict, Union

from stockade import Tool
from stockade._connection import MAX_DEPTH, decode, encode
from stockade.errors import StockadeError
from stockade.tools import Prepared, WrongInput, check, schema_of


class Colour(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


class Order(TypedDict):
    item: str
    count: int


class Schemas(unittest.TestCase):
    def test_types_of_the_standard_library(self) -> None:
        for hint, schema in (
            (str, {"type": "string"}),
            (int, {"type": "integer"}),
            (None, {"type": "null"}),
            (Any, {}),
            (List[int], {"type": "array", "items": {"type": "integer"}}),
            (list, {"type": "array"}),
            (Dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
            (Optional[float], {"anyOf": [{"type": "number"}, {"type": "null"}]}),
            (Union[str, Any], {}),
            (Literal["a", 1], {"enum": ["a", 1]}),
            (Colour, {"enum": ["red", "blue"]}),
            (object, {}),
        ):
            with self.subTest(hint=hint):
                self.assertEqual(schema_of(hint), schema)
        self.assertEqual(
            schema_of(Order),
            {"type": "object", "properties": {"item": {"type": "string"}, "count": {"type": "integer"}}, "required": ["count", "item"]},
        )
        if sys.version_info >= (3, 10):
            self.assertEqual(schema_of(eval("int | None")), {"anyOf": [{"type": "integer"}, {"type": "null"}]})

    def test_functions_have_the_schema_of_their_input(self) -> None:
        def order(item: str, count: int = 1) -> bool:
            """Orders something."""
            return True

        self.assertEqual(
            Prepared("order", order).wire,
            {
                "description": "Orders something.",
                "inputSchema": {
                    "type": "object",
                    "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
                    "required": ["item"],
                    "additionalProperties": False,
                },
                "outputSchema": {"type": "boolean"},
            },
        )

        def one(text: str) -> None: ...

        self.assertEqual(Prepared("one", one).wire["inputSchema"], {"type": "string"})
        given = Prepared("one", Tool(one, "does", {"type": "object"}, {"type": "number"})).wire
        self.assertEqual(given, {"description": "does", "inputSchema": {"type": "object"}, "outputSchema": {"type": "number"}})

    def test_one_parameter_gets_the_whole_input_and_several_get_members(self) -> None:
        def whole(order: Order) -> Any:
            return order

        def several(a: Any, *, b: int = 2, **rest: Any) -> Any:
            return a, b, rest

        def keyword(*, name: str) -> Any:
            return name

        self.assertEqual(Prepared("f", whole).bind(True, {"item": "tea", "count": 1})(), {"item": "tea", "count": 1})
        self.assertEqual(Prepared("f", several).bind(True, {"a": 1, "c": 3})(), (1, 2, {"c": 3}))
        self.assertEqual(Prepared("f", keyword).bind(True, {"name": "x"})(), "x")
        self.assertEqual(Prepared("f", lambda: 7).bind(False, None)(), 7)
        self.assertEqual(Prepared("f", lambda a=3: a).bind(False, None)(), 3)
        self.assertEqual(Prepared("f", len).bind(True, [1, 2])(), 2)

    def test_input_that_does_not_fit_is_refused(self) -> None:
        def order(order: Order) -> None: ...

        tool = Prepared("order", order)
        wrong: List[Any] = [None, [], {"item": "tea"}, {"item": 1, "count": 1}, {"item": "tea", "count": 1.5}, {"item": "tea", "count": True}]
        for value in wrong:
            with self.subTest(value=value), self.assertRaises(WrongInput):
                tool.bind(True, value)
        with self.assertRaises(WrongInput):
            tool.bind(False, None)
        check(3.0, {"type": "integer"}, "a")
        with self.assertRaises(WrongInput):
            check(True, schema_of(Literal[1]), "a")
        with self.assertRaisesRegex(WrongInput, r"a\[1\] has to be of the type string"):
            check(["x", 1], schema_of(List[str]), "a")

    def test_what_cannot_be_called_is_an_error_at_once(self) -> None:
        with self.assertRaisesRegex(TypeError, "the tool 'x' is neither"):
            Prepared("x", 1)  # type: ignore[arg-type]
        with self.assertRaisesRegex(TypeError, "by name"):
            Prepared("x", eval("lambda a, b, /: 1"))


class Lines(unittest.TestCase):
    def nested(self, depth: int) -> Any:
        value: Any = 0
        for _ in range(depth):
            value = [value]
        return value

    def test_what_would_break_the_connection_is_not_sent(self) -> None:
        encode(self.nested(MAX_DEPTH - 1))
        for value in (self.nested(MAX_DEPTH + 1), self.nested(100_000), float("inf"), object(), "\ud800", "x" * (17 << 20)):
            with self.assertRaises(StockadeError):
                encode(value)

    def test_numbers_that_python_does_not_read_become_floats(self) -> None:
        self.assertEqual(decode(b'{"a": ' + b"1" * 5000 + b"}"), {"a": float("inf")})
        self.assertEqual(decode(b'{"a": 12}'), {"a": 12})


if __name__ == "__main__":
    unittest.main()
