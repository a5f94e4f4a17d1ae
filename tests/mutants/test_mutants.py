"""Mutants fit the code, name tests that there are, and are caught."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.mutants.ground import ROOT, Unusable, ground, planted
from tests.mutants.planted import MUTANTS, Mutant

SAMPLE = 1
SEED = int(os.environ.get("SEED") or 20261123)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code_and_names_a_test(mutant: Mutant) -> None:
    code = (ROOT / mutant.file).read_text()
    assert planted(mutant, code) != code
    file, _, test = mutant.test.partition("::")
    assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()


def test_names_are_not_given_twice() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_mutant_that_fits_no_more_is_an_error() -> None:
    with pytest.raises(Unusable, match="adapt it"):
        planted(MUTANTS[0], "something else")


@pytest.mark.timeout(900)
def test_a_sample_of_the_mutants_is_caught() -> None:
    sample = Random(SEED).sample(MUTANTS, SAMPLE)
    with ground() as trial:
        trial.check(list(dict.fromkeys(mutant.test for mutant in sample)))
        survived = [mutant.name for mutant in sample if not trial.catches(mutant)]
    assert not survived, f"SEED={SEED}"
