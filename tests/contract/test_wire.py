"""Every event as some version wrote it; these files are never changed, only joined by those of newer versions."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from actors.contracts.envelope import VERSION
from actors.contracts.events import Event, Unknown, parse

WIRE = Path(__file__).parent / "wire"
WRITTEN = sorted(WIRE.glob("*.json"), key=lambda path: path.name)
KINDS = [kind.model_fields["kind"].default for kind in get_args(Event)]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_an_event_that_any_version_wrote_is_still_read(path: Path) -> None:
    event = parse(path.read_bytes())
    assert not isinstance(event, Unknown)
    assert path.name.startswith(f"{event.kind}.v{event.v}.")


@pytest.mark.parametrize("path", [path for path in WRITTEN if f".v{VERSION}." in path.name], ids=lambda path: path.stem)
def test_an_event_of_this_version_is_written_as_it_was(path: Path) -> None:
    data = path.read_bytes()
    assert parse(data).encode() == data


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_an_event_of_every_kind(kind: str) -> None:
    assert (WIRE / f"{kind}.v{VERSION}.json").exists()
