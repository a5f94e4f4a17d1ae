"""The mutants on the command line: `python -m tests.mutants [WORD …]` tells of each which test caught it."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.table import Table

from tests.mutants.ground import Unusable, ground
from tests.mutants.planted import MUTANTS


def main() -> int:
    """How many survived, of those whose name has a word in it that was asked for, or of all."""
    asked = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not asked or any(word in mutant.name for word in asked)]
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table("mutant", "file", "test", "caught in")
    survived = 0
    with ground() as trial:
        tests = list(dict.fromkeys(mutant.test for mutant in chosen))
        console.print(f"{len(tests)} tests without a mutant …")
        trial.check(tests)
        for mutant in chosen:
            began = time.monotonic()
            caught = trial.catches(mutant)
            survived += not caught
            verdict = f"{time.monotonic() - began:.1f} s" if caught else "NOT CAUGHT"
            console.print(f"{mutant.name}: {verdict}", markup=False)
            table.add_row(mutant.name, mutant.file, mutant.test.partition("::")[2].replace("[", r"\["), verdict)
    console.print(table)
    console.print(f"{len(chosen) - survived} of {len(chosen)} caught")
    return survived


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unusable as error:
        sys.exit(str(error))
