"""A detokenizer: the text of token ids, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What tokenizers write for bytes that are no character, or not one yet."""


class Detokenizer:
    """Decodes a generation with a `decode` that only knows whole sequences, as tokenizers have it.

    The text of a token depends on the one before it, and a character may span several. So the newest tokens are decoded
    together with those whose text came last, and only what is new is given. Unfinished characters wait.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._context = 0
        """How many tokens at the window's beginning were given whole, and are there for the sake of the next ones."""
        self._given = 0
        """How many characters of the window's text were given."""

    def feed(self, tokens: Sequence[int]) -> str:
        return "".join(self._take(token) for token in tokens)

    def _take(self, token: int) -> str:
        self._window.append(token)
        text = self._decode(self._window)
        whole = text.rstrip(UNFINISHED)
        new = whole[self._given :]
        self._given = max(self._given, len(whole))
        if new and whole == text:
            self._window = self._window[self._context :]
            self._context = len(self._window)
            self._given = len(self._decode(self._window))
        return new
