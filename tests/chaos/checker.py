"""The checker: after a run, what everybody wrote down is held against the whole log."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from actors.contracts.events import (
    Completed,
    DeadLettered,
    Delta,
    HandOff,
    Outcome,
    Record,
    StepFailed,
    StepPart,
    StepReleased,
    StepStarted,
)
from actors.contracts.subjects import LOCAL, job_id
from actors.contracts.view import kind_for_readers
from actors.engines.scripted import tokens_of
from tests.chaos.history import Entry
from tests.chaos.receiver import OF_THE_TENANT, TENANT_EVENTS, place_of
from tests.chaos.stories import answer, story
from tests.chaos.told import Telling, told
from tests.verify import said, verify

ENDS = {
    "plain": {"completed"},
    "stumble": {"completed"},
    "again": {"completed"},
    "twisted": {"completed"},
    "hasty": {"completed"},
    "two readers": {"completed"},
    "cancel": {"completed", "cancelled"},
    "hurry": {"completed", "expired", "aborted"},
}
"""How a job may end, by how it was treated. No fault of a run may be seen in it."""

ENDED_BY_FAULTS = (0, -signal.SIGKILL, -signal.SIGABRT)
"""How a process ends that was told to stop, was killed, or had no memory left."""

CLOCK_SLACK_S = 0.001
"""Engine and log are read off one clock; the log's is rounded to microseconds."""


@dataclass
class Figures:
    """What a run came to."""

    jobs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    lost_attempts: int = 0
    tokens_computed: int = 0
    tokens_needed: int = 0
    submits: int = 0
    submits_unknown: int = 0
    readers: int = 0
    events_read: int = 0
    deliveries: int = 0
    delivery_attempts: int = 0
    deliveries_doubled: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def waste(self) -> float:
        """Tokens computed over tokens needed."""
        return self.tokens_computed / max(1, self.tokens_needed)


def unlike(seen: Sequence[tuple[int, str, str]], log: Sequence[Record]) -> str:
    """Where what a reader saw (number, kind, text) is not what the log holds; empty where it is.

    The deltas of a reader that is behind come as one, with the number of the last.
    """
    at = 0
    for n, kind, text in seen:
        covered = [record.event for record in log[at:n]]
        if not covered or covered[-1].n != n:
            return f"event {n} ({kind}) after event {at}"
        if kind != "delta" and [kind_for_readers(event) for event in covered] != [kind]:
            return f"{kind} ({n}) for {[event.kind for event in covered]}"
        if kind == "delta" and "".join(e.text if isinstance(e, Delta) else "\0" for e in covered) != text:
            return f"other text up to event {n}: {text!r}"
        at = n
    return "" if at == len(log) else f"{at} events of {len(log)}"


