"""Speech: generated text on its way from the engine into the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.contracts.errors import TerminalError
from actors.contracts.events import Delta
from actors.contracts.generation import FinishReason, Prompt, Sampling, Speech, Usage
from actors.engines.protocol import Engine
from actors.engines.transcript import Transcript
from actors.runtime.metered import Metered
from actors.runtime.pacing import Pace
from actors.runtime.writer import Stamp, StepWriter


async def speak(
    writer: StepWriter,
    pace: Pace,
    engine: Metered,
    prompt: Prompt,
    sampling: Sampling,
    *,
    begun: Callable[[Callable[[], object]], None] = lambda hush: None,
) -> Speech:
    """Generate aloud, in one resumable generation; the whole text, once all of it is stored.

    Readers see only what is stored; what the engine makes while an append is under way joins the next one. It goes on
    from the token ids that an earlier attempt stored: prompt ids and stored ids go back to the engine, never text. When
    the end is stored too, no engine is called. Raises Settled.

    `begun` is given what stops the engine for good: what it has said until then is stored all the same, and this is
    cancelled after that, so that whoever goes on computes no token again.
    """
    await writer.ensure_claimed()
    said, shown = writer.said, writer.shown
    tokens = engine.encode(prompt)
    engine.note(Usage(output_tokens=len(said)))
    if writer.finish_reason:
        engine.note(Usage(prompt_tokens=len(tokens)))
        return Speech(shown, writer.finish_reason)
    if len(tokens) >= engine.context:
        raise TerminalError(
            f"the prompt has {len(tokens):,} tokens; the model takes {engine.context:,} with its output: shorten it"
        )
    transcript = Transcript(engine.decoder(), sampling.stop, sampling.min_tokens)
    transcript.feed(said)
    spoken = _Spoken()
    listening = asyncio.create_task(_listen(engine, tokens, sampling, said, transcript, spoken))
    listening.add_done_callback(lambda _: spoken.fail(asyncio.CancelledError()))
    begun(listening.cancel)
    text, at = [shown], len(said)
    try:
        while True:
            await spoken.something()
            async with pace.turn():
                piece = spoken.take()
                await writer.say(piece.as_delta(writer.handoff.stage, at))
            engine.keep(len(piece.tokens))
            text.append(piece.text)
            at += len(piece.tokens)
            if piece.finish_reason:
                return Speech("".join(text), piece.finish_reason)
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def _listen(
    engine: Engine,
    prompt: Sequence[int],
    sampling: Sampling,
    said: Sequence[int],
    transcript: Transcript,
    spoken: _Spoken,
) -> None:
    """Run the engine and collect what it says; leaving early aborts the request."""
    try:
        async with contextlib.aclosing(engine.generate("", prompt, sampling, said=said)) as pieces:
            async for piece in pieces:
                heard = transcript.feed(piece.tokens)
                reason: FinishReason | None = "stop" if heard.stopped else piece.finish_reason
                rest = transcript.finish() if reason and not heard.stopped else ""
                spoken.add(piece.tokens[: heard.taken], heard.text + rest, reason)
                if reason:
                    return
        raise RuntimeError("the engine ended a generation without saying why")
    except Exception as error:  # given to whoever takes the next piece
        spoken.fail(error)


@dataclass(frozen=True, slots=True)
class _Piece:
    tokens: tuple[int, ...]
    text: str
    finish_reason: FinishReason | None

    def as_delta(self, stage: str, at: int) -> Callable[[Stamp], Delta]:
        return lambda stamp: Delta(
            **stamp, stage=stage, text=self.text, tokens=self.tokens, from_=at, finish_reason=self.finish_reason
        )


class _Spoken:
    """What the engine has said and nobody has stored yet, as one piece."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._text: list[str] = []
        self._reason: FinishReason | None = None
        self._error: BaseException | None = None
        self._filled = asyncio.Event()

    def add(self, tokens: Sequence[int], text: str, reason: FinishReason | None) -> None:
        self._tokens.extend(tokens)
        self._text.append(text)
        self._reason = reason
        if tokens or reason:
            self._filled.set()

    def fail(self, error: BaseException) -> None:
        """Nothing more is said; the first error counts."""
        self._error = self._error or error
        self._filled.set()

    async def something(self) -> None:
        """Wait until there is something to take, or the engine has failed."""
        await self._filled.wait()

    def take(self) -> _Piece:
        """All of it. Raises the engine's error once everything before it was taken."""
        if not self._tokens and not self._reason and self._error:
            raise self._error
        piece = _Piece(tuple(self._tokens), "".join(self._text), self._reason)
        self._tokens, self._text = [], []
        if not self._error:
            self._filled.clear()
        return piece
