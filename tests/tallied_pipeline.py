"""A pipeline whose engine writes down each token that it makes, in whichever process, and hangs when it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from actors import Job, Message, Pipeline, stage
from actors.contracts.generation import Piece, Sampling
from actors.engines import Engine, Scripted

FOLDER = "TALLY"
"""The variable of the environment that names the folder of the tally; every replica inherits it."""

WORDS = " ".join(f"w{n:03}" for n in range(120))
TOKEN_S = 0.05


class Tally:
    """What all engines together have made."""

    def __init__(self, folder: Path) -> None:
        self._tokens = folder / "tokens"
        self._hang = folder / "hang"

    def add(self, tokens: int) -> None:
        file = os.open(self._tokens, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, b"." * tokens)
        finally:
            os.close(file)

    @property
    def tokens(self) -> int:
        """How many tokens were made so far."""
        return self._tokens.stat().st_size if self._tokens.exists() else 0

    def hang(self) -> None:
        """Let one engine, the first that goes on, make nothing more for anybody."""
        self._hang.touch()

    def takes_it_to_hang(self) -> bool:
        """Whether it is this engine."""
        with suppress(FileNotFoundError):
            self._hang.unlink()
            return True
        return False


class Tallied(Scripted):
    """The scripted engine, with a tally."""

    _hangs = False

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        tally = Tally(Path(os.environ[FOLDER]))
        async with aclosing(super().generate(request, prompt, sampling, said=said)) as pieces:
            while True:
                self._hangs = self._hangs or tally.takes_it_to_hang()
                if self._hangs:
                    await asyncio.Event().wait()
                piece = await anext(pieces, None)
                if piece is None:
                    return
                tally.add(len(piece.tokens))
                yield piece


class Tune(Message):
    """What is sung."""

    name: str


class Song(Message):
    """The answer."""

    text: str


@stage(uses=Tallied(says=WORDS, first_token_s=TOKEN_S, token_s=TOKEN_S), concurrency=8, replicas=2)
async def sing(tune: Tune, job: Job, engine: Engine) -> Song:
    return Song(text=await job.speak(engine, tune.name, max_tokens=1_000))


songs = Pipeline("songs", sing)
