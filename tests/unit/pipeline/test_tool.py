from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from typing import Any

import pytest
from pydantic import BaseModel

from actors.pipeline.tool import CallKey, Tool, ToolDeclarationError, ToolError, tool

KEY = CallKey("job-1-0")


@tool
async def book(room: str, nights: int, key: CallKey, *, quiet: bool = False) -> str:
    """Book a room
    for some nights."""
    return f"{room} {nights} {quiet} {key}"


def test_its_name_its_docstring_and_its_parameters_are_what_a_model_is_told() -> None:
    assert (book.name, book.description) == ("book", "Book a room for some nights.")
    schema = book.arguments.model_json_schema()
    assert schema["required"] == ["room", "nights"]
    assert list(schema["properties"]) == ["room", "nights", "quiet"]
    assert book.for_question("anything") is book.arguments


async def test_calling_it_calls_the_function() -> None:
    assert await book("blue", 2, KEY) == "blue 2 False job-1-0"


async def test_a_call_gives_the_arguments_and_the_key() -> None:
    assert await book.call({"room": "blue", "nights": 2}, KEY, None) == "blue 2 False job-1-0"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"room": "blue"}, "nights: Field required"),
        ({"room": "blue", "nights": "many"}, "nights: Input should be a valid integer"),
        ({"room": "blue", "nights": 1, "stars": 5}, "stars: Extra inputs are not permitted"),
    ],
)
async def test_wrong_arguments_are_told_the_model_in_words(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolError, match="these arguments do not fit") as refused:
        await book.call(arguments, KEY, None)
    assert told in str(refused.value)


async def test_what_it_uses_comes_first() -> None:
    @tool(uses=nullcontext("unopened"))
    async def look(place: str, name: str) -> str:
        """Look somewhere."""
        return f"{name} in {place}"

    assert await look.call({"name": "it"}, KEY, "drawer") == "it in drawer"


async def test_a_plain_function_runs_in_a_thread() -> None:
    @tool
    def where() -> int:
        """Say where."""
        return threading.get_ident()

    assert await where.call({}, KEY, None) != str(threading.get_ident())


async def test_one_that_takes_too_long_is_told_the_model() -> None:
    @tool(timeout=0.01)
    async def waits() -> None:
        """Wait."""
        await asyncio.Event().wait()

    with pytest.raises(ToolError, match=r"it took longer than 0\.01 s"):
        await waits.call({}, KEY, None)


async def test_a_timeout_of_its_own_is_its_own() -> None:
    @tool
    async def impatient() -> None:
        """Give up."""
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await impatient.call({}, KEY, None)


def test_a_question_decides_whether_and_how_it_is_offered() -> None:
    class Narrow(BaseModel):
        room: str

    @tool(offered=lambda question: Narrow if "room" in question else None)
    def rooms(room: str) -> str:
        """Find a room."""
        return room

    assert rooms.for_question("which room?") is Narrow
    assert rooms.for_question("which day?") is None


def undocumented(x: int) -> None: ...


def unannotated(x) -> None:  # type: ignore[no-untyped-def]
    """x"""


def spread(*x: int) -> None:
    """x"""


def unknown(x: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    """x"""


def strange(x: threading.Lock) -> None:
    """x"""


def Capital(x: int) -> None:
    """x"""


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (3, "is no function"),
        (undocumented, "has no docstring"),
        (unannotated, "'x' needs a name and a type"),
        (spread, "'x' needs a name and a type"),
        (unknown, "annotations cannot be read"),
        (strange, "cannot be told to a model"),
        (Capital, "small letters"),
    ],
)
def test_a_wrong_declaration_names_the_tool_and_says_what_to_change(function: Any, why: str) -> None:
    with pytest.raises(ToolDeclarationError) as refused:
        tool(function)
    assert why in str(refused.value)
    assert "tool" in str(refused.value)


def test_numbers_and_resources_are_checked_too() -> None:
    def nothing() -> None:
        """x"""

    with pytest.raises(ToolDeclarationError, match="must be more than 0 seconds"):
        tool(timeout=0)(nothing)
    with pytest.raises(ToolDeclarationError, match="first parameter must be for that"):
        tool(uses=nullcontext())(nothing)


def test_it_is_a_value() -> None:
    assert isinstance(book, Tool)
    assert hash(book)
