"""The protocol of a job as a machine with few states: what may happen next, and what must never."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.events import AGAIN, ASK, DELTA, HANDOFF, OF, OUTCOME, WORDS, WRITE, Fold, fold, handoffs

MUTANTS = {
    "no-expected": "workers append without an expected sequence",
    "rebase": "a refused worker takes the sequence from the refusal and appends again without folding",
    "claim-not-compared": "reads the log to resume, then appends step.started on whatever is last by then",
    "start-then-read": "a refused step.started is appended again on the new last sequence, then the log is read",
    "own-by-attempt": "a worker knows its step.started by the attempt number, not by a claim",
    "speculate": "inference begins before step.started is stored, when the delivery count says 1",
    "no-ask": "a claim is taken over without asking its owner",
    "no-grace": "an owner that is silent counts as gone, however new its newest event is",
    "crashes-uncounted": "step.started is not counted: only step.failed is",
    "ack-first": "acks the hand-off before the output is appended",
    "fenced-acks": "a worker that finds another attempt running acks",
    "finished-not-acked": "a worker that finds its hand-off closed drops it without an ack",
    "handoff-not-closing": "a hand-off counts as closed only when the job has an outcome",
    "unknown-is-stored": "after a time-out the worker goes on as if its append had been stored",
    "blind-cancel": "the ingress reads, decides and appends the cancel without an expected sequence",
    "cancel-ignored": "a refused worker does not look for cancel.requested",
    "cancel-by-worker": "a cancel appends cancel.requested even while nobody runs the job",
    "two-jobs": "the ingress appends the first hand-off without expecting 0",
    "max-deliver": "max_deliver is 2",
    "given-out-anew": "what gives a step out again does not say of which hand-off",
    "delay-dropped": "a step that is put off is acked, and nobody notes it",
    "due-unlooked": "what is due is given out again although somebody runs it",
    "repair-unasked": "what looks lost is given out again without asking its owner",
    "repair-forgets-cancel": "what looks lost is given out again although it is to be cancelled",
    "ask-not-closing": "a question does not close its hand-off",
    "ask-costs": "an attempt that ended with a question counts as a crash",
    "answer-unlooked": "the ingress stores an answer without looking whether that is still asked",
    "redrive-unnumbered": "a redrive makes a job with a new id every time",
    "redrive-noted-first": "a redrive is noted before its job is made",
}
"""What breaks the protocol: each must be found."""

VARIANTS = {
    "fenced-naks": "a worker that finds another attempt running NAKs instead of letting go",
    "silence-holds": "a silent owner keeps its claim, however old its newest event is",
    "stale-read": "a read may come from a replica that lacks the newest event (1 fault each)",
}
"""What is done otherwise and breaks nothing."""

FORGETFUL = ("no-expected", "rebase", "claim-not-compared", "start-then-read", "own-by-attempt")
"""In these mutants it matters what a worker believes that is behind; elsewhere all it can do is read."""

ENDED = OUTCOME + "G"
ACKING = ("ack", "away", "nak", "failed")
NOBODY = "nobody of that name is there"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large the world is. Budgets as in the code: at that many failures, or lost leases, the job is dead."""

    tokens: int = 2
    workers: int = 2
    failures: int = 2
    crashes: int = 2


class Worker(NamedTuple):
    """What a worker does and believes.

    Its phases: "" idle, claim, run, pure (runs unclaimed), cancel, expire, bury (it appends that outcome), ack, nak,
    failed (it will nak, or put off), away (it has put off, and acks), acked (in a mutant). `last` is the job's last
    sequence as it knows it, 0 when it has to read first. `asked` says how it came to take over an open claim: n when it
    was told that nobody runs it, s when the owner was silent for long, f when it was silent and its newest event fresh.
    """

    phase: str = ""
    h: int = 0
    last: int = 0
    tokens: int = 0
    asked: str = ""
    claim: str = ""


IDLE = Worker()


