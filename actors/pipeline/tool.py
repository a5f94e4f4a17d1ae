"""A tool: a typed function that a model may have called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NewType, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, JsonValue, PydanticUserError, ValidationError, create_model
from pydantic_core import PydanticUndefined

from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import is_topic
from actors.pipeline.stage import Resource

CallKey = NewType("CallKey", str)
"""Names one call for good: the same at every attempt, another for any other call. A parameter of this type is given it.

A tool with an effect passes it on (as an Idempotency-Key, a primary key), so that the effect happens once.
"""

Narrow = Callable[[str], type[BaseModel] | None]
"""What a question allows: the arguments with which a tool is offered for it, or None where it is not offered."""

TIMEOUT_S = 20.0


class ToolError(HeadraceError):
    """Raise it in a tool that cannot do what it is asked; its message goes back to the model, which may go on."""


class ToolDeclarationError(HeadraceError):
    """A tool is declared in a way that cannot work; the message names the tool and says what to change."""


@dataclass(frozen=True)
class Tool:
    """A typed function, as it was declared. Calling it calls the function: a tool's unit test is a call.

    `arguments` is the model of its parameters. `uses` is opened once per replica and comes first, as a stage's comes
    last. `timeout` is in seconds. With `offered`, a question decides whether the tool is offered, and in which form.
    """

    name: str
    description: str
    run: Callable[..., Any]
    arguments: type[BaseModel]
    uses: Resource | None
    timeout: float
    offered: Narrow | None
    key_parameter: str | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def for_question(self, question: str) -> type[BaseModel] | None:
        """The arguments with which the model is offered this tool; None where it is not."""
        return self.offered(question) if self.offered else self.arguments

    async def call(self, arguments: Mapping[str, JsonValue], key: CallKey, resource: object) -> str:
        """Check the arguments and do it. Raises ToolError with what the model should know, or what the tool raises."""
        try:
            checked = self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolError(f"these arguments do not fit: {_faults(error)}") from error
        given = {name: getattr(checked, name) for name in type(checked).model_fields}
        if self.key_parameter:
            given[self.key_parameter] = key
        first = () if self.uses is None else (resource,)
        if inspect.iscoroutinefunction(self.run):
            doing = self.run(*first, **given)
        else:
            doing = asyncio.to_thread(self.run, *first, **given)
        try:
            async with asyncio.timeout(self.timeout) as limit:
                return str(await doing)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolError(f"it took longer than {self.timeout:g} s") from None


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *, uses: Resource | None = None, timeout: float = TIMEOUT_S, offered: Narrow | None = None
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    uses: Resource | None = None,
    timeout: float = TIMEOUT_S,
    offered: Narrow | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Declare a function as a tool: its name, its docstring and its annotated parameters are what the model is told.

    It returns what the model is to know. Raises ToolDeclarationError.
    """

    def declare(function: Callable[..., Any]) -> Tool:
        if not inspect.isfunction(function):
            raise ToolDeclarationError(f"{function!r} is no function; a tool is a function of its arguments")
        name = function.__name__
        if not is_topic(name):
            raise ToolDeclarationError(f"a tool cannot be called {name!r}: use small letters, digits and _")
        if not (description := inspect.getdoc(function)):
            raise ToolDeclarationError(f"tool {name!r} has no docstring; write in it, for the model, what it is for")
        if not timeout > 0:
            raise ToolDeclarationError(f"tool {name!r}: timeout={timeout} must be more than 0 seconds")
        arguments, key = _parameters(name, function, uses is not None)
        return Tool(name, " ".join(description.split()), function, arguments, uses, timeout, offered, key)

    return declare if function is None else declare(function)


def _parameters(name: str, function: Callable[..., Any], has_resource: bool) -> tuple[type[BaseModel], str | None]:
    """The model of a function's arguments, and the parameter that wants the key, if one does."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ToolDeclarationError(f"tool {name!r}: its annotations cannot be read: {error}") from error
    parameters = list(inspect.signature(function).parameters.values())
    if has_resource and not parameters:
        raise ToolDeclarationError(f"tool {name!r} declares `uses`, so its first parameter must be for that")
    fields: dict[str, Any] = {}
    key = None
    for parameter in parameters[1 if has_resource else 0 :]:
        hint = hints.get(parameter.name)
        if hint is None or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ToolDeclarationError(
                f"tool {name!r}: its parameter {parameter.name!r} needs a name and a type, from which the model's "
                "arguments are made"
            )
        if hint is CallKey:
            key = parameter.name
        else:
            fields[parameter.name] = (
                hint,
                PydanticUndefined if parameter.default is parameter.empty else parameter.default,
            )
    try:
        made: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)
        made.model_json_schema()
    except PydanticUserError as error:
        raise ToolDeclarationError(f"tool {name!r}: its arguments cannot be told to a model: {error}") from error
    return made, key


def _faults(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'all of them'}: {fault['msg']}" for fault in found[:3])
