"""The bare append: one request of nats-py to the same server, stored and synced, and nothing around it."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Self

import nats
from nats.aio.client import Client

STREAM, SUBJECT = "BARE", "bare"
JOBS = "JOBS"

ANSWER_S = 30.0
"""However slow, an append that is answered is a measurement."""


class BareAppend:
    """Appends to a stream of its own, as durable as the log. An async context manager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client
        self._data = bytes(512)

    async def __aenter__(self) -> Self:
        self._client = await nats.connect(self._url, name="bare")
        await self._api(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": [SUBJECT], "storage": "file"})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    @property
    def size(self) -> int:
        """Bytes of one append."""
        return len(self._data)

    async def be_like(self, subject: str) -> None:
        """Append as many bytes from now on as the log's last message on `subject` has."""
        found = await self._client.request(
            f"$JS.API.DIRECT.GET.{JOBS}", json.dumps({"last_by_subj": subject}).encode(), timeout=ANSWER_S
        )
        self._data = bytes(len(found.data))

    async def times(self, count: int) -> list[float]:
        """So many appends, one after the other; what each took, in seconds."""
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self._client.request(SUBJECT, self._data, timeout=ANSWER_S)
            taken.append(time.perf_counter() - began)
        return taken

    async def _api(self, call: str, body: dict[str, object]) -> None:
        answer = json.loads(
            (await self._client.request(f"$JS.API.{call}", json.dumps(body).encode(), timeout=ANSWER_S)).data
        )
        if "error" in answer:
            raise RuntimeError(f"{call}: {answer['error']}")
