from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.index.documents import MOST_BYTES, NotADocument, bytes_of, text_of


def test_text_comes_without_its_mark() -> None:
    assert text_of(Path("a.txt"), b"\xef\xbb\xbfGr\xc3\xb6\xc3\x9fe") == "Größe"


def test_html_is_what_its_reader_sees() -> None:
    page = "<title>Mills</title><style>p {}</style><p>They &amp; <b>all</b></p><script>x</script><p>grind"
    assert text_of(Path("a.HTML"), page.encode()).split() == ["Mills", "They", "&", "all", "grind"]
    assert "all\n\n" in text_of(Path("a.html"), page.encode())


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"%PDF\xff\xfe", "no UTF-8 text (byte 4): convert it"), (b"a\0b", "null bytes"), (b" \n", "no text")],
)
def test_what_is_no_text_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(NotADocument) as refused:
        text_of(Path("a.txt"), data)
    assert why in str(refused.value)


def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotADocument, match="no ordinary file"):
        bytes_of(tmp_path / "pipe", (tmp_path / "pipe").stat())


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(NotADocument, match="split it"):
        bytes_of(tmp_path / "large", (tmp_path / "large").stat())
