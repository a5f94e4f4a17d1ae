"""The pipeline `chat`: the language model answers a conversation, aloud."""

from __future__ import annotations

from actors.contracts.conversation import Conversation, Reply
from actors.engines import Engine
from actors.inference import write
from actors.pipeline import Job, Pipeline


@write.also
async def reply(conversation: Conversation, job: Job, engine: Engine) -> Reply:
    """Generate the next turn. It shares its replicas, and so its engine, with `write`."""
    room = max(1, engine.context - len(engine.encode(conversation.prompt)))
    most = room if conversation.max_tokens is None else min(room, conversation.max_tokens)
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


chat = Pipeline("chat", reply)