class Checker:
    """Checks invariants I1 to I12, I15; each violation is one line that names the job."""

    def __init__(self, history: Iterable[Entry], logs: dict[str, list[Record]]) -> None:
        self._logs = logs
        self._by: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in history:
            self._by[entry.what].append(entry)
        self._wishes = {job_id(LOCAL, e.said["key"]): e for e in self._by["submit"] if e.said["kind"] in ENDS}
        self._outcomes: dict[str, str] = {}
        self.figures = Figures()

    def check(self) -> Figures:
        self._submissions()
        claims = self._claims()
        for job, log in self._logs.items():
            self._job(job, log)
        self._engines(claims)
        self._readers()
        self._webhooks()
        self._faults()
        return self.figures

    def _wrong(self, which: str, job: str, what: str) -> None:
        self.figures.violations.append(f"{which} {job}: {what}")

    def _submissions(self) -> None:
        """I1: what was accepted is there, and nothing that nobody asked for. I9: one key, one job, one body."""
        f = self.figures
        f.submits, f.submits_unknown = len(self._by["submit"]), len(self._by["submit.unknown"])
        for entry in self._by["submit.ok"]:
            key, job = entry.said["key"], entry.said["job"]
            if entry.said["kind"] == "twisted body":
                self._wrong("I9", job, f"another body was taken under the key {key}")
            if job != job_id(LOCAL, key):
                self._wrong("I9", job, f"the key {key} made this job, and another")
            if job not in self._logs:
                self._wrong("I1", job, "it was accepted, and is not in the log")
        for entry in self._by["submit.refused"]:
            if (entry.said["kind"], entry.said["status"]) != ("twisted body", 422):
                self._wrong("I1", entry.said["key"], f"a good submission was refused with {entry.said['status']}")
        for job in self._logs.keys() - self._wishes.keys():
            self._wrong("I1", job, "nobody asked for it")

    def _job(self, job: str, log: Sequence[Record]) -> None:
        """I2 one outcome, I3 no gap, I4 nothing after it, I7 every token once (all by `verify`), I10 fencing, I11."""
        f = self.figures
        f.jobs += 1
        try:
            verify(log)
        except AssertionError as error:
            self._wrong("I2-I4,I7", job, str(error).splitlines()[0])
            return
        outcome = next(r.event for r in log if isinstance(r.event, Outcome))
        f.outcomes[outcome.kind] += 1
        self._outcomes[job] = outcome.kind
        f.tokens_needed += len(tokens_of(said(log, "fetch")))
        self._fencing(job, log)
        if (wish := self._wishes.get(job)) is None:
            return
        text, kind = wish.said["text"], wish.said["kind"]
        if isinstance(outcome, DeadLettered):
            why = [error.message for error in outcome.errors]
            self._wrong("I11", job, f"a {kind} job is dead: {outcome.reason} ({outcome.deliveries} deliveries), {why}")
        elif outcome.kind not in ENDS[kind]:
            self._wrong("I11", job, f"a {kind} job is {outcome.kind}")
        if isinstance(outcome, Completed) and outcome.answer.body != answer(text):
            self._wrong("I7", job, f"its answer is {outcome.answer.body}")
        if not story(text).startswith(said(log, "fetch")):
            self._wrong("I7", job, f"it said {said(log, 'fetch')!r}")
        if isinstance(outcome, Completed) and outcome.usage.output_tokens != len(tokens_of(story(text))):
            self._wrong("I7", job, f"it counts {outcome.usage.output_tokens} tokens")

    def _fencing(self, job: str, log: Sequence[Record]) -> None:
        """I10: once a claim is stored, only it writes of that step, but for a cancel, the clock, and the outcome."""
        owner = ""
        for record in log:
            event = record.event
            match event:
                case StepStarted():
                    owner = event.claim
                    self.figures.attempts += 1
                case StepFailed() | StepReleased():
                    if event.claim != owner:
                        self._wrong("I10", job, f"{event.kind} by {event.claim}, while {owner} owned the step")
                    owner = ""
                case StepPart() if not event.by.endswith(f"/{owner}"):
                    self._wrong("I10", job, f"a piece by {event.by}, while {owner} owned the step")
                case HandOff(of=None) if owner:
                    if not event.by.endswith(f"/{owner}"):
                        self._wrong("I10", job, f"a hand-off by {event.by}, while {owner} owned the step")
                    owner = ""

    def _claims(self) -> dict[str, float]:
        """Every claim in the log, and when it was stored."""
        found: dict[str, float] = {}
        for log in self._logs.values():
            for record in log:
                if isinstance(record.event, StepStarted) and record.stored_at:
                    found[record.event.claim] = record.stored_at.timestamp()
        return found

    def _engines(self, claims: dict[str, float]) -> None:
        """P4, I5, I6: one generation for each claim, begun once that is stored; none is lost without a fault."""
        f, begun = self.figures, Counter[str]()
        for entry in self._by["engine.start"]:
            claim = entry.said["request"].rpartition("-")[0]
            begun[claim] += 1
            if claim not in claims:
                self._wrong("P4", claim, "a generation began under a claim that is not in the log")
            elif entry.at < claims[claim] - CLOCK_SLACK_S:
                self._wrong("P4", claim, "a generation began before its claim was stored")
        for claim, times in begun.items():
            if times > 1:
                self._wrong("I5", claim, f"{times} generations under one claim")
        f.tokens_computed = sum(entry.said["count"] for entry in self._by["engine.tokens"])
        for job, log in self._logs.items():
            self._attempts(job, log)

    def _attempts(self, job: str, log: Sequence[Record]) -> None:
        """I5: an attempt follows another that failed, was handed back, or was struck by a fault."""
        open_: StepStarted | None = None
        for record in log:
            match record.event:
                case StepStarted() as started:
                    if open_ is not None:
                        self.figures.lost_attempts += 1
                        if not self._struck(open_, started):
                            self._wrong("I5", job, f"attempt {started.attempt} took over from a worker that was well")
                    open_ = started
                case StepFailed() | StepReleased() | HandOff(of=None) | Outcome():
                    open_ = None

    def _struck(self, lost: StepStarted, taken: StepStarted) -> bool:
        """Whether some fault was under way between the two: those that lose a worker all are."""
        begins, ends = lost.at.timestamp(), taken.at.timestamp()
        proven = {e.said["name"]: e.at for e in self._by["fault.proven"]}
        return any(e.at <= ends and proven.get(e.said["name"], 0.0) >= begins - 60.0 for e in self._by["fault"])

    def _readers(self) -> None:
        """I8: every reader saw every event once, in order, the outcome last, and what all others saw."""
        for entry in self._by["read"]:
            job, seen = entry.said["job"], entry.said["seen"]
            self.figures.readers += 1
            self.figures.events_read += len(seen)
            if wrong := unlike(seen, self._logs.get(job, ())):
                self._wrong("I8", job, f"the {entry.said['reader']} reader saw {wrong}")

    def _webhooks(self) -> None:
        """I12: everybody who had asked was told, always under one id, and nobody else."""
        f, found = self.figures, told(self._by["hook"], dict(self._to_be_told()))
        f.deliveries, f.delivery_attempts, f.deliveries_doubled = len(found.taken), found.attempts, found.doubled
        for job, what in found.wrong:
            self._wrong("I12", job, what)

    def _to_be_told(self) -> Iterator[tuple[Telling, str]]:
        """Where each job's end is to be told: at its own webhook, and at the tenant's, which wants some ends only."""
        for job, kind in self._outcomes.items():
            wish = self._wishes.get(job)
            if wish and wish.said["told"]:
                yield (place_of(wish.said["key"]), job), kind
            if f"job.{kind}" in TENANT_EVENTS:
                yield (OF_THE_TENANT, job), kind

    def _faults(self) -> None:
        """I15: every fault that began was proven, and nobody of the crew ended otherwise."""
        begun = Counter(e.said["name"] for e in self._by["fault"])
        self.figures.faults = Counter(e.said["name"] for e in self._by["fault.proven"])
        for name in begun - self.figures.faults:
            self._wrong("I15", name, "it was not proven to have happened")
        for entry in self._by["member.ended"]:
            if entry.said["code"] not in ENDED_BY_FAULTS:
                self._wrong("I15", entry.said["post"], f"it ended by itself, with {entry.said['code']}")
