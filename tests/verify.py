"""Whether a job's log is whole: numbers, chains, digests, one outcome, and every token once."""

from __future__ import annotations

from collections.abc import Sequence

from actors.contracts.chain import NO_TEXT, digest, text_digest
from actors.contracts.envelope import Fact
from actors.contracts.events import Delta, HandOff, InputRequired, Outcome, Record, StepReleased, StepStarted, Unknown


def verify(records: Sequence[Record]) -> None:
    """Fails where the records are not one unbroken log of one job that has ended."""
    verify_open(records)
    outcomes = [r.event.kind for r in records if isinstance(r.event, Outcome)]
    assert len(outcomes) == 1, f"outcomes: {outcomes}"
    after = [r.event.kind for r in records[[isinstance(r.event, Outcome) for r in records].index(True) + 1 :]]
    assert all(kind.startswith("review.") for kind in after), f"after the outcome: {after}"


def verify_open(records: Sequence[Record]) -> None:
    """Fails where the records are not one unbroken log of one job, ended or not."""
    assert [r.event.n for r in records] == list(range(1, len(records) + 1))
    assert sorted(r.seq for r in records) == [r.seq for r in records]
    prev, text, tokens, owner = "", NO_TEXT, 0, ""
    asked: InputRequired | None = None
    for record in records:
        event = record.event
        if asked:
            assert isinstance(event, Outcome | HandOff), f"{event.kind} while it waits for a person"
        assert not isinstance(event, Unknown)
        if record.is_text:
            assert event.by.endswith(f"/{owner}"), f"{event.kind} by {event.by}, while {owner} owns the step"
            text = text_digest(text, record.data)
        if isinstance(event, Fact):
            assert event.prev == prev, f"event {event.n} ({event.kind}) does not follow the fact before it"
            prev = digest(record.data)
        match event:
            case StepStarted():
                owner = event.claim
                assert event.reset or event.from_ == tokens, f"goes on from {event.from_}; the log holds {tokens}"
                tokens = 0 if event.reset else tokens
            case StepReleased():
                assert event.claim == owner
            case InputRequired():
                assert event.claim == owner
                asked = event
                continue
            case HandOff(told=told) if told or asked:
                assert asked, "a step is told of what it did not ask"
                assert told, "a step that asks goes on without being told"
                assert (told.question, told.key, event.of is None) == (asked.n, asked.key, False)
            case Delta():
                assert event.from_ == tokens, f"a token was lost or repeated: delta from {event.from_}, not {tokens}"
                tokens += len(event.tokens)
            case HandOff(of=None) | Outcome():
                if event.n > 1:
                    assert event.text == (text or None), f"{event.kind} carries another text's digest"
                text, tokens, owner = NO_TEXT, 0, ""
        asked = None


def said(records: Sequence[Record], stage: str) -> str:
    """All the text that a stage's deltas hold."""
    return "".join(r.event.text for r in records if isinstance(r.event, Delta) and r.event.stage == stage)


def kinds(records: Sequence[Record], *, text: bool = False) -> list[str]:
    """What happened, in order; with or without what was said."""
    return [r.event.kind for r in records if text or not r.is_text]
