"""Prompts, measured at the door, as far as an engine can tell before it is opened."""

from __future__ import annotations

import asyncio

from actors.contracts.conversation import Conversation
from actors.engines import Engine
from actors.http.openai_errors import CONTEXT_EXCEEDED
from actors.http.problem import Refusal
from actors.pipeline import Pipeline
from actors.runtime.resource import as_set
from actors.runtime.settings import Settings

SLICE = 16 << 10
"""So many characters are counted at once: it is mostly known by then that there are too many."""


class Prompts:
    """Refuses what the engine of a pipeline's first stage would refuse later, when a person has waited for it.

    Only what is certain: a template adds to what was said, and some leave out what the model itself has said, so the
    turns of the others are counted: one prompt at a time, and beside the event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Lock()

    async def expect_room(self, pipeline: Pipeline, conversation: Conversation) -> None:
        """Raises Refusal for a prompt, or for a number of tokens to generate, that is more than the model takes."""
        uses = pipeline.entry.uses
        engine = as_set(uses, self._settings) if uses is not None else None
        if not isinstance(engine, Engine):
            return
        most, is_response = engine.context, conversation.asked.get("door") == "responses"
        if conversation.max_tokens is not None and conversation.max_tokens > most:
            detail = f"Ask for fewer tokens: the model takes {most:,}, with its prompt."
            param = "max_output_tokens" if is_response else "max_tokens"
            raise Refusal(CONTEXT_EXCEEDED, detail, param=param)
        said = [turn.content for turn in conversation.messages if turn.role != "assistant"]
        if sum(len(text.encode()) for text in said) < most:
            return  # no token is of less than a byte
        async with self._turn:
            tokens = await asyncio.to_thread(_counted, engine, said, most)
        if tokens is not None and tokens >= most:
            raise Refusal(
                CONTEXT_EXCEEDED,
                f"The prompt has {tokens:,} tokens at least, and the model takes {most:,} with its answer: shorten it.",
                param="input" if is_response else "messages",
            )


def _counted(engine: Engine, said: list[str], most: int) -> int | None:
    """So many tokens there are at least; it counts no further than to `most`. A cut may make two of one token."""
    tokens = 0
    for text in said:
        for at in range(0, len(text), SLICE):
            counted = engine.count(text[at : at + SLICE])
            if counted is None:
                return None
            tokens += max(0, counted - 1)
            if tokens >= most:
                return tokens
    return tokens
