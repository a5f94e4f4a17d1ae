"""Embeddings: texts as directions, near each other where their meanings are. The one door to the model that is used.

It is WordLlama's static embedding (256 numbers for each of 32,000 tokens, averaged), whose weights come with the
package `wordllama`. Its two files are read here; the package is never imported, as it would ask a hub for one of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.contracts.errors import HeadraceError

NAME = "wordllama/l2_supercat_256"
"""What indexes are marked with: the numbers of another model mean something else."""

DIMENSIONS = 256

_PACKAGE = "wordllama"

Vectors = NDArray[np.float32]


class Embedding:
    """A static embedding model. Thread-safe; the same text always gives the same numbers."""

    def __init__(self, tokenizer: Any, weights: Vectors) -> None:
        self._tokenizer = tokenizer
        self._weights = weights

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """A direction of length 1 for each text; all zeros for one without a token."""
        made = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, encoded in zip(made, self._tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True):
            if encoded.ids:
                row[:] = self._weights[encoded.ids].mean(axis=0)
                row /= np.linalg.norm(row) or 1.0
        return made


@cache
def embedding() -> Embedding:
    """The model, loaded once in a process, in half a second. Raises HeadraceError when it is not installed."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = _folder()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    weights = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    return Embedding(tokenizer, weights.astype(np.float32))


def _folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations if spec else None) or ():
        return Path(place)
    raise HeadraceError(f"the package {_PACKAGE} is not installed, and with it the embeddings; run `make setup`")
