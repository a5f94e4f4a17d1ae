"""A transcript: the text of one generation, made from its token ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.engines.protocol import Decoder


@dataclass(frozen=True, slots=True)
class Heard:
    """What some tokens added: text that may be shown, how many of them were taken, and whether a stop string came."""

    text: str
    taken: int
    stopped: bool


class Transcript:
    """Turns a generation's token ids into text that ends before the first stop string.

    A pure function of the ids: fed the stored ones again after a crash, it goes on exactly as if there had been none.
    Text that may be the beginning of a stop string is held back until it is known not to be. Stop strings count only
    once there are `min_tokens` tokens.
    """

    def __init__(self, decoder: Decoder, stop: Sequence[str] = (), min_tokens: int = 0) -> None:
        self._decoder = decoder
        self._stop = tuple(stop)
        self._min_tokens = min_tokens
        self._count = 0
        self._held = ""

    def feed(self, tokens: Sequence[int]) -> Heard:
        """Take tokens up to the one that completes a stop string."""
        shown: list[str] = []
        for taken, token in enumerate(tokens, 1):
            self._count += 1
            self._held += self._decoder.feed((token,))
            if self._count >= self._min_tokens and (at := self._find_stop()) is not None:
                shown.append(self._held[:at])
                self._held = ""
                return Heard("".join(shown), taken, stopped=True)
            keep = self._may_begin_stop()
            shown.append(self._held[: len(self._held) - keep])
            self._held = self._held[len(self._held) - keep :]
        return Heard("".join(shown), len(tokens), stopped=False)

    def finish(self) -> str:
        """The text that was held back, once nothing follows it."""
        held, self._held = self._held, ""
        return held

    def _find_stop(self) -> int | None:
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        return min(found, default=None)

    def _may_begin_stop(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        longest = 0
        for stop in self._stop:
            for n in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:n]):
                    longest = n
                    break
        return longest
