"""The export: facts as CloudEvents, one per line."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from actors.contracts.chain import digest
from actors.contracts.events import NotAnEvent
from actors.contracts.subjects import Subject
from actors.journal.trail import Entry

SPEC_VERSION = "1.0"
TYPE = "headrace."
SOURCE = "/headrace/"


def cloud_event(entry: Entry) -> str:
    """An entry as a CloudEvent in JSON, on one line; its data is the fact, byte for byte as it is stored.

    `id` is `<job>/<n>`, unique for the source, which is the tenant. Besides the attributes of the specification it has
    `lane`, `n`, `position` (its place in the audit log) and `sha256` (of the stored bytes, which `prev` of the next
    fact is). Raises NotAnEvent. Source: CloudEvents 1.0.2, JSON event format.
    """
    if entry.record is None:
        raise NotAnEvent(f"entry {entry.seq} is no copy of a fact")
    subject, event = Subject.parse(entry.record.subject), entry.record.event
    attributes: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "id": f"{subject.job}/{event.n}",
        "source": SOURCE + subject.tenant,
        "type": TYPE + event.kind,
        "subject": subject.job,
        "time": event.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "lane": subject.lane,
        "n": event.n,
        "position": str(entry.seq),
        "sha256": digest(entry.data),
    }
    return f'{json.dumps(attributes)[:-1]}, "data": {entry.data.decode()}}}'
