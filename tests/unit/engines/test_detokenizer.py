from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engines.detokenizer import Detokenizer
from tests.tiny_model import tokenizer

TOKENIZER = tokenizer()
SIZE = TOKENIZER.get_vocab_size()


def decode(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(tokens))


def with_byte_fallback() -> tuple[Callable[[str], list[int]], Callable[[list[int]], str]]:
    """A vocabulary like sentencepiece's: words begin with a mark for their space, rare characters are single bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁ab", "."]
    made = Tokenizer(
        models.BPE(
            vocab={piece: n for n, piece in enumerate(pieces)},
            merges=[("▁", "a"), ("▁a", "b")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return lambda text: list(made.encode(text).ids), lambda tokens: str(made.decode(tokens))


@given(text=st.text(alphabet="the fox.é東🙂👩‍👩‍👧 ", max_size=40))
def test_the_pieces_add_up_to_the_text(text: str) -> None:
    tokens = TOKENIZER.encode(text).ids
    detokenizer = Detokenizer(decode)
    assert "".join(detokenizer.feed([token]) for token in tokens) == text


@given(tokens=st.lists(st.integers(0, SIZE - 1), max_size=40), data=st.data())
def test_any_ids_give_the_same_text_however_they_are_cut(tokens: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(tokens)))
    whole, resumed = Detokenizer(decode), Detokenizer(decode)
    assert resumed.feed(tokens[:cut]) + resumed.feed(tokens[cut:]) == whole.feed(tokens)


@given(tokens=st.lists(st.integers(0, SIZE - 1), max_size=40))
def test_what_is_given_is_what_decoding_everything_begins_with(tokens: list[int]) -> None:
    assert decode(tokens).startswith(Detokenizer(decode).feed(tokens))


@pytest.mark.parametrize("text", ["ab ab", "a 東京 ab.", "🙂 a", "東", "ab é ab"])
def test_a_vocabulary_that_falls_back_to_bytes_is_decoded_too(text: str) -> None:
    encode, decoded = with_byte_fallback()
    tokens = encode(text)
    detokenizer = Detokenizer(decoded)
    assert "".join(detokenizer.feed([token]) for token in tokens) == text


def test_an_unfinished_character_waits_for_its_last_token() -> None:
    tokens = TOKENIZER.encode("🙂").ids
    assert len(tokens) > 1
    detokenizer = Detokenizer(decode)
    assert [detokenizer.feed([token]) for token in tokens] == [""] * (len(tokens) - 1) + ["🙂"]


def test_a_character_is_given_although_the_next_one_has_begun() -> None:
    first, second = "東", "京"
    pieces = {0: "", 1: first + "\ufffd", 2: first + second}
    detokenizer = Detokenizer(lambda tokens: pieces[len(tokens)])
    assert [detokenizer.feed([7]), detokenizer.feed([7])] == [first, second]


def test_special_tokens_say_nothing() -> None:
    end = TOKENIZER.token_to_id("<|im_end|>")
    detokenizer = Detokenizer(decode)
    assert detokenizer.feed([*TOKENIZER.encode("the fox").ids, end]) == "the fox"
