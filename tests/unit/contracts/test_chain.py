from __future__ import annotations

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from actors.contracts.chain import NO_TEXT, Chain, digest, text_digest
from actors.contracts.fold import chain_of
from tests.records import Log


def test_a_digest_is_the_sha256_of_the_stored_bytes() -> None:
    assert digest(b"stored") == sha256(b"stored").hexdigest()


def test_a_fact_moves_the_chain_and_leaves_the_text_as_it_is() -> None:
    chain = Chain(seq=7, n=2, prev="p", text="t").with_fact(9, b"fact")
    assert chain == Chain(seq=9, n=3, prev=digest(b"fact"), text="t")


def test_text_moves_the_chain_and_leaves_the_facts_as_they_are() -> None:
    chain = Chain(seq=7, n=2, prev="p").with_text(9, b"text")
    assert chain == Chain(seq=9, n=3, prev="p", text=text_digest(NO_TEXT, b"text"))


@given(st.lists(st.binary(), min_size=1), st.data())
def test_the_digest_of_text_changes_with_every_byte_and_with_where_it_was_cut(
    said: list[bytes], data: st.DataObject
) -> None:
    def all_of(parts: list[bytes]) -> str:
        running = NO_TEXT
        for part in parts:
            running = text_digest(running, part)
        return running

    at = data.draw(st.integers(0, len(said) - 1))
    changed = [*said[:at], said[at] + b"x", *said[at + 1 :]]
    assert all_of(said) != all_of(changed)
    assert all_of(said) != all_of([*said, b""])
    assert all_of([b"".join(said)]) == all_of(said) if len(said) == 1 else all_of([b"".join(said)]) != all_of(said)


def test_a_writer_and_a_reader_of_the_same_log_know_the_same_chain() -> None:
    log, chain = Log(), Chain()
    log.hand_off()
    log.start("a")
    log.say("Mill", (1,), 0)
    log.say("race", (2,), 1)
    for record in log.records:
        grown = chain.with_text if record.is_text else chain.with_fact
        chain = grown(record.seq, record.data)
    assert chain_of(log.records) == chain


def test_a_new_step_begins_without_text_and_one_given_out_again_keeps_it() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    log.say("Mill", (1,), 0)
    said = chain_of(log.records).text
    assert said != NO_TEXT
    log.hand_off(of=1)
    assert chain_of(log.records).text == said
    log.hand_off("polish")
    assert chain_of(log.records).text == NO_TEXT
