"""What a newer version wrote stays whole when this one passes it on, or changes it where it is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actors.contracts.api_key import ApiKey
from actors.contracts.carried import Carried
from actors.contracts.delivery import Delivery
from actors.contracts.events import HandOff, parse
from actors.contracts.limits import Limits
from actors.contracts.tenant import Tenant
from actors.contracts.webhook import Endpoint, Secrets

NOW = datetime(2026, 11, 24, tzinfo=UTC)
WIRE = Path(__file__).parents[2] / "contract" / "wire"
NEWER: Any = {"colour": "green", "nested": {"list": [1, None]}}

KEPT: list[tuple[type[Carried], dict[str, Any], dict[str, Any]]] = [
    (Limits, {"weight": 2.0}, {"waiting": 5}),
    (Tenant, {"name": "mill"}, {"name": "weir"}),
    (ApiKey, {"tenant": "mill", "digest": "00", "created": NOW.isoformat()}, {"revoked": NOW}),
    (Delivery, {"id": "a", "event": "job.completed", "body": "{}", "created": 0.0}, {"due": NOW}),
    (
        Endpoint,
        {"url": "https://mill.example", "secrets": {"each": [{"text": "whsec_"}], **NEWER}, "created": NOW.isoformat()},
        {"disabled": NOW},
    ),
]


@pytest.mark.parametrize(("model", "written", "change"), KEPT, ids=lambda value: getattr(value, "__name__", ""))
def test_who_changes_one_thing_that_is_kept_changes_nothing_else(
    model: type[Carried], written: dict[str, Any], change: dict[str, Any]
) -> None:
    known = model.model_validate_json(json.dumps({**written, **NEWER}))
    changed = json.loads(known.model_copy(update=change).model_dump_json(exclude_none=True))
    assert changed.items() >= NEWER.items()
    assert set(change) <= set(changed)
    if "secrets" in written:
        assert changed["secrets"].items() >= NEWER.items()


def test_a_rotation_keeps_what_else_is_known_of_secrets() -> None:
    known = Secrets.model_validate_json(json.dumps({"each": [{"text": "whsec_", "key": "new"}], **NEWER}))
    rotated = json.loads(known.rotated(NOW).model_dump_json())
    assert rotated.items() >= NEWER.items()
    assert rotated["each"][1]["key"] == "new"


def test_an_outcome_repeats_of_what_was_asked_for_what_its_writer_does_not_know() -> None:
    written = json.loads((WIRE / "handoff.v1.hooked.json").read_text())
    written["origin"] |= NEWER
    written["origin"]["webhook"] |= NEWER
    handoff = parse(json.dumps(written).encode())
    assert isinstance(handoff, HandOff)
    origin = json.loads(handoff.encode())["origin"]
    assert origin == written["origin"]
