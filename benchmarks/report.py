"""The report: tables of the results that are kept, between the markers in README. `python -m benchmarks.report`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.result import RESULTS, Measure, Result

README = ROOT / "README.md"

_SECTION = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(result: Result) -> str:
    """A result as a table in Markdown, and where it was taken."""
    head = "| | under | measured (95 % of resamples) | bar | | made of |\n|---|---|---|---|---|---|\n"
    rows = "".join(_row(measure) for measure in result.measures)
    return f"{head}{rows}\n{_where(result)}\n"


def with_results(text: str, folder: Path = RESULTS) -> str:
    """`text` with the table of its result in each place that is marked for one. Raises FileNotFoundError."""
    return _SECTION.sub(lambda found: f"{found[1]}{table(Result.read(found[2], folder))}{found[3]}", text)


def _row(measure: Measure) -> str:
    it = measure.estimate
    unit = f" {measure.unit}" if measure.unit else ""
    bar = f"{measure.bar}{unit}" if measure.bar else ""
    met = "" if measure.met is None else "met" if measure.met else "**missed**"
    measured = f"{it.value:.3g}{unit} ({it.low:.3g} to {it.high:.3g})"
    return f"| ({measure.part}) {measure.question} | {measure.load} | {measured} | {bar} | {met} | {measure.detail} |\n"


def _where(result: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items() if name != "headrace")
    quick = " A quick run: only to see that it runs." if result.quick else ""
    return (
        f"`benchmarks/results/{result.benchmark}.json`, {result.at:%Y-%m-%d}, {result.seconds:.0f} s: "
        f"{result.machine}; a synced write of 4 KiB takes {result.machine.sync_ms:.2g} ms; {versions}.{quick}"
    )


def main() -> None:
    before = README.read_text()
    after = with_results(before)
    README.write_text(after)
    print("README.md says what the results say" + ("" if after != before else " already"), file=sys.stderr)


if __name__ == "__main__":
    main()
