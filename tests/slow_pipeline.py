"""A pipeline, and a chat, that take their time, so that something can be killed meanwhile."""

from __future__ import annotations

from actors import Job, Message, Pipeline, stage
from actors.contracts.conversation import Conversation, Reply
from actors.engines import Engine, Scripted

WORDS = " ".join(f"word{n}" for n in range(60))
TOKEN_S = 0.03


class Topic(Message):
    """What is told of."""

    name: str


class Tale(Message):
    """What was told."""

    text: str


class Told(Message):
    """The answer."""

    text: str
    words: int


@stage(uses=Scripted(says=WORDS, first_token_s=TOKEN_S, token_s=TOKEN_S), concurrency=32)
async def tell(topic: Topic, job: Job, engine: Engine) -> Tale:
    return Tale(text=await job.speak(engine, topic.name, max_tokens=1_000))


@tell.also
async def gossip(said: Conversation, job: Job, engine: Engine) -> Reply:
    return Reply(text=await job.speak(engine, said.prompt, max_tokens=1_000), finish_reason="stop")


@stage()
def count(tale: Tale, job: Job) -> Told:
    return Told(text=tale.text, words=len(tale.text.split()))


tales = Pipeline("tales", tell, count)
gossips = Pipeline("gossip", gossip)
