"""The fold against a tally that is kept beside it, over any legal course of a job."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.contracts.events import Cancelled, CancelRequested, Completed, HandOff, Progress, Record, StepPart
from actors.contracts.fold import fold_job, fold_step
from actors.contracts.generation import Usage
from actors.contracts.messages import Packed
from tests.records import ORIGIN, Log

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)


class Course(RuleBasedStateMachine):
    """Writes what workers, the clock and people may write, and counts along."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.claims = 0
        self.ended = ""
        self.before = Usage()

    @initialize()
    def begin(self) -> None:
        self._new_step(self.log.hand_off("write").event.n)

    def _new_step(self, first_n: int) -> None:
        self.first_n = first_n
        self.tokens: list[int] = []
        self.text = ""
        self.finished = False
        self.open: dict[str, bool] = {}
        self.owner = ""
        self.failures = self.wasted = 0
        self.parts: dict[str, int] = {}
        self.told: dict[str, int | None] = {}
        self.question: Record | None = None
        self.cancel = False

    @property
    def runs(self) -> bool:
        return bool(self.owner) and self.open[self.owner]

    @precondition(lambda self: not self.ended and not self.cancel and not self.question)
    @rule(reset=st.booleans())
    def claim(self, reset: bool) -> None:
        self.claims += 1
        self.owner = f"claim{self.claims}"
        void = reset and bool(self.tokens)
        self.log.start(self.owner, attempt=len(self.open) + 1, from_=0 if void else len(self.tokens), reset=void)
        self.open[self.owner] = True
        if void:
            self.wasted += len(self.tokens)
            self.tokens, self.text, self.finished = [], "", False

    @precondition(lambda self: not self.ended and self.runs and not self.cancel and not self.finished)
    @rule(text=WORDS, count=st.integers(1, 3), last=st.booleans())
    def speak(self, text: str, count: int, last: bool) -> None:
        said = tuple(range(len(self.tokens), len(self.tokens) + count))
        self.log.say(text, said, len(self.tokens), finish_reason="stop" if last else None)
        self.tokens += said
        self.text += text
        self.finished = last

    @precondition(lambda self: not self.ended and self.runs and not self.cancel)
    @rule()
    def report(self) -> None:
        self.log.add(Progress, stage="write", message="on the way")

    @precondition(lambda self: not self.ended and self.runs and not self.cancel)
    @rule(tokens=st.integers(0, 9))
    def keep(self, tokens: int) -> None:
        key = f"key{len(self.parts)}"
        self.log.add(StepPart, key=key, value=tokens, usage=Usage(output_tokens=tokens))
        self.parts[key] = tokens

    @precondition(lambda self: not self.ended and self.runs and not self.cancel)
    @rule()
    def fail(self) -> None:
        self.log.fail(self.owner)
        self.open[self.owner] = False
        self.failures += 1

    @precondition(lambda self: not self.ended and self.runs and not self.cancel)
    @rule()
    def release(self) -> None:
        self.log.release(self.owner)
        self.open[self.owner] = False

    @precondition(lambda self: not self.ended and self.runs and not self.cancel)
    @rule(wasted=st.integers(0, 3))
    def ask(self, wasted: int) -> None:
        self.question = self.log.ask(self.owner, f"question{len(self.told)}", wasted=wasted)
        self.open[self.owner] = False
        self.wasted += wasted

    @precondition(lambda self: not self.ended and self.question)
    @rule(answer=st.none() | st.integers(0, 9))
    def tell(self, answer: int | None) -> None:
        """An answer, or that there was none in time."""
        assert self.question is not None
        timed_out = answer is None
        self.log.tell(self.question, answer, timed_out=timed_out, of=self.first_n, usage=self.before)
        self.told[f"question{len(self.told)}"] = answer
        self.question = None

    @precondition(lambda self: not self.ended and not self.cancel and not self.question)
    @rule()
    def give_out_again(self) -> None:
        self.log.hand_off("write", of=self.first_n, usage=self.before)

    @precondition(lambda self: not self.ended and self.runs and not self.cancel)
    @rule()
    def hand_on(self) -> None:
        self.before = self._total()
        self._new_step(self.log.hand_off("write", usage=self.before).event.n)

    @precondition(lambda self: not self.ended and self.runs)
    @rule()
    def wish_it_stopped(self) -> None:
        self.log.add(CancelRequested)
        self.cancel = True

    @precondition(lambda self: not self.ended)
    @rule(well=st.booleans())
    def end(self, well: bool) -> None:
        total = self._total()
        if well and not self.cancel:
            answer = Packed(type="Note", body={})
            self.ended = self.log.add(Completed, origin=ORIGIN, answer=answer, usage=total).event.kind
        else:
            self.ended = self.log.add(Cancelled, origin=ORIGIN, usage=total).event.kind

    @precondition(lambda self: bool(self.ended))
    @rule()
    def nothing_follows(self) -> None:
        """After the outcome nobody writes."""

    def _total(self) -> Usage:
        here = Usage(output_tokens=sum(self.parts.values()) + len(self.tokens), wasted_tokens=self.wasted)
        return self.before + here

    @invariant()
    def the_step_is_what_was_counted(self) -> None:
        given = [r for r in self.log.records if isinstance(r.event, HandOff)]
        if not given:
            return
        state = fold_step(self.log.records, given[-1].seq)
        assert state is not None
        assert state.closed == bool(self.ended or self.question)
        assert (state.tokens, state.text) == (tuple(self.tokens), self.text)
        assert bool(state.finish_reason) == self.finished
        assert (state.attempts, state.failures) == (len(self.open), self.failures)
        assert state.crashes == sum(self.open.values())
        assert (state.owner.claim if state.owner else "") == self.owner
        assert state.open == self.runs
        assert {key: part.value for key, part in state.parts.items()} == self.parts
        assert {key: told.answer for key, told in state.told.items()} == self.told
        assert state.question == (self.question.event if self.question and not self.ended else None)
        assert state.total == self._total()
        assert state.cancel == self.cancel

    @invariant()
    def the_job_is_the_same_from_wherever_it_is_read(self) -> None:
        """The fold of any tail that begins with a hand-off is valid."""
        whole = fold_job(self.log.records)
        if whole is None:
            return
        stands = "input_required" if self.question else "running" if self.claims else "queued"
        assert whole.status == (self.ended or stands)
        for at, record in enumerate(self.log.records):
            if isinstance(record.event, HandOff) and record.event.n == self.first_n:
                tail = fold_job(self.log.records[at:])
                assert tail is not None
                assert (tail.status, tail.origin, tail.usage) == (whole.status, whole.origin, whole.usage)
                assert tail.chain == whole.chain
                assert tail.step == whole.step


Course.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestCourse = Course.TestCase
