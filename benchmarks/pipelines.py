"""The pipelines that are measured; stages that compute nothing, so that what is left is Headrace."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from actors import Job, Message, Pipeline, Replicas, stage
from actors.engines import Engine, Scripted, Vllm
from benchmarks.tally import Observed, Tallied, Tally

FIRST_TOKEN_S = 0.05
TOKEN_S = 0.02

LONG_TOKEN_S = 0.2
"""For work that is to take long and cost little: who waits for it is what is looked at."""

SLOTS = 4
"""How many requests one replica of `think` generates for at once: small, so that replicas are what there is to gain."""

SEATS = 64
"""How many requests `counsel`, and the synchronous endpoint that it is compared with, generate for at once."""

ADVISERS = 2
"""How many replicas have those seats in `advise`, each its share: when one is killed, there is another."""

SURGE_REPLICAS = Replicas(min=1, max=3, lag_per_replica=2_500, down_after=5.0)
SWELL_REPLICAS = Replicas(min=1, max=2, lag_per_replica=10, down_after=2.0)


class Ask(Message):
    """What is to be said, and in how many tokens."""

    text: str
    tokens: int


class Said(Message):
    """The answer."""

    text: str


class Passed(Message):
    """On its way from one stage to the next."""


class Arrived(Message):
    """When the second stage began, in seconds since 1970."""

    began: float


class Chore(Ask):
    """What is to be said, after so many rounds of work on it."""

    rounds: int


class Crunched(Ask):
    """What the CPU made of a question."""


def paced(slots: int) -> Scripted:
    """An engine that costs next to nothing and keeps to a schedule."""
    return Scripted(says="turn " * 256, first_token_s=FIRST_TOKEN_S, token_s=TOKEN_S, max_num_seqs=slots)


def unhurried(slots: int = SEATS, tally: Path | None = None) -> Observed:
    """One whose answer to 64 tokens takes about as long as a short one of a real model, two and a half seconds."""
    kept = Tally(tally) if tally else None
    return Observed(says="turn " * 256, first_token_s=0.1, token_s=0.04, max_num_seqs=slots, tally=kept)


async def _speak(ask: Ask, job: Job, engine: Engine) -> Said:
    return Said(text=await job.speak(engine, ask.text, max_tokens=ask.tokens, min_tokens=ask.tokens))


@stage(uses=paced(64), concurrency=64)
async def recite(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


@stage(uses=unhurried(), concurrency=SEATS)
async def counsel(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


@stage(uses=unhurried(SEATS // ADVISERS), concurrency=SEATS // ADVISERS, cpus=0.1, replicas=ADVISERS)
async def advise(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


@stage(uses=Vllm(), gpus=1, cpus=0.5, concurrency=64)
async def generate(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


recounted = Tallied(says="turn " * 256, first_token_s=FIRST_TOKEN_S, token_s=TOKEN_S)
"""What `recount` speaks with; each process of a worker sets it up anew."""


@stage(uses=recounted, concurrency=32)
async def recount(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


@stage()
async def send(ask: Ask, job: Job) -> Passed:
    return Passed()


@stage()
async def receive(passed: Passed, job: Job) -> Arrived:
    return Arrived(began=time.time())


@stage(replicas=0)
async def shelve(ask: Ask, job: Job) -> Said:
    return Said(text="")


@stage(concurrency=2)
def crunch(chore: Chore, job: Job) -> Crunched:
    """Real work, of the kind that holds the interpreter: one replica is one core at most."""
    digest = chore.text.encode()
    for _ in range(chore.rounds):
        digest = hashlib.sha256(digest).digest()
    return Crunched(text=digest.hex(), tokens=chore.tokens)


@stage(uses=paced(SLOTS), gpus=0.25, concurrency=SLOTS)
async def think(crunched: Crunched, job: Job, engine: Engine) -> Said:
    return await _speak(crunched, job, engine)


@stage(uses=Vllm(), gpus=0.25, cpus=0.25, concurrency=64)
async def think_for_real(crunched: Crunched, job: Job, engine: Engine) -> Said:
    return await _speak(crunched, job, engine)


@stage(
    uses=Scripted(says="turn " * 16, first_token_s=LONG_TOKEN_S, token_s=LONG_TOKEN_S, max_num_seqs=SLOTS),
    concurrency=SLOTS,
)
async def ferry(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


@stage(uses=paced(64), concurrency=64, cpus=0.1, replicas=SURGE_REPLICAS)
async def rush(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


@stage(uses=paced(SLOTS), concurrency=SLOTS, cpus=0.1, replicas=SWELL_REPLICAS)
async def rise(ask: Ask, job: Job, engine: Engine) -> Said:
    return await _speak(ask, job, engine)


recital = Pipeline("recital", recite)
counselling = Pipeline("counselling", counsel)
advising = Pipeline("advising", advise)
generation = Pipeline("generation", generate)
retelling = Pipeline("retelling", recount)
relay = Pipeline("relay", send, receive)
shelf = Pipeline("shelf", shelve)
crossing = Pipeline("crossing", ferry)
surge = Pipeline("surge", rush)
swell = Pipeline("swell", rise)
study = Pipeline("study", crunch, think)
real_study = Pipeline("real_study", crunch, think_for_real)
