"""OpenAI's items: what was said, called and given back so far, as its clients send it, and as turns for the model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag
from pydantic_core import from_json

from actors.contracts.conversation import Said
from actors.contracts.generation import Role
from actors.http.openai_errors import INVALID_VALUE
from actors.http.problem import Refusal

MOST_ITEMS = 1_000
"""How many items or messages one request may have."""


class Part(BaseModel):
    """A piece of what somebody said."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["text", "input_text", "output_text"]
    text: str


class Item(BaseModel):
    """What somebody said."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def turn(self) -> Said:
        role: Role = "system" if self.role == "developer" else self.role
        return Said(role=role, content=text_of(self.content))


class CalledItem(BaseModel):
    """A call that the model asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1, max_length=128)]
    name: str
    arguments: str

    def call(self, names: dict[str, str]) -> tuple[str, str]:
        names[self.call_id] = self.name
        return self.name, self.arguments


class GivenItem(BaseModel):
    """What a call gave."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[Part]

    def told(self, names: dict[str, str]) -> str:
        return given(self.call_id, self.output, names)


class Called(BaseModel):
    """The function of a call."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call, as a chat has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Annotated[str, Field(min_length=1, max_length=128)]
    type: Literal["function"] = "function"
    function: Called


class ChatMessage(BaseModel):
    """What somebody said in a chat, or the model called."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)

    def turn(self, names: dict[str, str]) -> Said:
        if self.tool_calls:
            names |= {call.id: call.function.name for call in self.tool_calls}
            return called([(call.function.name, call.function.arguments) for call in self.tool_calls])
        return Item(role=self.role, content=self.content or "").turn()


class ToolMessage(BaseModel):
    """What a call gave, in a chat."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["tool"]
    content: str | list[Part]
    tool_call_id: str

    def told(self, names: dict[str, str]) -> str:
        return given(self.tool_call_id, self.content, names)


def _type(item: Any) -> Any:
    return item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message")


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else getattr(message, "role", "")
    return "tool" if role == "tool" else "other"


AnyItem = Annotated[
    Annotated[Item, Tag("message")]
    | Annotated[CalledItem, Tag("function_call")]
    | Annotated[GivenItem, Tag("function_call_output")],
    Discriminator(_type),
]
AnyMessage = Annotated[Annotated[ChatMessage, Tag("other")] | Annotated[ToolMessage, Tag("tool")], Discriminator(_role)]


def turns(items: Iterable[AnyItem | AnyMessage], names: dict[str, str]) -> list[Said]:
    """The turns that they come to; `names` are the functions that were called before, by the ids of the calls.

    Calls and what they gave stand as text, so that models whose templates know of no tools can read them: calls that
    were made at once in one turn, and what they gave in one. Raises Refusal for what a call gave that nobody made.
    """
    said: list[Said] = []
    for _, run in groupby(items, type):
        calls: list[tuple[str, str]] = []
        outputs: list[str] = []
        for item in run:
            match item:
                case CalledItem():
                    calls.append(item.call(names))
                case GivenItem() | ToolMessage():
                    outputs.append(item.told(names))
                case ChatMessage():
                    said.append(item.turn(names))
                case Item():
                    said.append(item.turn())
        if calls:
            _go_on(said, called(calls))
        if outputs:
            _go_on(said, Said(role="user", content="\n".join(outputs)))
    return said


def called(calls: Iterable[tuple[str, str]]) -> Said:
    """A turn of the model in which it calls functions: just what it wrote down when it decided. Raises Refusal."""
    told = [{"name": name, "arguments": _arguments(arguments)} for name, arguments in calls]
    return Said(role="assistant", content=json.dumps({"calls": told}, ensure_ascii=False))


def given(call_id: str, output: str | list[Part], names: dict[str, str]) -> str:
    """What the model is told of what a call gave. Raises Refusal."""
    if (name := names.get(call_id)) is None:
        raise Refusal(
            INVALID_VALUE,
            f"There is no call {call_id[:128]!r} before what it gave: send the call too, or name the response that "
            "made it as `previous_response_id`.",
            param="call_id",
        )
    return f"{name} gave: {text_of(output)}"


def text_of(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _go_on(said: list[Said], turn: Said) -> None:
    """Add a turn, or what it says to the last one where that is of the same role."""
    if said and said[-1].role == turn.role:
        turn = Said(role=turn.role, content=f"{said.pop().content}\n{turn.content}")
    said.append(turn)


def _arguments(written: str) -> JsonValue:
    """What the client sends back as the model wrote it; what is no JSON stays as it is. Raises Refusal."""
    try:
        read: JsonValue = from_json(written)
    except ValueError as error:
        if "recursion limit" in str(error):
            why = "The arguments of a call are nested too deeply: send them as the model wrote them, at most 200 deep."
            raise Refusal(INVALID_VALUE, why, param="arguments") from None
        return written
    return read
