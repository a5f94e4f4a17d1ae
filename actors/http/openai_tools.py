"""OpenAI's tools: what a client lets the model call, and the form that it wants its answer in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from actors.contracts.conversation import MOST_CALLS, Function
from actors.contracts.schema import fault
from actors.http.openai_errors import INVALID_VALUE, unsupported
from actors.http.problem import Refusal

MOST_TOOLS = 128

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Schema = dict[str, JsonValue]


class Tool(BaseModel):
    """A function, as a response has it. Its schema is kept to whether or not it is said to be strict."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: Schema | None = None


class NamedFunction(BaseModel):
    """A function, as it stands in a tool of a chat."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Name
    description: str | None = None
    parameters: Schema | None = None


class ChatTool(BaseModel):
    """A function, as a chat has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["function"]
    function: NamedFunction


class OneTool(BaseModel):
    """The choice of one function, as a response has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["function"]
    name: str


class ChosenName(BaseModel):
    """The name of the function that is chosen."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str


class OneChatTool(BaseModel):
    """The choice of one function, as a chat has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["function"]
    function: ChosenName


Choice = Literal["none", "auto", "required"]


class PlainFormat(BaseModel):
    """Text as it comes, or any JSON object."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["text", "json_object"]


class SchemaFormat(BaseModel):
    """JSON that fits a schema, as a response has it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    type: Literal["json_schema"]
    name: Name
    schema_: Schema = Field(validation_alias="schema", serialization_alias="schema")


class NamedSchema(BaseModel):
    """A schema, as it stands in the format of a chat."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    name: Name
    schema_: Schema = Field(validation_alias="schema", serialization_alias="schema")


class ChatSchemaFormat(BaseModel):
    """JSON that fits a schema, as a chat has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["json_schema"]
    json_schema: NamedSchema


TextFormat = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]
ChatFormat = Annotated[PlainFormat | ChatSchemaFormat, Field(discriminator="type")]


class TextOptions(BaseModel):
    """How a response is to be written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: TextFormat = PlainFormat(type="text")
    verbosity: Literal["medium"] | None = None


def offered(
    tools: Sequence[Tool | NamedFunction], choice: str | None, chosen: str | None, *, parallel: bool
) -> dict[str, Any]:
    """What a Conversation says of the functions: which, whether one has to be called, and how many at once.

    Raises Refusal.
    """
    functions = [
        Function(name=tool.name, description=tool.description or "", parameters=tool.parameters or {}) for tool in tools
    ]
    names = [function.name for function in functions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Refusal(INVALID_VALUE, f"There are several functions {twice!r}: give each its own name.", param="tools")
    if choice == "none":
        return {}
    must = choice == "required" or chosen is not None
    if chosen is not None:
        functions = [function for function in functions if function.name == chosen]
    if must and not functions:
        raise Refusal(INVALID_VALUE, "Choose a function that is among `tools`.", param="tool_choice")
    _expect_bearable([function.parameters for function in functions], "tools")
    return {"functions": functions, "must_call": must, "most_calls": MOST_CALLS if parallel else 1}


def schema_of(form: PlainFormat | SchemaFormat | ChatSchemaFormat, param: str) -> Schema | None:
    """The schema that an answer has to fit; None for free text. Raises Refusal."""
    match form:
        case PlainFormat(type="text"):
            return None
        case PlainFormat():
            return {"type": "object"}
        case SchemaFormat(schema_=schema) | ChatSchemaFormat(json_schema=NamedSchema(schema_=schema)):
            if schema.get("type") != "object":
                raise unsupported(param, "The schema has to be that of an object.")
            _expect_bearable([schema], param)
            return schema


def _expect_bearable(schemas: Sequence[Schema], param: str) -> None:
    if wrong := fault(schemas):
        raise Refusal(INVALID_VALUE, f"`{param}`: {wrong}", param=param)
