"""The figures of a run, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.checker import Figures

MOST_SHOWN = 20
RESULTS = Path(__file__).parent / "results"


def table(figures: Figures) -> str:
    """The figures, a line each."""
    lines = [
        f"jobs {figures.jobs:>24,}",
        *(f"  {kind:<16}{count:>12,}" for kind, count in figures.outcomes.most_common()),
        f"faults, proven {figures.faults.total():>14,}",
        *(f"  {name:<48}{count:>6,}" for name, count in sorted(figures.faults.items())),
        f"attempts {figures.attempts:>20,}   of which lost {figures.lost_attempts:,}",
        f"tokens computed / needed {figures.tokens_computed:,} / {figures.tokens_needed:,} = {figures.waste:.3f}",
        f"submissions {figures.submits:>17,}   without a clear answer {figures.submits_unknown:,}",
        f"readers {figures.readers:>21,}   events read {figures.events_read:,}",
        f"webhooks taken {figures.deliveries:>14,}   of {figures.delivery_attempts:,} attempts, "
        f"twice or more {figures.deliveries_doubled:,}",
        f"violations {len(figures.violations):>18,}",
        *(f"  {each}" for each in figures.violations[:MOST_SHOWN]),
    ]
    return "\n".join(lines)


def as_json(figures: Figures, **run: object) -> dict[str, Any]:
    """The same for a file; `run` says how the run was made."""
    return {
        **run,
        "jobs": figures.jobs,
        "outcomes": dict(figures.outcomes),
        "faults": dict(sorted(figures.faults.items())),
        "attempts": figures.attempts,
        "lost_attempts": figures.lost_attempts,
        "tokens_computed": figures.tokens_computed,
        "tokens_needed": figures.tokens_needed,
        "submissions": figures.submits,
        "submissions_without_clear_answer": figures.submits_unknown,
        "readers": figures.readers,
        "events_read": figures.events_read,
        "webhooks_taken": figures.deliveries,
        "webhook_attempts": figures.delivery_attempts,
        "webhooks_taken_twice": figures.deliveries_doubled,
        "violations": figures.violations,
    }


def kept(folder: Path = RESULTS) -> str:
    """What the runs that are kept came to, as README says it."""
    rows = []
    for name in ("chaos_r1", "chaos_r3"):
        run = json.loads((folder / f"{name}.json").read_text())
        servers = "one server" if run["servers"] == 1 else "a cluster of three"
        ratio = run["tokens_computed"] / run["tokens_needed"]
        rows.append(
            f"| {run['minutes']:g} minutes on {servers}, seed {run['seed']} | {run['jobs']:,} | "
            f"{sum(run['faults'].values()):,} of {len(run['faults'])} kinds | {run['lost_attempts']:,} | {ratio:.3f} | "
            f"{len(run['violations'])} |"
        )
    cuts = json.loads((folder / "chaos_power_cuts.json").read_text())
    rows.append(
        f"| {cuts['cuts']} power cuts, seed {cuts['seed']} | {cuts['jobs_accepted']:,} | {cuts['cuts']} | | | "
        f"{cuts['jobs_lost']} jobs lost |"
    )
    head = "| run | jobs | faults, each proven | attempts lost | tokens computed over needed | violations |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])
