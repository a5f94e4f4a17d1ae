"""A pipeline that speaks with a real model in real vLLM, as small as it can be."""

from __future__ import annotations

from actors import Job, Message, Pipeline, stage
from actors.engines import Engine, Vllm
from tests.tiny_model import CONTEXT


class Cue(Message):
    """What is to be said."""

    text: str


class Line(Message):
    """What was said."""

    text: str


@stage(uses=Vllm(max_model_len=CONTEXT, max_num_seqs=4, dtype="float32", kv_cache_gib=0.25))
async def utter(cue: Cue, job: Job, engine: Engine) -> Line:
    return Line(text=await job.speak(engine, cue.text, max_tokens=8, min_tokens=8))


spoken = Pipeline("spoken", utter)
