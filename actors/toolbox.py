"""A toolbox: the tools that a stage calls, with what they use, open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pydantic import JsonValue

from actors.pipeline import CallKey, Tool, ToolDeclarationError, ToolError
from actors.runtime.resource import as_set
from actors.runtime.settings import Settings


class Toolbox:
    """Tools by name, for a stage that `uses` them. What several of them use together is opened once."""

    def __init__(self, *tools: Tool) -> None:
        self._tools = {tool.name: tool for tool in tools}
        names = [tool.name for tool in tools]
        for name in names:
            if names.count(name) > 1:
                raise ToolDeclarationError(f"two tools are called {name!r}; rename one of them")
        self._opened: dict[int, Any] = {}
        self._stack = AsyncExitStack()

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def with_settings(self, settings: Settings) -> Toolbox:
        set_up = {id(tool.uses): as_set(tool.uses, settings) for tool in self if tool.uses is not None}
        return Toolbox(*(replace(tool, uses=set_up.get(id(tool.uses))) for tool in self))

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for tool in self:
                if tool.uses is not None and id(tool.uses) not in self._opened:
                    self._opened[id(tool.uses)] = await stack.enter_async_context(tool.uses)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.clear()
        await self._stack.aclose()

    async def call(self, name: str, arguments: Mapping[str, JsonValue], key: CallKey) -> str:
        """What a tool says. Raises ToolError with what the model should know, or whatever else the tool raises."""
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError(f"there is no tool {name!r}; there are: {', '.join(self._tools)}")
        return await tool.call(arguments, key, self._opened.get(id(tool.uses)))
