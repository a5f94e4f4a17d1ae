from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from actors.engines import Scripted
from actors.engines.scripted import tokens_of
from actors.engines.transcript import Transcript

TEXTS = st.text(alphabet="ab. é東🙂", max_size=60)
STOPS = st.lists(st.text(alphabet="ab. é東🙂", min_size=1, max_size=6), max_size=3).map(tuple)


def transcript(stop: tuple[str, ...] = (), min_tokens: int = 0) -> Transcript:
    return Transcript(Scripted().decoder(), stop, min_tokens)


def heard(tokens: list[int], cuts: list[int], stop: tuple[str, ...], min_tokens: int) -> tuple[str, int, bool]:
    """What a transcript makes of these tokens when they come in pieces that end at these cuts."""
    script = transcript(stop, min_tokens)
    text, taken = "", 0
    bounds = sorted({0, *cuts, len(tokens)})
    for begin, end in itertools.pairwise(bounds):
        piece = script.feed(tokens[begin:end])
        text += piece.text
        taken += piece.taken
        if piece.stopped:
            return text, taken, True
    return text + script.finish(), taken, False


def cuts_of(data: st.DataObject, tokens: list[int]) -> list[int]:
    return data.draw(st.lists(st.integers(0, len(tokens)), max_size=6))


@given(text=TEXTS, stop=STOPS, min_tokens=st.integers(0, 8), data=st.data())
def test_it_hears_the_same_however_the_tokens_are_cut_into_pieces(
    text: str, stop: tuple[str, ...], min_tokens: int, data: st.DataObject
) -> None:
    tokens = tokens_of(text)
    whole = heard(tokens, [], stop, min_tokens)
    assert heard(tokens, cuts_of(data, tokens), stop, min_tokens) == whole


@given(text=TEXTS, stop=STOPS, data=st.data())
def test_rebuilt_from_stored_tokens_it_goes_on_as_if_nothing_had_happened(
    text: str, stop: tuple[str, ...], data: st.DataObject
) -> None:
    tokens = tokens_of(text)
    cut = data.draw(st.integers(0, len(tokens)))
    before, rebuilt = transcript(stop), transcript(stop)
    shown = before.feed(tokens[:cut])
    assert rebuilt.feed(tokens[:cut]) == shown
    assert rebuilt.feed(tokens[cut:]) == before.feed(tokens[cut:])
    assert rebuilt.finish() == before.finish()


@given(text=TEXTS, stop=STOPS)
def test_the_text_ends_before_the_stop_string_that_is_whole_first(text: str, stop: tuple[str, ...]) -> None:
    tokens = tokens_of(text)
    shown, taken, stopped = heard(tokens, [], stop, 0)
    assert text.startswith(shown)
    assert stopped == any(s in text for s in stop)
    if stopped:
        assert not any(s in shown for s in stop)
        assert any(text[len(shown) :].startswith(s) for s in stop)
    else:
        assert shown == text
        assert taken == len(tokens)


@given(text=TEXTS)
def test_without_stop_strings_nothing_is_held_back_but_unfinished_characters(text: str) -> None:
    script = transcript()
    assert "".join(script.feed([token]).text for token in tokens_of(text)) == text
    assert script.finish() == ""


def test_what_may_begin_a_stop_string_waits_until_it_is_known_not_to() -> None:
    script = transcript(stop=("END.",))
    assert script.feed(tokens_of("So EN")).text == "So "
    assert script.feed(tokens_of("D")).text == ""
    assert script.feed(tokens_of("s")).text == "ENDs"


def test_only_the_tokens_up_to_the_stop_string_are_taken() -> None:
    tokens = [*tokens_of("So it is."), *tokens_of(" Not said.")]
    piece = transcript(stop=(".",)).feed(tokens)
    assert (piece.text, piece.stopped) == ("So it is", True)
    assert piece.taken == len(tokens_of("So it is."))


def test_a_stop_string_counts_only_once_there_are_enough_tokens() -> None:
    tokens = [*tokens_of("a."), *tokens_of("b."), *tokens_of("c.")]
    piece = transcript(stop=(".",), min_tokens=2).feed(tokens)
    assert (piece.text, piece.taken, piece.stopped) == ("a.b", 2, True)
