"""The capability `retrieve`: passages that bear on a question."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files
from types import TracebackType
from typing import Any, Self

from actors.exchange import Grounded, Passage, Question
from actors.pipeline import Job, stage

PASSAGES = 2


class Corpus:
    """The sample corpus that comes with Headrace, indexed in memory by BM25 when it is opened."""

    def __init__(self) -> None:
        self._passages: list[Passage] = []
        self._index: Any = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._index = None

    def search(self, question: str, most: int = PASSAGES) -> list[Passage]:
        """The passages that score best, best first; none that shares no word with the question."""
        import bm25s

        words = bm25s.tokenize([question], stopwords="en_plus", show_progress=False)
        found, scores = self._index.retrieve(words, k=min(most, len(self._passages)), show_progress=False)
        return [self._passages[at] for at, score in zip(found[0], scores[0], strict=True) if score > 0]

    def _open(self) -> None:
        import bm25s

        lines = files("actors.corpus").joinpath("passages.jsonl").read_text().splitlines()
        self._passages = [Passage.model_validate(json.loads(line)) for line in lines]
        self._index = bm25s.BM25()
        texts = [p.text for p in self._passages]
        self._index.index(bm25s.tokenize(texts, stopwords="en_plus", show_progress=False), show_progress=False)


@stage(uses=Corpus(), concurrency=16)
async def retrieve(question: Question, job: Job, corpus: Corpus) -> Grounded:
    """Find what the corpus says about the question."""
    return Grounded(question=question.text, passages=corpus.search(question.text))
