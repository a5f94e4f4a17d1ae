"""What webhooks say, and what is kept of them, as some version wrote it; these files are never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from actors.contracts.delivery import Delivery
from actors.contracts.events import HandOff, InputRequired, Outcome, parse
from actors.contracts.notice import RESPONSES, notice
from actors.contracts.webhook import Endpoint, Secrets

HERE = Path(__file__).parent
JOB = "a" * 26
KEPT: dict[str, type[BaseModel]] = {
    "secrets": Secrets,
    "endpoint": Endpoint,
    "delivery.pending": Delivery,
    "delivery.failed": Delivery,
}
SAID = [
    ("completed", "", "job.completed"),
    ("cancelled", "", "job.cancelled"),
    ("dead_lettered", "", "job.dead_lettered"),
    ("input.required", "", "job.input_required"),
    ("completed", RESPONSES, "response.completed"),
    ("cancelled", RESPONSES, "response.cancelled"),
    ("dead_lettered", RESPONSES, "response.failed"),
]


def written(name: str) -> bytes:
    return (HERE / "hooks" / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_of_webhooks_is_read_and_written_as_it_was(name: str) -> None:
    data = written(name)
    newer = data[:-1] + b',"newer":{"a":1}}'
    assert KEPT[name].model_validate_json(data).model_dump_json(exclude_none=True).encode() == data
    assert KEPT[name].model_validate_json(newer).model_dump_json(exclude_none=True).encode() == newer


@pytest.mark.parametrize(("kind", "door", "event"), SAID)
def test_what_a_webhook_says_is_what_receivers_were_built_for(kind: str, door: str, event: str) -> None:
    happened: Any = parse((HERE / "wire" / f"{kind}.v1.json").read_bytes())
    assert isinstance(happened, Outcome | InputRequired)
    asked = parse((HERE / "wire" / "handoff.v1.json").read_bytes())
    assert isinstance(asked, HandOff)
    origin = asked.origin.model_copy(update={"door": door or None})
    if isinstance(happened, Outcome):
        happened = happened.model_copy(update={"origin": origin})
    said = notice(happened, origin, JOB, "d" * 64)
    assert said
    assert (said.event, said.body.encode()) == (event, written(event))
