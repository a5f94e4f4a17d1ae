"""The ground on which mutants are tried: a copy of the tree in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.planted import Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("actors", "tests", "benchmarks", "serve_app.py", "pyproject.toml", "README.md")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "results")
PASSED, FAILED = 0, 1
"""How pytest ends when all of its tests have passed, and when some have not. Anything else is no verdict."""

LIMIT_S = 300.0


class Unusable(Exception):
    """A mutant that proves nothing: it does not fit the code any more, or its test could not be run."""


def planted(mutant: Mutant, code: str) -> str:
    """The code with the bug in it. Raises Unusable."""
    if (found := code.count(mutant.old)) != 1:
        raise Unusable(f"{mutant.name!r} is stale: what it replaces stands {found} times in {mutant.file}; adapt it")
    return code.replace(mutant.old, mutant.new)


class Ground:
    """A copy of the tree; one bug at a time is planted in it, and taken out again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def catches(self, mutant: Mutant) -> bool:
        """Whether the mutant's test fails because of it. Raises Unusable."""
        file = self._folder / mutant.file
        whole = file.read_text()
        file.write_text(planted(mutant, whole))
        try:
            ended, said = self._test([mutant.test])
        finally:
            file.write_text(whole)
        if ended not in (PASSED, FAILED):
            raise Unusable(f"{mutant.name!r}: {mutant.test} could not be run:\n{said}")
        return ended == FAILED

    def check(self, tests: Sequence[str]) -> None:
        """See that these tests pass while nothing is planted. Raises Unusable."""
        ended, said = self._test(tests)
        if ended != PASSED:
            raise Unusable(f"a test fails without any mutant, so it can prove nothing:\n{said}")

    def _test(self, tests: Sequence[str]) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        # The copy comes first wherever modules are looked for, in the processes that a test starts too.
        env = os.environ | {"PYTHONPATH": str(self._folder), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(
            command, cwd=self._folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S
        )
        return ran.returncode, ran.stdout.decode(errors="replace")[-4_000:]


@contextmanager
def ground() -> Iterator[Ground]:
    """A copy of the tree as it is now, until left."""
    with TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        for part in COPIED:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, folder / part, ignore=LEFT_OUT)
            else:
                shutil.copy(ROOT / part, folder / part)
        yield Ground(folder)
