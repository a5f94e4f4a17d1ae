"""An engine in a thread of its own, for callers that cannot await: each of them waits in a thread of its own too."""

from __future__ import annotations

import asyncio
from threading import Lock, Thread

from actors.engines import Engine
from benchmarks.generated import said


class EngineThread:
    """Opens its engine when it is first asked, so that a process that was forked meanwhile has one of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opening = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def answer(self, text: str, tokens: int) -> str:
        """What the engine says, once all of it is said."""
        asked = said(self._engine, text, tokens)
        return asyncio.run_coroutine_threadsafe(asked, self._opened()).result()

    def _opened(self) -> asyncio.AbstractEventLoop:
        with self._opening:
            if not self._loop:
                self._loop = asyncio.new_event_loop()
                Thread(target=self._loop.run_forever, daemon=True).start()
                asyncio.run_coroutine_threadsafe(self._engine.__aenter__(), self._loop).result()
        return self._loop
