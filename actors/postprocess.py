"""The capability `polish`: CPU work on what the model said."""

from __future__ import annotations

import re

from actors.exchange import Answer, Draft
from actors.pipeline import Job, stage


@stage(concurrency=16)
async def polish(draft: Draft, job: Job) -> Answer:
    """Tidy the text, name its sources, count its words."""
    text = tidy(draft.text)
    return Answer(
        text=text,
        sources=[p.source for p in draft.passages],
        calls=[str(result) for result in draft.results],
        words=len(text.split()),
    )


def tidy(text: str) -> str:
    """Single spaces, no blank edges, and an end at the last whole sentence where there is one."""
    text = re.sub(r"[ \t]+", " ", text).strip()
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if end > 0 else text
