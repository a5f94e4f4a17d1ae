from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from actors.audit.chain import Chain, text_flaws
from actors.audit.finding import Flaw
from actors.contracts.chain import NO_TEXT, text_digest
from actors.contracts.events import Cancelled, Completed, Record, ReviewRedriven
from actors.contracts.messages import Packed
from actors.contracts.subjects import LOCAL
from tests.records import ORIGIN, Log

ANSWER = Packed(type="Answer", body={})


def a_job() -> Log:
    """A hand-off, a failed attempt, text, another hand-off, the outcome, a review."""
    log = Log()
    log.hand_off("write")
    log.start("a")
    log.fail("a")
    log.start("b")
    log.say("it ", (1,), 0)
    log.say("runs", (2,), 1)
    text = text_digest(text_digest(NO_TEXT, log.records[4].data), log.records[5].data)
    log.hand_off("polish", text=text)
    log.add(Completed, origin=ORIGIN, answer=ANSWER)
    log.add(ReviewRedriven, to="a" * 26)
    return log


def facts(log: Log) -> list[Record]:
    return [record for record in log.records if not record.is_text]


def taken(records: Sequence[Record]) -> Chain:
    chain = Chain(LOCAL)
    for record in records:
        chain.take(record)
    return chain


def flaws(records: Sequence[Record]) -> list[Flaw]:
    return [flaw for flaw, _ in taken(records).flaws()]


def altered(record: Record, before: bytes, after: bytes) -> Record:
    assert before in record.data
    return Record(record.seq, record.subject, record.data.replace(before, after), record.stored_at)


def test_a_whole_job_has_no_flaw() -> None:
    chain = taken(facts(a_job()))
    assert not list(chain.flaws())
    assert chain.has_outcome
    assert chain.has_beginning
    assert chain.began == ORIGIN.created


def test_a_job_that_runs_has_no_flaw_and_no_outcome() -> None:
    chain = taken(facts(a_job())[:4])
    assert not list(chain.flaws())
    assert not chain.has_outcome


def test_a_job_is_held_in_one_link_as_long_as_it_is_whole() -> None:
    assert len(taken(facts(a_job()))._links) == 1


@pytest.mark.parametrize("place", range(6))
def test_an_altered_fact_is_found_by_the_one_after_it(place: int) -> None:
    records = facts(a_job())
    records[place] = altered(records[place], b'"by":"test/log"', b'"by":"test/dog"')
    [(flaw, told)] = taken(records).flaws()
    numbers = [record.event.n for record in records]
    # Where text may lie between two facts, an altered one looks like a missing one.
    assert flaw == ("altered" if numbers[place + 1] == numbers[place] + 1 else "missing")
    assert f"event {numbers[place]} " in told


def test_the_last_fact_is_for_the_checkpoints_to_guard() -> None:
    records = facts(a_job())
    records[-1] = altered(records[-1], b'"to":"a', b'"to":"b')
    assert not flaws(records)


@pytest.mark.parametrize("place", range(1, 6))
def test_a_missing_fact_is_found(place: int) -> None:
    records = facts(a_job())
    del records[place]
    assert flaws(records) == ["missing"]


def test_a_missing_beginning_shows() -> None:
    chain = taken(facts(a_job())[1:])
    assert not list(chain.flaws())
    assert not chain.has_beginning
    assert chain.beginning() == "event 2 (step.started)"


def test_facts_in_another_order_are_found_and_nothing_else_is() -> None:
    for place in range(5):
        records = facts(a_job())
        records[place], records[place + 1] = records[place + 1], records[place]
        chain = taken(records)
        assert [flaw for flaw, _ in chain.flaws()] == ["reordered"], place
        assert chain.has_beginning
        assert chain.has_outcome


def test_a_fact_that_is_there_twice_is_found() -> None:
    records = facts(a_job())
    assert flaws([*records[:2], records[1], *records[2:]]) == ["added"]


def test_two_facts_of_one_number_are_found() -> None:
    records = facts(a_job())
    forged = altered(records[3], b'"claim":"b"', b'"claim":"z"')
    assert "added" in flaws([*records[:4], forged, *records[4:]])


def test_a_second_outcome_is_found() -> None:
    log = a_job()
    log.add(Cancelled, origin=ORIGIN)
    assert flaws(facts(log)) == ["added"]


def test_nothing_but_a_review_follows_an_outcome() -> None:
    log = Log()
    log.hand_off()
    log.add(Cancelled, origin=ORIGIN)
    log.start("late")
    [(flaw, told)] = taken(facts(log)).flaws()
    assert flaw == "added"
    assert "follows the outcome" in told


def test_a_fact_on_another_topic_is_found() -> None:
    records = facts(a_job())
    records[1] = Record(records[1].seq, records[1].subject.replace(".step.", ".done."), records[1].data)
    assert flaws(records) == ["altered"]


def test_bytes_that_are_no_event_are_found_and_not_shown() -> None:
    records = facts(a_job())
    records[1] = Record(records[1].seq, records[1].subject, b'{"secret": 1')
    told = dict(taken(records).flaws())
    assert "altered" in told
    assert "secret" not in str(told)


def test_what_a_newer_version_wrote_has_its_place_in_the_chain() -> None:
    log = a_job()
    newer = [altered(record, b'"kind":"step.failed"', b'"kind":"step.later"') for record in log.records[2:3]]
    records = [*log.records[:2], *newer]
    assert not flaws(records)
    records[1] = altered(records[1], b'"claim":"a"', b'"claim":"z"')
    assert flaws(records) == ["altered"]


def test_a_job_that_was_forgotten_may_be_made_anew_and_a_copy_of_it_may_not() -> None:
    records = facts(a_job())
    anew = altered(records[0], b'"by":"test/log"', b'"by":"test/new"')
    assert taken(records).ends_before(anew)
    assert not taken(records).ends_before(records[0])
    assert not taken(records).ends_before(records[1])
    assert not taken(records[:4]).ends_before(anew)


class TestText:
    def test_text_as_it_was_said_has_no_flaw(self) -> None:
        assert not list(text_flaws(a_job().records))

    @pytest.mark.parametrize(
        "change",
        [lambda r: altered(r, b"it ", b"is "), lambda r: altered(r, b'"tokens":[1]', b'"tokens":[3]')],
        ids=["text", "tokens"],
    )
    def test_text_that_was_altered_is_found(self, change: Callable[[Record], Record]) -> None:
        records = a_job().records
        records[4] = change(records[4])
        assert [flaw for flaw, _ in text_flaws(records)] == ["altered"]

    def test_text_that_was_forgotten_is_not_missed(self) -> None:
        records = a_job().records
        assert not list(text_flaws([*records[:4], *records[6:]]))
        assert not list(text_flaws([*records[:4], *records[5:]]))
