"""A pipeline whose stage has as many replicas as its lag needs, and whose engine counts its tokens over processes."""

from __future__ import annotations

from actors import Job, Message, Pipeline, Replicas, stage
from actors.engines import Engine
from tests.tallied_pipeline import Hanging

WORDS = " ".join(f"w{n:02}" for n in range(60))
TOKEN_S = 0.05

DOWN_AFTER_S = 1.0
MOST = 3


class Line(Message):
    """What is sung."""

    name: str


class Chorus(Message):
    """The answer."""

    text: str


@stage(
    uses=Hanging(says=WORDS, first_token_s=TOKEN_S, token_s=TOKEN_S),
    concurrency=2,
    replicas=Replicas(min=0, max=MOST, lag_per_replica=2, down_after=DOWN_AFTER_S),
)
async def hum(line: Line, job: Job, engine: Engine) -> Chorus:
    return Chorus(text=await job.speak(engine, line.name, max_tokens=1_000))


hummed = Pipeline("hummed", hum)
