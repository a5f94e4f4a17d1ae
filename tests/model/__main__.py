"""The model on the command line: `python -m tests.model [--faults N] [--mutant NAME] [--all]`."""

from __future__ import annotations

import argparse
import sys

import tests.model
from tests.model.protocol import MUTANTS, VARIANTS
from tests.model.search import check

KNOWN = {"": "the protocol as it is built", **MUTANTS, **VARIANTS}


def main() -> int:
    """How many results are not what they should be."""
    ask = argparse.ArgumentParser(
        prog="python -m tests.model", description=tests.model.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--faults", type=int, default=2)
    ask.add_argument("--mutant", choices=[*MUTANTS, *VARIANTS], default="")
    ask.add_argument(
        "--all", action="store_true", help="every mutant, which must be caught, and every variant, which must hold"
    )
    given = ask.parse_args()
    surprises = 0
    for name in [*MUTANTS, *VARIANTS] if given.all else [given.mutant]:
        found = check(name, given.faults, fewest=name in MUTANTS)
        surprises += bool(found.broken) != (name in MUTANTS)
        verdict = f"BROKEN in {len(found.trace)} steps with {found.faults} faults: {found.broken}"
        size = f"{found.states:,} states, {found.steps:,} steps, depth {found.depth}, {found.seconds:.1f} s"
        print(
            f"{name + ': ' if name else ''}{KNOWN[name]}\n  {verdict if found.broken else 'HOLDS'} ({size})", flush=True
        )
        if not given.all or bool(found.broken) != (name in MUTANTS):
            print("\n".join(found.trace) or f"  ends of the job: {dict(+found.endings)}")
    return surprises


if __name__ == "__main__":
    sys.exit(main())
