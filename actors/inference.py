"""The capability `write`: the language model, which asks for tools or answers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json

from actors.contracts.generation import Prompt, Sampling, chat
from actors.contracts.retry import Retry
from actors.engines import Engine, Vllm
from actors.engines.protocol import as_json
from actors.exchange import Call, Draft, Grounded, Result, ToolCalls, ToolResults
from actors.pipeline import Job, stage
from actors.progress import CHOOSING
from actors.tools import TOOLS

ANSWER_TOKENS = 100
CHOICE_TOKENS = 256

TURNS = 3
"""How often the model may call tools before it answers."""

CALLS = 4
"""How many calls it may make at once."""

CALL_MORE = "call more"

MOST_TOLD = 200
"""Characters of an earlier result that the model is told when it chooses further calls."""

CHOOSE = "Answer with the calls of tools that help with the question."

Offers = dict[str, tuple[str, type[BaseModel]]]
"""What the model may call: for each tool's name what it is for, and its arguments."""


@stage(gpus=1, cpus=0.5, uses=Vllm(), concurrency=64, retry=Retry(attempts=3))
async def write(prompt: Grounded | ToolResults, job: Job, engine: Engine) -> ToolCalls | Draft:
    """Call tools that help, for a few turns at most; then answer aloud."""
    known = prompt if isinstance(prompt, ToolResults) else ToolResults(grounded=prompt, turn=0, results=[])
    if offers := _offers(known):
        await job.report(CHOOSING)
        chosen = await job.once("choice", lambda: _choose(known, offers, engine))
        if (calls := ToolCalls.model_validate(chosen)).calls:
            return calls
    text = await job.speak(engine, _ground(known, engine), max_tokens=ANSWER_TOKENS)
    return Draft(text=text, passages=known.grounded.passages, results=known.results)


def _offers(known: ToolResults) -> Offers:
    """The tools that the model may call now."""
    if known.turn >= TURNS or (known.turn and not known.more):
        return {}
    question = known.grounded.question
    found = {tool.name: (tool.description, tool.for_question(question)) for tool in TOOLS}
    offered = {name: (told, arguments) for name, (told, arguments) in found.items() if arguments}
    if known.grounded.passages:
        offered.pop("search", None)  # its own words have found something already
    return offered


async def _choose(known: ToolResults, offers: Offers, engine: Engine) -> JsonValue:
    """Decide in silence, as a grammar allows it; calls that were made before are not made again."""
    told = "\n".join(f"{name}: {description}" for name, (description, _) in offers.items())
    made = [str(result) for result in known.results]
    asked = "\n\n".join(
        [known.grounded.question, *(["Calls so far:", *(each[:MOST_TOLD] for each in made)] if made else [])]
    )
    prompt = chat(asked, system=f"{CHOOSE}\n{told}")
    call = _call(offers)
    room = engine.context - len(engine.encode(prompt))
    schema = _choice(call, least=0 if known.turn else 1).model_json_schema()
    written = await engine.whole(prompt, Sampling(max_tokens=max(1, min(CHOICE_TOKENS, room)), schema=schema))
    # A small model may go on until it has no room; the calls that are whole are what it wants.
    body = from_json(as_json(written), allow_partial=True)
    wanted = {str(each): each for each in _whole(body.get("calls", ()), call)}
    calls = ToolCalls(
        grounded=known.grounded,
        turn=known.turn + 1,
        calls=[each for name, each in wanted.items() if name not in {str(result.call) for result in known.results}],
        more=body.get("then") == CALL_MORE,
        results=known.results,
    )
    return calls.model_dump(mode="json")


def _call(offers: Offers) -> Any:
    """The type of one call of these tools."""
    kinds: list[Any] = []
    for name, (_, arguments) in offers.items():
        tool: Any = Literal[name]
        kinds.append(create_model(f"call_{name}", tool=(tool, ...), arguments=(arguments, ...)))
    return functools.reduce(operator.or_, kinds)


def _choice(call: Any, *, least: int) -> type[BaseModel]:
    """What the model may write: some calls, and whether it then answers."""
    calls: Any = Annotated[list[call], Field(min_length=least, max_length=CALLS)]
    then: Any = Literal["answer", CALL_MORE]
    return create_model("Choice", calls=(calls, ...), then=(then, ...))


def _whole(written: Iterable[JsonValue], call: Any) -> Iterator[Call]:
    """The calls that are what a call may be."""
    for each in written:
        try:
            TypeAdapter(call).validate_python(each)
        except ValidationError:
            continue
        yield Call.model_validate(each)


def _ground(known: ToolResults, engine: Engine) -> Prompt:
    """The question after what there is to know about it: what tools said first, and as much as the model can take."""
    pieces = [_told(result) for result in known.results] + [passage.text for passage in known.grounded.passages]
    while True:
        text = "\n".join(pieces) or "(nothing was found)"
        prompt = chat(f"Read this text:\n\n{text}\n\nNow answer in two sentences: {known.grounded.question}")
        if not pieces or len(engine.encode(prompt)) + ANSWER_TOKENS <= engine.context:
            return prompt
        longest = max(pieces, key=len)
        at = pieces.index(longest)
        pieces[at : at + 1] = [longest[: len(longest) // 2]] if len(longest) > 100 else []


def _told(result: Result) -> str:
    """A result in the form in which a text has it."""
    if result.call.tool == "calculator" and not result.failed:
        return f"{result.call.arguments['expression']} = {result.value}"
    return str(result)
