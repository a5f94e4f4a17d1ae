"""The jobs of a run, and what each of them must come to."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from actors.contracts.generation import Piece, Sampling
from actors.engines import Scripted
from tests.chaos.history import Pen
from tests.pipelines import Delivered

WORDS = ("mill", "race", "wheel", "stone", "sluice", "pond", "dam", "weir", "gate", "shaft", "grain", "flour")


def story(prompt: str) -> str:
    """What the engine says to a prompt: the same always, and as good as never the same for two prompts."""
    digest = hashlib.sha256(prompt.encode()).digest()
    return " ".join(f"{WORDS[byte % len(WORDS)]}{byte}" for byte in digest[: 16 + digest[0] % 16])


def answer(prompt: str) -> dict[str, Any]:
    """The answer of the job with this prompt, whatever happened on the way."""
    return Delivered(text=story(prompt), pieces=[f"one of {prompt}", f"two of {prompt}"]).model_dump()


@dataclass(kw_only=True)
class Narrator(Scripted):
    """The scripted engine, which writes down each generation that it begins and each token that it makes."""

    pen: Pen

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        self.pen.note("engine.start", request=request, said=len(said))
        async for piece in super().generate(request, prompt, sampling, said=said):
            self.pen.note("engine.tokens", request=request, count=len(piece.tokens))
            yield piece
