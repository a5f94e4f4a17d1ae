from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.index.passages import MOST, Piece, pieces_of

WORDS = st.text(alphabet="ab é東.#\n\r\t ", max_size=4_000)


def test_paragraphs_stand_together_as_they_fit_and_know_their_line() -> None:
    long = "x" * (MOST - 10)
    assert pieces_of(f"one\ntwo\n\nthree\n\n\n{long}\n") == [Piece(1, "one\ntwo\n\nthree"), Piece(7, long)]


def test_a_heading_begins_a_passage_and_stays_with_what_follows() -> None:
    assert pieces_of("before\n# Mills\n\nThey grind.\n\n## Stones\nTwo.") == [
        Piece(1, "before"),
        Piece(2, "# Mills\n\nThey grind."),
        Piece(6, "## Stones\nTwo."),
    ]


def test_a_long_paragraph_is_cut_after_a_sentence() -> None:
    sentence = "The wheel turns the stone. "
    pieces = pieces_of(sentence * 100)
    assert len(pieces) > 2
    assert all(piece.text.endswith("stone.") and piece.line == 1 for piece in pieces)


def test_the_parts_of_a_long_paragraph_know_their_lines() -> None:
    lines = [f"line {n} " + "x" * 90 for n in range(1, 40)]
    for piece in pieces_of("\n".join(lines)):
        assert piece.text.startswith(f"line {piece.line} ")


@given(WORDS)
def test_nothing_but_white_space_is_lost_and_no_passage_is_too_long(text: str) -> None:
    pieces = pieces_of(text)
    assert "".join("".join(piece.text for piece in pieces).split()) == "".join(text.split())
    assert all(0 < len(piece.text) <= MOST for piece in pieces)
    assert [piece.line for piece in pieces] == sorted(piece.line for piece in pieces)
