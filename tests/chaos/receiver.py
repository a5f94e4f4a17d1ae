"""The receiver of a run's webhooks: it writes down all that it is sent, and takes most of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from standardwebhooks.webhooks import WebhookVerificationError

from actors.client import AsyncHeadrace
from actors.contracts.webhook import EventFilter
from tests.chaos.history import Pen
from tests.receivers import Got

OF_THE_TENANT = "/tenant"
"""Where the tenant is told, by an endpoint of its own, of jobs that ended so."""

TENANT_EVENTS: tuple[EventFilter, ...] = ("job.cancelled", "job.expired", "job.aborted")

ANSWERS = (200,) * 14 + (204, 500, 500, 302, None, None)
"""What it answers, as often as it stands here; None: it reads what it is sent, and hangs up."""

SLOWEST_S = 0.2


def place_of(key: str) -> str:
    """Where a job with this key has its own webhook."""
    return f"/job/{key}"


class Receiver:
    """Verifies what it is sent when it comes, as a signature is good for minutes only."""

    def __init__(self, pen: Pen, rng: Random) -> None:
        self._pen = pen
        self._rng = rng
        self._of_jobs = self._of_tenant = ""
        self.url = ""

    async def subscribe(self, client: AsyncHeadrace) -> None:
        """Be told of some ends of the tenant's jobs, and learn what signs for webhooks that jobs name."""
        made = await client.create_webhook(f"{self.url}{OF_THE_TENANT}", events=TENANT_EVENTS)
        self._of_tenant, self._of_jobs = made.secret, (await client.webhook_secret()).secret

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            got = await Got.read(reader)
            await asyncio.sleep(self._rng.uniform(0.0, SLOWEST_S))
            status = self._rng.choice(ANSWERS)
            self._pen.note("hook", path=got.path, id=got.id, body=got.body.decode(), status=status, bad=self._bad(got))
            if status:
                writer.write(f"HTTP/1.1 {status} Said\r\nlocation: {self.url}/elsewhere\r\n\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked was killed
        finally:
            writer.close()

    def _bad(self, got: Got) -> str:
        """What is wrong with its signature; empty where nothing is."""
        try:
            got.verified(self._of_tenant if got.path == OF_THE_TENANT else self._of_jobs)
        except WebhookVerificationError as error:
            return str(error)
        return ""


@asynccontextmanager
async def receiving(pen: Pen, rng: Random) -> AsyncIterator[Receiver]:
    """A receiver that is there."""
    receiver = Receiver(pen, rng)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield receiver
