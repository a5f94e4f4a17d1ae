from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from actors.index.embedding import DIMENSIONS, embedding


def test_meanings_are_near_where_words_are_not_the_same() -> None:
    question, near, far = embedding()(
        ["where does the water go?", "a channel takes the stream back to the river", "the invoice is due in May"]
    )
    assert question @ near > question @ far + 0.1


def test_each_is_of_length_one_whatever_stands_beside_it() -> None:
    texts = ["a mill", "東京", "x " * 5_000]
    together = embedding()(texts)
    assert together.shape == (3, DIMENSIONS)
    assert np.allclose(np.linalg.norm(together, axis=1), 1)
    assert all(np.array_equal(row, embedding()([text])[0]) for row, text in zip(together, texts, strict=True))


def test_a_text_without_a_token_has_no_direction() -> None:
    assert not embedding()([""]).any()


def test_it_needs_no_network_no_home_and_not_its_package(tmp_path: Path) -> None:
    code = """
import socket, sys
def refuse(*_): raise AssertionError("it asks the network")
socket.socket.connect = socket.getaddrinfo = refuse
from actors.index.embedding import embedding
embedding()(["a mill"])
print([m for m in ("wordllama", "requests", "huggingface_hub", "torch") if m in sys.modules])
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.getcwd()}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
    assert not list(tmp_path.iterdir())
