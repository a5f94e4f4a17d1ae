"""What Ray is asked for, by what a stage declares and whether there are GPUs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import serve_app
from actors.runtime.deployment import AWAY_FROM_GPUS
from actors.runtime.settings import Settings

PIPELINES = tuple(f"tests.placed_pipeline:{name}" for name in ("milled", "sifted", "weighed"))
ASKED = ("num_gpus", "accelerator_type", "label_selector", "fallback_strategy")


def asked(application: str, *, gpus: bool) -> dict[str, Any]:
    """What one replica asks for, apart from CPUs."""
    [found] = [a for a in serve_app.applications(Settings(gpus=gpus, pipelines=PIPELINES)) if a.name == application]
    options = found.application._bound_deployment.ray_actor_options or {}
    return {name: options[name] for name in ASKED if name in options}


@pytest.mark.parametrize(
    ("application", "wanted"),
    [
        ("mill", {"num_gpus": 2, "accelerator_type": "H100"}),
        ("mill-overflow", {"num_gpus": 0, "label_selector": AWAY_FROM_GPUS}),
        ("sift", {"num_gpus": 0.5}),
        (
            "weigh",
            {"num_gpus": 0, "label_selector": AWAY_FROM_GPUS, "fallback_strategy": [{"label_selector": {}}]},
        ),
    ],
)
def test_a_replica_asks_for_its_gpus_and_keeps_away_from_them_without(application: str, wanted: dict[str, Any]) -> None:
    assert asked(application, gpus=True) == wanted


@pytest.mark.parametrize("application", ["mill", "sift", "weigh"])
def test_where_there_are_no_gpus_none_are_asked_for(application: str) -> None:
    assert asked(application, gpus=False) == {"num_gpus": 0}


def test_an_overflow_is_an_application_of_its_own_beside_its_stage() -> None:
    written = yaml.safe_load(serve_app.config(Settings(pipelines=PIPELINES)))
    [overflow] = [each for each in written["applications"] if each["name"] == "mill-overflow"]
    assert (overflow["import_path"], overflow["args"]) == ("serve_app:stage", {"stage": "mill-overflow"})
