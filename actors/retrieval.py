"""The capability `retrieve`: passages that bear on a question."""

from __future__ import annotations

import asyncio
import json
import threading
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.exchange import Grounded, Passage, Question
from actors.pipeline import Job, stage
from actors.progress import PASSAGES, RETRIEVING
from actors.runtime.settings import Settings

if TYPE_CHECKING:
    from actors.index.store import Store

MOST = 3
"""How many passages a question gets: what a small model can read with profit."""


class Index:
    """The index that is set, as soon as there is one; until then the sample corpus that comes with Headrace.

    What `headrace index` stores is found by the next search, without a restart.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._sample: Store | None = None
        self._set: Store | None = None
        self._inode = -1
        self._opening = threading.Lock()

    def with_settings(self, settings: Settings) -> Index:
        return self if self._path else Index(settings.index_file)

    async def __aenter__(self) -> Self:
        self._sample = await asyncio.to_thread(_sample)
        await asyncio.to_thread(self._store)  # what is wrong with it is better known before there is a question
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for store in (self._sample, self._set):
            if store:
                store.close()
        self._sample = self._set = None

    async def search(self, question: str, most: int = MOST) -> list[Passage]:
        """The passages that bear on it, best first. Raises IndexUnusable."""
        found = await asyncio.to_thread(lambda: self._store().search(question, most))
        return [Passage(source=passage.source, text=passage.text) for passage in found]

    def _store(self) -> Store:
        """The index that is there now; a file that was put in its place is another one."""
        from actors.index.store import Store

        assert self._sample is not None, "use it as `async with Index() as index`"
        with self._opening:
            if not self._path or not self._path.exists() or not (status := self._path.stat()).st_size:
                return self._sample  # also while another process still makes the file
            if status.st_ino != self._inode or not self._set:
                self._set, self._inode = Store.open(self._path), status.st_ino
            return self._set


def _sample() -> Store:
    """The sample corpus, indexed in memory."""
    from actors.index.store import Found, Known, Store

    store = Store.open(None)
    lines = files("actors.corpus").joinpath("passages.jsonl").read_text().splitlines()
    for at, line in enumerate(lines):
        store.put("corpus", str(at), Known(b"", ""), [Found(**json.loads(line))])
    return store


@stage(uses=Index(), concurrency=16)
async def retrieve(question: Question, job: Job, index: Index) -> Grounded:
    """Find what the documents say about the question."""
    await job.report(RETRIEVING)
    passages = await index.search(question.text)
    await job.report(PASSAGES, done=len(passages), total=MOST)
    return Grounded(question=question.text, passages=passages)
