"""Pipelines whose stages have GPUs, a part of one, or none, and whose answers say what their replica was given."""

from __future__ import annotations

import os

from actors import Job, Message, Overflow, Pipeline, Replicas, stage
from actors.engines import Engine, Scripted

TOKEN_S = 0.05
LONG = " ".join(f"w{n:02}" for n in range(80))


class Note(Message):
    """What is to be said."""

    text: str


class Placed(Message):
    """What was said, and the GPUs that its replica saw."""

    text: str
    gpus: str


class Split(Note):
    """A note for a replica with a part of a GPU."""


class Seated(Placed):
    """What that one said."""


def _seen() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")


@stage(
    uses=Scripted(first_token_s=TOKEN_S, token_s=TOKEN_S),
    gpus=2,
    accelerator="H100",
    concurrency=1,
    overflow=Overflow(after=0.5, cpus=0.1, concurrency=1),
)
async def mill(note: Note, job: Job, engine: Engine) -> Placed:
    return Placed(text=await job.speak(engine, note.text, max_tokens=1_000), gpus=_seen())


@stage(
    uses=Scripted(first_token_s=TOKEN_S, token_s=TOKEN_S),
    gpus=0.5,
    concurrency=2,
    replicas=Replicas(min=1, max=1, spare=1),
)
async def sift(split: Split, job: Job, engine: Engine) -> Seated:
    await job.report(str(os.getpid()))
    return Seated(text=await job.speak(engine, split.text, max_tokens=1_000), gpus=_seen())


class Sack(Message):
    """What is to be weighed."""


class Weighed(Message):
    """The GPUs that a stage without any saw."""

    gpus: str


@stage()
async def weigh(sack: Sack, job: Job) -> Weighed:
    return Weighed(gpus=_seen())


milled = Pipeline("milled", mill)
sifted = Pipeline("sifted", sift)
weighed = Pipeline("weighed", weigh)
