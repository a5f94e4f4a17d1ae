"""The pipeline `chat`: the language model answers a conversation, aloud, or asks for functions to be called."""

from __future__ import annotations

from pydantic import JsonValue, ValidationError

from actors.contracts.conversation import CALLS, TEXT, Conversation, Decision, Reply
from actors.contracts.errors import RetryableError, TerminalError
from actors.contracts.generation import JsonSchema, Prompt, Sampling
from actors.contracts.schema import fault
from actors.engines import Engine
from actors.engines.protocol import as_json
from actors.functions import calls_schema, choosing, fitting
from actors.inference import write
from actors.pipeline import Job, Pipeline


@write.also
async def reply(conversation: Conversation, job: Job, engine: Engine) -> Reply:
    """Generate the next turn. It shares its replicas, and so its engine, with `write`.

    What has to fit a grammar is decided in silence, and stored in one piece; only free text is said aloud. Raises
    TerminalError for schemas that the engine is not given.
    """
    _expect_bearable(conversation)
    if conversation.functions:
        stored = await job.once(CALLS, lambda: _decide(conversation, engine))
        decision = Decision.model_validate(stored)
        if decision.calls or decision.finish_reason == "length":
            return Reply(text="", finish_reason=decision.finish_reason, calls=decision.calls)
    if (schema := conversation.returns) is not None:
        return Reply.model_validate(await job.once(TEXT, lambda: _fit(conversation, schema, engine)))
    most = _room(conversation, conversation.prompt, engine)
    text = await job.speak(
        engine,
        conversation.prompt,
        max_tokens=most,
        min_tokens=min(most, conversation.min_tokens),
        temperature=conversation.temperature,
        top_p=conversation.top_p,
        seed=conversation.seed,
        stop=tuple(conversation.stop),
    )
    return Reply(text=text, finish_reason="length" if text.finish_reason == "length" else "stop")


def _expect_bearable(conversation: Conversation) -> None:
    calls = [function.parameters for function in conversation.functions]
    if wrong := fault(calls) or fault([conversation.returns or {}]):
        raise TerminalError(f"the conversation is not answered: {wrong}")


async def _decide(conversation: Conversation, engine: Engine) -> JsonValue:
    """Which functions to call; none, when it ran out of tokens. Raises RetryableError for what is no decision."""
    least = 1 if conversation.must_call else 0
    schema = calls_schema(conversation.functions, least=least, most=conversation.most_calls)
    prompt = choosing(conversation)
    written = await engine.whole(prompt, _sampling(conversation, prompt, schema, engine))
    try:
        decision = Decision.model_validate_json(as_json(written))
    except ValidationError as error:
        if written.finish_reason != "length":
            raise RetryableError("the model's decision on what to call is none") from error
        decision = Decision(finish_reason="length")
    return decision.model_dump(mode="json")


async def _fit(conversation: Conversation, schema: JsonSchema, engine: Engine) -> JsonValue:
    prompt = fitting(conversation, schema)
    written = await engine.whole(prompt, _sampling(conversation, prompt, schema, engine))
    is_cut = written.finish_reason == "length"
    return Reply(text=as_json(written), finish_reason="length" if is_cut else "stop").model_dump()


def _sampling(conversation: Conversation, prompt: Prompt, schema: JsonSchema, engine: Engine) -> Sampling:
    return Sampling(
        max_tokens=_room(conversation, prompt, engine),
        temperature=conversation.temperature,
        top_p=conversation.top_p,
        seed=conversation.seed,
        schema=schema,
    )


def _room(conversation: Conversation, prompt: Prompt, engine: Engine) -> int:
    """How many tokens the answer may have."""
    room = max(1, engine.context - len(engine.encode(prompt)))
    return room if conversation.max_tokens is None else min(room, conversation.max_tokens)


chat = Pipeline("chat", reply)
