"""The capability `call_tools`: what the model may have done for it."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, cast

from pydantic import BaseModel, Field, JsonValue, create_model
from simpleeval import InvalidExpression, SimpleEval

from actors.exchange import Call, Result, ToolCalls, ToolResults
from actors.http.egress import Egress, EgressError
from actors.index.page import text_of_html
from actors.pipeline import CallKey, Job, ToolError, stage, tool
from actors.progress import calling
from actors.retrieval import Index
from actors.toolbox import Toolbox

MOST_TEXT = 2_000
"""Characters of a tool's answer that the model is given."""


def numbers_in(question: str) -> tuple[str, ...]:
    """The numbers of a question, each once; none that is a part of a URL."""
    return tuple(dict.fromkeys(re.findall(r"\d{1,12}(?:\.\d{1,6})?", _URL.sub("", question))))


def urls_in(question: str) -> tuple[str, ...]:
    """The URLs of a question, each once."""
    return tuple(dict.fromkeys(url.rstrip(".,;:!?)") for url in _URL.findall(question)))


def _sums_of(question: str) -> type[BaseModel] | None:
    """The calculations with a question's own numbers, so that a small model's call is always valid."""
    if len(numbers := numbers_in(question)) < 2:
        return None
    number = "|".join(map(re.escape, numbers))
    sums = Annotated[str, Field(pattern=rf"^({number}) [-+*/] ({number})$")]
    return create_model("calculator", expression=(sums, ...))


def _pages_of(question: str) -> type[BaseModel] | None:
    """The pages that a question names; a model that is given text of strangers is not to invent others."""
    if not (urls := urls_in(question)):
        return None
    pages = Annotated[str, Field(pattern=f"^({'|'.join(map(re.escape, urls))})$")]
    return create_model("http_get", url=(pages, ...))


_URL = re.compile(r"https?://[^\s<>\"']+")


@tool(offered=_sums_of)
def calculator(expression: Annotated[str, Field(max_length=200)]) -> str:
    """The value of an expression, for example 3 * 20 for 'What is 3 times 20?'"""
    try:
        value = SimpleEval(functions={}, names={}).eval(expression)
    except (InvalidExpression, SyntaxError, TypeError, ValueError, ArithmeticError) as error:
        raise ToolError(f"it cannot be calculated: {error}") from error
    return f"{value:g}" if isinstance(value, float) else str(value)


@tool(uses=Index())
async def search(index: Index, query: Annotated[str, Field(min_length=1, max_length=100)]) -> str:
    """What the documents say about something."""
    found = await index.search(query)
    return "\n".join(f"{passage.source}: {passage.text}" for passage in found) or "nothing was found"


@tool(uses=Egress(), offered=_pages_of)
async def http_get(egress: Egress, url: Annotated[str, Field(max_length=2_000)]) -> str:
    """The text of a web page."""
    try:
        answer = await egress.get(url)
    except EgressError as error:
        raise ToolError(str(error)) from error
    if answer.status in range(300, 400):
        raise ToolError(f"it leads on to {answer.headers.get('location', 'nowhere')}, which is not followed")
    if answer.status != 200:
        raise ToolError(f"it answered {answer.status}")
    return text_of_html(answer.text) if "html" in answer.headers.get("content-type", "") else answer.text


TOOLS = Toolbox(calculator, search, http_get)


@stage(uses=TOOLS, effects=True, concurrency=16)
async def call_tools(calls: ToolCalls, job: Job, toolbox: Toolbox) -> ToolResults:
    """Make every call, all at once; what is wrong with one is its result, and the model goes on."""

    async def make(n: int, call: Call) -> Result:
        key = CallKey(f"{job.id}-{calls.turn}-{n}")

        async def work() -> JsonValue:
            await job.report(calling(call.tool))
            return cast("JsonValue", (await _make(call, key, toolbox)).model_dump(mode="json"))

        return Result.model_validate(await job.once(f"call {n}", work))

    async with asyncio.TaskGroup() as group:
        making = [group.create_task(make(n, call)) for n, call in enumerate(calls.calls)]
    made = [each.result() for each in making]
    more = calls.more or any(result.failed for result in made)
    return ToolResults(grounded=calls.grounded, turn=calls.turn, more=more, results=[*calls.results, *made])


async def _make(call: Call, key: CallKey, toolbox: Toolbox) -> Result:
    try:
        return Result(call=call, value=(await toolbox.call(call.tool, call.arguments, key))[:MOST_TEXT])
    except ToolError as error:
        return Result(call=call, value=str(error), failed=True)
