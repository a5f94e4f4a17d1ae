"""The protocol holds with faults of any kind at any moment, and the model can tell when one does not.

`MODEL_FAULTS` is how many come at most: two in `make check`, and one in `make test`, where two take a minute.
"""

from __future__ import annotations

import os

import pytest

from tests.model.events import OUTCOME, WORDS
from tests.model.protocol import MUTANTS
from tests.model.search import STUCK, check

FAULTS = 2
QUICK = (
    "no-expected",
    "own-by-attempt",
    "no-ask",
    "max-deliver",
    "given-out-anew",
    "delay-dropped",
    "repair-unasked",
    "ask-not-closing",
)


@pytest.mark.timeout(600)
def test_the_protocol_holds_whatever_faults_come() -> None:
    faults = int(os.environ.get("MODEL_FAULTS") or 1)
    found = check("", faults, fewest=False)
    assert not found.broken, "\n".join([found.broken, *found.trace])
    # A dead letter takes as many faults as its budget.
    unseen = {WORDS[outcome] for outcome in OUTCOME} - set(+found.endings)
    assert unseen <= ({"dead_lettered"} if faults < FAULTS else set())


@pytest.mark.parametrize("mutant", QUICK)
def test_a_protocol_that_is_broken_is_found_out(mutant: str) -> None:
    found = check(mutant, FAULTS)
    assert found.broken
    assert mutant in MUTANTS
    assert found.trace[0].endswith("hand-off(write)")


def test_a_job_that_would_wait_for_ever_is_found_out() -> None:
    assert check("finished-not-acked", FAULTS).broken == STUCK


def test_what_is_found_is_told_with_the_fewest_faults() -> None:
    found = check("no-ask", FAULTS)
    assert found.faults == 1
    assert sum("FAULT" in line for line in found.trace) == 1
