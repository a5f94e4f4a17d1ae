"""Two models: a small one drafts, another checks; what it objects to is drafted again, a few times at most."""

from __future__ import annotations

from pydantic import BaseModel, Field

from actors import Job, Message, Pipeline, chat, stage
from actors.engines import Engine, Vllm
from actors.inference import write

ROUNDS = 3


class Brief(Message):
    text: str


class Written(Message):
    brief: str
    text: str
    round: int


class Objection(Written):
    why: str


class Checked(Message):
    text: str
    approved: bool


class Verdict(BaseModel):
    good: bool
    why: str = Field(max_length=60)


@write.also  # on the small model that `analysis` has
async def draft(asked: Brief | Objection, job: Job, engine: Engine) -> Written:
    if isinstance(asked, Brief):
        return Written(brief=asked.text, text=await job.speak(engine, chat(asked.text), max_tokens=60), round=1)
    prompt = f"{asked.brief}\n\nNot like this: {asked.text}\n{asked.why}"
    return Written(brief=asked.brief, text=await job.speak(engine, chat(prompt), max_tokens=60), round=asked.round + 1)


@stage(gpus=1, cpus=0.5, uses=Vllm("HuggingFaceTB/SmolLM2-360M-Instruct", max_model_len=512), concurrency=32)
async def check(written: Written, job: Job, engine: Engine) -> Objection | Checked:
    await job.report("checking", done=written.round, total=ROUNDS)
    asked = chat(f"{written.brief}\n\n{written.text}", system="Say whether this text is good, and why.")
    verdict = await engine.structured(asked, Verdict, max_tokens=300)
    if verdict.good or written.round == ROUNDS:
        return Checked(text=written.text, approved=verdict.good)
    return Objection(**written.model_dump(), why=verdict.why)


checked = Pipeline("checked", draft, check)
