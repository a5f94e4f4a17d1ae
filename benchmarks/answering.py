"""Answering: how fast, how often and how surely each side did it, under each number of users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crowd import Asked, answered_per_s
from benchmarks.desks import COME_BACK
from benchmarks.estimate import Estimate, estimate, percentile, summary
from benchmarks.result import Bar, Measure

HEADRACE, SYNCHRONOUS = "Headrace", "synchronous"
FEW = 50
"""The users to whom a job is accepted at most twice as fast as to the most of them."""

SLICE_S = 1.0


@dataclass(frozen=True, slots=True)
class Block:
    """What one crowd was told on one side."""

    side: str
    users: int
    asked: list[Asked]

    @property
    def troubles(self) -> Counter[str]:
        return Counter(one.trouble for one in self.asked if one.trouble)

    @property
    def slices(self) -> list[list[Asked]]:
        """The questions of each second."""
        began = self.asked[0].sent
        found: dict[int, list[Asked]] = {}
        for one in self.asked:
            found.setdefault(int((one.sent - began) / SLICE_S), []).append(one)
        return list(found.values())

    def __str__(self) -> str:
        return (
            f"{self.users} users, {self.side}: {len(self.asked)} asked, "
            f"p99 {1000 * percentile([one.posted_s for one in self.asked], 99):.0f} ms, "
            f"{answered_per_s(self.asked):.1f}/s, {dict(self.troubles) or 'no errors'}"
        )


@dataclass(frozen=True, slots=True)
class Side:
    """All blocks of one side and one number of users."""

    name: str
    users: int
    blocks: list[Block]

    @property
    def asked(self) -> list[Asked]:
        return [one for block in self.blocks for one in block.asked]

    @property
    def slices(self) -> list[list[Asked]]:
        return [each for block in self.blocks for each in block.slices]

    @property
    def errors(self) -> int:
        """Questions without an answer, but those that were asked to come back."""
        return sum(count for block in self.blocks for why, count in block.troubles.items() if why != COME_BACK)

    @property
    def per_s(self) -> float:
        """Answers a second, of the typical block."""
        return percentile([answered_per_s(block.asked) for block in self.blocks], 50)

    def posted(self, q: float) -> float:
        """The `q`-th percentile of the answer to a POST, in seconds; one that never came counts with the time-out."""
        return percentile([one.posted_s for one in self.asked], q)

    @property
    def answer_s(self) -> list[float]:
        """How long users waited for those answers that they had, in seconds from the POST."""
        return [one.ended - one.sent for one in self.asked if not one.trouble]

    @property
    def first_text_s(self) -> list[float]:
        """How long until the first text was there, where that was before the answer."""
        return [one.first - one.sent for one in self.asked if one.first]

    def measure(self) -> Measure:
        why = Counter[str]()
        for block in self.blocks:
            why += block.troubles
        said = ", ".join(f"{count} {name}" for name, count in why.most_common()) or "none"
        answer = f"answer p50 {percentile(self.answer_s, 50):.3g} s" if self.answer_s else "no answer"
        first = f"first text p50 {percentile(self.first_text_s, 50):.3g} s" if self.first_text_s else "no text before"
        return Measure(
            part=self.name,
            question="answer to the POST, p99",
            load=f"{self.users:,} users",
            unit="s",
            estimate=estimate(self.slices, _posted_p99),
            detail=(
                f"p50 {self.posted(50):.3g} s; errors: {said} of {len(self.asked):,}; {self.per_s:.3g} answers/s; "
                f"{answer}, {first}"
            ),
            raw={
                "users": self.users,
                "asked": len(self.asked),
                "errors": self.errors,
                "troubles": dict(why),
                "p50_s": round(self.posted(50), 5),
                "p99_s": round(self.posted(99), 5),
                "answer": dict(summary(self.answer_s)) if self.answer_s else None,
                "first_text": dict(summary(self.first_text_s)) if self.first_text_s else None,
                "answers_per_s": [round(answered_per_s(block.asked), 2) for block in self.blocks],
            },
        )


def measures(sides: Sequence[Side]) -> list[Measure]:
    """A row for each side and number of users, and what Headrace is judged by."""
    ours = {side.users: side for side in sides if side.name == HEADRACE}
    few, many = ours[min(ours, key=lambda users: abs(users - FEW))], ours[max(ours)]
    return [
        *(side.measure() for side in sides),
        Measure(
            part=HEADRACE,
            question=f"answer to the POST, p99, over that at {few.users} users",
            load=f"{many.users:,} users",
            estimate=_growth(few, many),
            bar=Bar(most=2),
            detail=f"{1000 * many.posted(99):.0f} ms of {1000 * few.posted(99):.0f} ms",
        ),
        unanswered(list(ours.values())),
    ]


def unanswered(ours: Sequence[Side]) -> Measure:
    """Headrace's errors under any number of users. There are to be none."""
    wrong, asked = sum(side.errors for side in ours), sum(len(side.asked) for side in ours)
    return Measure(
        part=HEADRACE,
        question="errors, other than a 429",
        load="all of these",
        estimate=Estimate(value=wrong, low=wrong, high=wrong),
        bar=Bar(most=0),
        detail=f"{wrong} of {asked:,}",
    )


def draw(sides: Sequence[Side], path: Path) -> None:
    """What users wait for an answer to their POST, how many get none, and how many answers there are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (waits, errors, rates) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for name, marker in zip(dict.fromkeys(side.name for side in sides), "sDv^o", strict=False):
        curve = [side for side in sides if side.name == name]
        users = [side.users for side in curve]
        [line] = waits.plot(users, [side.posted(99) for side in curve], marker=marker, label=name)
        waits.plot(users, [side.posted(50) for side in curve], ":", color=line.get_color())
        errors.plot(users, [100 * side.errors / len(side.asked) for side in curve], marker=marker)
        rates.plot(users, [side.per_s for side in curve], marker=marker)
    waits.set(yscale="log", ylabel="seconds", title="answer to the POST, p99 (dotted: p50)")
    errors.set(ylim=(-2, 102), ylabel="%", title="questions without an answer")
    rates.set(ylim=(0, None), ylabel="answers a second", title="answers")
    for axes in (waits, errors, rates):
        axes.set(xscale="log", xlabel="users")
        axes.set_xticks(
            sorted({side.users for side in sides}), [f"{users:,}" for users in sorted({s.users for s in sides})]
        )
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*waits.get_legend_handles_labels(), loc="outside lower center", ncols=len(sides))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _posted_p99(slices: Sequence[Sequence[Asked]]) -> float:
    return percentile([one.posted_s for each in slices for one in each], 99)


def _growth(few: Side, many: Side) -> Estimate:
    """How often the one 99th percentile goes into the other; drawn again are seconds of either."""
    slices = [(side.users, each) for side in (few, many) for each in side.slices]

    def ratio(drawn: Sequence[tuple[int, Sequence[Asked]]]) -> float:
        of_many = [each for users, each in drawn if users == many.users] or many.slices
        of_few = [each for users, each in drawn if users == few.users] or few.slices
        return _posted_p99(of_many) / _posted_p99(of_few)

    return estimate(slices, ratio)