class State(NamedTuple):
    """One moment of one job.

    `queue` has for each hand-off: q waits, r waits to be delivered again, p is delivered and leased, a is acked (dots
    count deliveries where a mutant looks at them). `fresh`: the running attempt's newest event is younger than half a
    lease. `cancel`: "" may still come, C or N decided and not appended (mutant), t requested, x over. `net` has appends
    on their way whose sender gave up or died. `later` is the hand-off that was put off, from 1. `left` are the faults
    that may still come; `redriven` the jobs made of this one.
    """

    log: str = ""
    queue: tuple[str, ...] = ()
    workers: tuple[Worker, ...] = ()
    fresh: bool = False
    late: bool = False
    cancel: str = ""
    net: tuple[tuple[Worker, str], ...] = ()
    later: int = 0
    left: int = 0
    redriven: int = 0
    bad: str = ""


class Step(NamedTuple):
    """Which worker (-1: somebody else) does what, whether it happens by itself in the end, and the state after it."""

    who: int
    what: str
    fair: bool
    after: State


class Protocol:
    """What may happen to one job of two stages: `write` claims before it begins and speaks, `polish` is pure."""

    def __init__(self, mutant: str = "", bounds: Bounds = Bounds()) -> None:
        self.bounds = bounds
        self._mutant = mutant

    def first(self, faults: int) -> State:
        """Before anything happened."""
        return State(workers=(IDLE,) * (2 * self.bounds.workers), left=faults)

    @staticmethod
    def is_goal(s: State) -> bool:
        """Whether the job has its outcome, and nothing is left to be done about it."""
        return s.log[-1:] in ENDED and all(status == "a" for status in s.queue) if s.log else False

    def steps(self, s: State) -> Iterator[Step]:
        """All that may happen in a state."""
        if made := self._store(s, "W", IDLE, expected=0, compare=self._mutant != "two-jobs"):
            yield Step(-1, "the ingress appends the POST's hand-off(write)", False, made)
        if not s.log:
            return
        yield from self._people(s)
        yield from self._clock(s)
        for i, (w, entry) in enumerate(s.net):
            rest = s._replace(net=s.net[:i] + s.net[i + 1 :])
            if t := self._store(rest, entry, w, expected=w.last, compare=self._mutant != "no-expected"):
                yield Step(-1, f"an append that nobody waits for any more arrives: {WORDS[entry]}", False, t)
        for h, status in enumerate(s.queue):
            yield from self._delivery(s, h, status)
        if s.left:
            yield from self._server_faults(s)
        for i, w in enumerate(s.workers):
            if w.phase:
                yield from self._work(s, i, w)

    def normal(self, s: State) -> tuple[State, list[int]]:
        """The same state in one spelling, and where its workers stood: those of a stage in order, claims by rank."""
        here, net, workers, per = len(s.log), s.net, s.workers, self.bounds.workers
        if self._mutant not in FORGETFUL:  # one that is behind can only read, or be refused
            net = tuple(sorted({(w, entry) for w, entry in net if w.last == here}))
            workers = tuple(
                w._replace(last=0, tokens=0, asked="") if w.phase and w.last != here else w for w in workers
            )
        workers = tuple(Worker(w.phase, w.h) if w.phase in ACKING else w for w in workers)
        order = sorted(range(len(workers)), key=lambda i: (i // per, workers[i][:5]))
        workers = tuple(workers[i] for i in order)
        held = dict.fromkeys([w.claim for w in (*workers, *(w for w, _ in net)) if w.claim])
        names = {old: str(new) for new, old in enumerate(held, 1)}
        log = "".join(names.get(event, "0") if event.isdigit() else event for event in s.log)
        if any(old != new for old, new in names.items()):
            workers = tuple(w._replace(claim=names.get(w.claim, "")) for w in workers)
            net = tuple((w._replace(claim=names.get(w.claim, "")), names.get(entry, entry)) for w, entry in net)
        later = s.later if s.later == len(s.queue) and s.log[-1:] not in ENDED else 0
        fresh = s.fresh and s.left > 0  # only silence asks for it, and that is a fault
        return s._replace(log=log, workers=workers, net=net, later=later, fresh=fresh), order

    def _people(self, s: State) -> Iterator[Step]:
        """Cancel, deadline and redrive. They hold nothing from reading to appending, so a refusal only repeats them."""
        last = s.log[-1]
        if s.cancel in ("C", "N"):
            yield Step(-1, f"the ingress appends {WORDS[s.cancel]}", False, self._put(s, s.cancel)._replace(cancel="x"))
        if last == "D":
            yield from self._redrive(s)
        if last in ENDED:
            return
        if last == ASK or (self._mutant == "answer-unlooked" and ASK in s.log):
            again = AGAIN[s.log[handoffs(s.log)[-1]]]
            yield Step(-1, f"somebody answers: the ingress appends {WORDS[again]}", False, self._put(s, again))
        if not s.late:
            yield Step(-1, "the deadline passes", False, s._replace(late=True))
        f = self._fold(s.log, len(s.queue) - 1)
        if s.cancel == "":
            ask = self._mutant == "cancel-by-worker" or f.open
            entry = "C" if ask else "N"
            if self._mutant == "blind-cancel":
                what = f"the ingress reads the log and decides to append {WORDS[entry]}"
                yield Step(-1, what, False, s._replace(cancel=entry))
            else:
                t = self._put(s, entry)._replace(cancel="t" if ask else "x")
                yield Step(-1, f"the ingress appends {WORDS[entry]}", False, t)
        elif s.cancel == "t":
            yield from self._told(s, f)

    def _told(self, s: State, f: Fold) -> Iterator[Step]:
        """Who has asked for a cancel tells the owner, and ends the job itself where there is none any more."""
        ended = self._put(s, "N")._replace(cancel="x")
        if not f.open or not self._runs(s, f.owner):
            yield Step(-1, f"the ingress tells the owner, {NOBODY}, and appends cancelled", False, ended)
        elif s.left:
            what = f"FAULT the ingress tells the owner, which is cut off ({NOBODY}), and appends cancelled"
            yield Step(-1, what, False, ended._replace(left=s.left - 1))

    def _redrive(self, s: State) -> Iterator[Step]:
        """A new job by the old one's id and a number, then the note; whoever is cut off in between does it again."""
        if s.redriven == 0 or self._mutant == "redrive-unnumbered":
            bad = "one redrive made two jobs" if s.redriven else ""
            yield Step(-1, "a person makes the new job", False, s._replace(redriven=s.redriven + 1, bad=bad))
        if s.redriven or self._mutant == "redrive-noted-first":
            yield Step(-1, "a person appends review.redriven", False, self._put(s, "G"))

    def _clock(self, s: State) -> Iterator[Step]:
        """It ends overdue jobs, gives out what is due, and repairs what looks lost."""
        if s.log[-1] in ENDED:
            return
        h = len(s.queue) - 1
        f, again = self._fold(s.log, h), AGAIN[s.log[handoffs(s.log)[h]]]
        if s.late and not f.open and s.queue[h][0] != "a":
            yield Step(-1, "the clock appends expired", False, self._put(s, "E"))
        if s.later == h + 1:
            done = s._replace(later=0)
            if f.open and self._mutant != "due-unlooked":
                yield Step(-1, "what was put off is due, and somebody has it", True, done)
            else:
                what = f"what was put off is due: the clock appends {WORDS[again]}"
                yield Step(-1, what, True, self._put(done, again))
        elif s.queue[h] == "a":
            yield from self._repair(s, f, again)

    def _repair(self, s: State, f: Fold, again: str) -> Iterator[Step]:
        entry = "N" if f.cancel and self._mutant != "repair-forgets-cancel" else again
        what = f"it counts as acked and is not done: the clock appends {WORDS[entry]}"
        if not f.open or not self._runs(s, f.owner) or self._mutant == "repair-unasked":
            yield Step(-1, what, True, self._put(s, entry))
        elif s.left:
            t = self._put(s._replace(left=s.left - 1), entry, Worker(asked="n"))
            yield Step(-1, f"FAULT its owner is cut off, and {what}", False, t)

    def _server_faults(self, s: State) -> Iterator[Step]:
        fewer = s._replace(left=s.left - 1)
        if any(status[0] in "pa" for status in s.queue):
            what = "FAULT the server restarts: appends on their way and the consumers' newest state are lost"
            yield Step(-1, what, False, fewer._replace(queue=("q",) * len(s.queue), net=()))
        if s.queue[-1][0] != "a" and s.log[-1] not in ENDED:
            what = "FAULT the consumer's state is damaged: it takes its hand-off for acked"
            yield Step(-1, what, False, fewer._replace(queue=(*s.queue[:-1], "a")))

    def _delivery(self, s: State, h: int, status: str) -> Iterator[Step]:
        """The h-th hand-off is given to a worker, or its lease ends."""
        at, current, per = handoffs(s.log)[h], h == len(s.queue) - 1, self.bounds.workers
        first = 0 if s.log[at] in WRITE else per
        idle = next((i for i in range(first, first + per) if not s.workers[i].phase), None)
        waits = status[0] in "qr"
        open_to = idle is not None and (waits or (s.left > 0 and status[0] == "p"))
        if open_to and idle is not None and (self._mutant != "max-deliver" or len(status) < 3):
            what = f"is given {WORDS[s.log[at]]}, sequence {at + 1}"
            t = self._with(s, idle, self._delivered(s, h, status))
            if self._mutant == "speculate" and status == "q" and fold(s.log, h).closed:
                t = t._replace(bad=f"inference began after {'the outcome' if current else 'its output'} was stored")
            if waits:
                yield Step(idle, what, True, self._with(t, h=h, status="p" + status[1:]))
            else:
                yield Step(idle, f"FAULT {what}, once more", False, t._replace(left=s.left - 1))
        if status[0] == "p" or (waits and current and s.fresh):
            dots = status[1:] + ("." if self._mutant == "max-deliver" and status[0] == "p" else "")
            t = self._with(s, h=h, status=("r" if status[0] == "p" else status[0]) + dots)
            passed = t._replace(fresh=s.fresh and not current)
            if not any(w.phase and w.h == h for w in s.workers):
                yield Step(-1, "its lease ends: to be delivered again", True, passed)
                if s.fresh and current and status[0] == "p":
                    yield Step(-1, "the clock NAKs what a worker held that is gone", False, t)
            elif s.left:
                what = "FAULT its lease ends while its worker is paused: to be delivered again"
                yield Step(-1, what, False, passed._replace(left=s.left - 1))

    def _delivered(self, s: State, h: int, status: str) -> Worker:
        """A worker that has just been given the h-th hand-off. One that has a history, or is overdue, is read first."""
        at = handoffs(s.log)[h]
        taken = {w.claim for w in s.workers} | {w.claim for w, _ in s.net}
        claim = min(set("123456789") - taken)
        if s.late or s.log[at] in OF or (status[0] == "r" and s.log[at] not in WRITE):
            return Worker("claim", h, 0, 0, "", claim)
        return Worker("claim" if s.log[at] in WRITE else "pure", h, at + 1, 0, "", claim)

    def _work(self, s: State, i: int, w: Worker) -> Iterator[Step]:
        """What a worker does next."""
        gone = self._with(s, i)._replace(left=s.left - 1)
        if s.left:
            yield Step(i, "FAULT crashes", False, gone)
        if w.phase in ACKING:
            yield from self._answer(s, i, w, gone)
            return
        blind = self._mutant == "no-expected" or (
            self._mutant == "claim-not-compared" and w.phase == "claim" and w.last > handoffs(s.log)[w.h] + 1
        )
        if not w.last or (w.last != len(s.log) and not blind):
            yield from self._read(s, i, w)
            return
        for entry, cost in self._offers(s, w):
            if self._mutant == "ack-first" and entry in "PK" and w.phase == "run":
                acked = self._with(s, i, w._replace(phase="acked"), w.h, "a")
                yield Step(i, "acks its hand-off before its output", True, self._acked(acked, w))
            elif cost <= s.left:
                yield from self._append(s, i, w, entry, cost)
        if s.left and w.phase == "pure":
            released = self._with(gone, i, Worker("nak", w.h))
            yield Step(i, "FAULT stops, and has nothing to say about it", False, released)

    def _answer(self, s: State, i: int, w: Worker, gone: State) -> Iterator[Step]:
        """It acks or naks its hand-off, or puts it off first."""
        verb = "acks" if w.phase in ("ack", "away") else "naks"
        status = "a" if verb == "acks" else s.queue[w.h].replace("p", "r")
        t = self._with(s, i, IDLE, w.h, status)
        yield Step(i, f"{verb} its hand-off", True, self._acked(t, w) if w.phase == "ack" else t)
        if s.left:
            yield Step(i, f"FAULT {verb} its hand-off, which is lost", False, gone)
        if w.phase == "failed":
            dropped = self._mutant == "delay-dropped"
            away = self._with(s, i, Worker("ack" if dropped else "away", w.h))
            yield Step(i, "puts its step off", False, away if dropped else away._replace(later=w.h + 1))

    @staticmethod
    def _acked(s: State, w: Worker) -> State:
        """The state in which this worker has just acked, judged."""
        is_done = fold(s.log, w.h).closed
        return s if is_done else s._replace(bad="acked a hand-off that the log does not show done")

    def _read(self, s: State, i: int, w: Worker) -> Iterator[Step]:
        """It is refused, or has to look first: it reads the log, asks the owner if there is one, and decides."""
        what = "appends, is refused, reads the log" if w.last else "reads the log"
        for cost, answer, asked in self._answers(s, w):
            if cost <= s.left:
                t = self._with(s, i, self._decide(s, w, asked))._replace(left=s.left - cost)
                yield Step(i, f"{'FAULT ' * cost}{what}{answer} and decides", not cost, t)
        if self._mutant == "stale-read" and s.left and len(s.log) > handoffs(s.log)[w.h] + 2:
            lagging = s._replace(log=s.log[:-1])
            if not self._to_ask(lagging, w):
                t = self._with(s, i, self._decide(lagging, w, ""))._replace(left=s.left - 1)
                yield Step(i, f"FAULT {what} of a replica that lags and decides", False, t)

    def _answers(self, s: State, w: Worker) -> list[tuple[int, str, str]]:
        """What may be answered to the question whether the owner runs its claim: what it costs, and what it means."""
        if not (owner := self._to_ask(s, w)):
            return [(0, "", "")]
        if self._mutant == "no-ask":
            return [(0, ", asks nobody", "u")]
        quiet = "let go" if s.fresh or self._mutant == "silence-holds" else "s"
        if self._mutant == "no-grace" and s.fresh:
            quiet = "f"
        silent = (1, ", asks the owner, which is silent,", quiet)
        if not self._runs(s, owner):
            return [(0, f", asks the owner ({NOBODY})", "n"), silent]
        cut_off = (1, f", asks the owner, which is cut off ({NOBODY}),", "n")
        return [(0, ", asks the owner, which runs it,", "let go"), silent, cut_off]

    def _to_ask(self, s: State, w: Worker) -> str:
        """The claim whose owner is to be asked before anything else is done; empty if there is none."""
        f = self._fold(s.log, w.h)
        others = f.open and f.owner != w.claim and not f.closed
        return f.owner if others and w.phase in ("claim", "pure") and not self._takes_for_mine(s, w, f) else ""

    def _decide(self, s: State, w: Worker, asked: str) -> Worker:
        """The rule: the first of these that applies. See actors/runtime/rules.py."""
        here, behind = len(s.log), w.last > 0
        if behind and (self._mutant == "rebase" or (self._mutant == "start-then-read" and w.phase == "claim")):
            return w._replace(last=here)
        f = self._fold(s.log, w.h)
        mine = f.owner == w.claim or self._takes_for_mine(s, w, f)
        now = Worker("", w.h, here, f.tokens, asked, w.claim)
        if f.closed:
            return IDLE if self._mutant == "finished-not-acked" else now._replace(phase="ack")
        if asked == "let go" or (not mine and w.phase not in ("claim", "pure")):
            instead = {"fenced-acks": "ack", "fenced-naks": "nak"}.get(self._mutant)
            return now._replace(phase=instead) if instead else IDLE
        if f.cancel and self._mutant != "cancel-ignored":
            return now._replace(phase="cancel")
        if s.late:
            return now._replace(phase="expire")
        if mine:
            return now._replace(phase="run" if f.open else "failed" if f.verdict == "F" else "nak")
        if f.failures >= self.bounds.failures or (
            f.crashes >= self.bounds.crashes and self._mutant != "crashes-uncounted"
        ):
            return now._replace(phase="bury")
        return now._replace(phase=w.phase)  # a pure step that nobody has meanwhile goes on without a claim

    def _takes_for_mine(self, s: State, w: Worker, f: Fold) -> bool:
        by_number = self._mutant == "own-by-attempt" and w.phase == "claim" and w.last > 0
        return by_number and f.starts == self._fold(s.log[: w.last], w.h).starts + 1

    def _offers(self, s: State, w: Worker) -> list[tuple[str, int]]:
        """What a worker that is not behind may append now, and what that costs in faults."""
        match w.phase:
            case "claim":
                return [(w.claim, 0)]
            case "cancel":
                return [("N", 0)]
            case "expire":
                return [("E", 0)]
            case "bury":
                return [("D", 0)]
        is_last = self._fold(s.log[: w.last], w.h).failures + 1 >= self.bounds.failures
        if w.phase == "pure":  # what it does not end by its first append needs a claim
            free, costly = w.claim + "K", "DX" if is_last else "X"
        else:
            speaks = s.log[handoffs(s.log)[w.h]] in WRITE
            free = (DELTA[: self.bounds.tokens - w.tokens] or "P") if speaks else "K"
            costly = ("DXR" if is_last else "FXR") + ASK
        return [(entry, 0) for entry in free + "E" * s.late] + [(entry, 1) for entry in costly]

    def _append(self, s: State, i: int, w: Worker, entry: str, cost: int) -> Iterator[Step]:
        """It appends, and hears of it; or one of the ways in which it does not."""
        name = WORDS[entry]
        t = self._put(s, entry, w)._replace(left=s.left - cost)
        yield Step(i, f"{'FAULT ' * cost}appends {name}", not cost, self._with(t, i, self._after(t, w, entry)))
        if not t.left:
            return
        fewer = t._replace(left=t.left - 1)
        yield Step(i, f"FAULT appends {name}: stored, but the answer is lost", False, fewer)
        sent = s._replace(left=fewer.left, net=(*s.net, (w, entry)))
        yield Step(i, f"FAULT sends {name} and gives up while it is still on its way", False, sent)
        yield Step(i, f"FAULT sends {name} and crashes while it is still on its way", False, self._with(sent, i))
        if self._mutant == "unknown-is-stored":
            believes = self._with(s._replace(left=fewer.left), i, self._after(t, w, entry))
            yield Step(i, f"FAULT sends {name}, which is lost, and takes it for stored", False, believes)

    def _after(self, s: State, w: Worker, entry: str) -> Worker:
        """The worker once it knows that its append is stored."""
        if entry.isdigit():
            late = self._mutant == "start-then-read"
            return Worker("run", w.h, len(s.log), self._fold(s.log, w.h).tokens if late else w.tokens, "", w.claim)
        if entry in DELTA:
            return Worker("run", w.h, len(s.log), w.tokens + DELTA.find(entry) + 1, "", w.claim)
        if w.phase == "acked":
            return IDLE
        return Worker({"F": "failed", "R": "nak"}.get(entry, "ack"), w.h)

    def _store(self, s: State, entry: str, w: Worker, *, expected: int, compare: bool = True) -> State | None:
        """What the server does with an append. None: refused."""
        return None if compare and expected != len(s.log) else self._put(s, entry, w)

    def _put(self, s: State, entry: str, w: Worker = IDLE) -> State:
        fresh = entry.isdigit() or entry in DELTA or (entry in "CVQ" and s.fresh)
        # A step that speaks does the same whatever the count of its delivery says.
        queue = (*s.queue, "q") if entry in HANDOFF else s.queue
        return s._replace(log=s.log + entry, queue=queue, fresh=fresh, bad=self._judge(s, entry, w))

    def _judge(self, s: State, entry: str, w: Worker) -> str:
        """The invariants, looked at before every append that is stored; empty when it breaks none."""
        if not s.log:
            return ""
        if entry == "W":
            return "one key made two jobs"
        if entry == "G":
            return "" if s.redriven else "a redrive is noted whose job nobody has made"
        if s.log[-1] in ENDED:
            return "appended after the outcome"
        if "C" in s.log and entry not in OUTCOME:
            return "something other than an outcome follows cancel.requested"
        if entry in "CNE":
            return ""
        if s.log[-1] == ASK and entry not in OF:
            return "a step that waits for a person went on by itself"
        f, current = fold(s.log, len(s.queue) - 1), w.h == len(s.queue) - 1
        taken = f.open and f.owner != w.claim and self._runs(s, f.owner) and w.asked not in ("n", "s")
        if entry in OF:
            return "a step was given out again while somebody ran it" if taken else ""
        if not current:
            return (
                f"{'inference' if entry.isdigit() else 'a zombie wrote'} after the step was finished or given out again"
            )
        if entry.isdigit():
            if f.crashes >= self.bounds.crashes or f.failures >= self.bounds.failures:
                return "attempts exceed the budget"
            return "an inference that no failure and no lost lease explains: a live claim was taken over" * taken
        if entry == "D" and f.crashes >= self.bounds.crashes:
            return ""
        if f.owner != w.claim and (w.phase != "pure" or taken):
            return "a zombie wrote after another attempt had taken over"
        return self._judge_words(f, entry, w)

    def _judge_words(self, f: Fold, entry: str, w: Worker) -> str:
        """The invariants of what an owner says."""
        if entry == "D" and f.failures + 1 < self.bounds.failures:
            return "dead before its budget was used up"
        if entry in DELTA and f.tokens != w.tokens:
            return f"a token was {'repeated' if w.tokens < f.tokens else 'lost'}"
        if entry == "P" and not w.tokens == f.tokens == self.bounds.tokens:
            return "the output is not the stored tokens"
        return ""

    def _fold(self, log: str, h: int) -> Fold:
        """What a worker believes that has read this log."""
        if self._mutant == "handoff-not-closing":
            return fold(log, h, closing=OUTCOME)
        if self._mutant == "ask-not-closing":
            return fold(log, h, closing=OUTCOME + HANDOFF)
        return fold(log, h, anew=self._mutant == "given-out-anew", costly=self._mutant == "ask-costs")

    @staticmethod
    def _runs(s: State, claim: str) -> bool:
        """Whether there is a worker that runs this claim."""
        return any(w.claim == claim for w in s.workers)

    @staticmethod
    def _with(s: State, i: int | None = None, w: Worker = IDLE, h: int | None = None, status: str = "") -> State:
        """The state with its i-th worker replaced, or what the consumer thinks of its h-th hand-off, or both."""
        workers = s.workers if i is None else (*s.workers[:i], w, *s.workers[i + 1 :])
        return s._replace(workers=workers, queue=s.queue if h is None else (*s.queue[:h], status, *s.queue[h + 1 :]))
