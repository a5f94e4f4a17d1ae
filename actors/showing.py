"""Showing: what people see of a start: its stages on their way up, the sample job, and where it serves."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from actors.client import AsyncHeadrace, ClientError
from actors.contracts.errors import CannotStart
from actors.narration import Narration
from actors.pipeline import Catalogue
from actors.replies import Completed

READY_S = 180.0
LOOK_EVERY_S = 1.0

SAMPLES = {
    "analysis": {"text": "What is a tailrace, and what is 7 times 45?"},
}
"""A job for each pipeline that comes with Headrace, to see it work."""


async def until_ready(client: AsyncHeadrace) -> None:
    """Until a job can be stored."""
    begun = time.monotonic()
    while True:
        try:
            await client.pipelines()
            return
        except ClientError as error:
            if time.monotonic() - begun > READY_S:
                raise CannotStart(f"HTTP did not come up within {READY_S:.0f} s: {error}") from error
            await asyncio.sleep(0.3)


async def show(client: AsyncHeadrace, pipeline: str, sample: dict[str, str], watching: asyncio.Task[None]) -> int:
    """Submit the sample job and tell what happens to it. It may wait for its engine: that is what the log is for."""
    accepted = await client.submit(pipeline, sample)
    tell(f"job          {accepted.id}  {sample['text']}")
    told = asyncio.create_task(Narration(text=sys.stdout, notes=sys.stderr).tell(client.events(accepted.id)))
    try:
        await asyncio.wait({told, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            await watching  # raises why a stage cannot start
        outcome = await told
    finally:
        told.cancel()
    if not isinstance(outcome, Completed):
        return 1
    answer = outcome.answer
    print(f"answer       {answer.get('text', answer)}", file=sys.stdout, flush=True)
    return 0


async def watch_stages(client: AsyncHeadrace, *, give_up: bool) -> None:
    """Tell how the stages come up; with `give_up`, one that cannot ends the start. Raises CannotStart."""
    known: dict[str, tuple[str, str | None]] = {}
    while True:
        with contextlib.suppress(ClientError):
            for stage in await client.stages():
                for replica in stage.replicas:
                    seen = (replica.state, replica.detail if replica.state == "failed" else "")
                    if known.get(replica.worker) == seen:
                        continue
                    known[replica.worker] = seen
                    tell(f"{stage.stage:<12} {replica.state}{f': {replica.detail}' if replica.detail else ''}")
                    if give_up and replica.state == "failed":
                        raise CannotStart(f"stage {stage.stage!r} cannot start: {replica.detail}")
        await asyncio.sleep(LOOK_EVERY_S)


def show_urls(url: str, pipelines: Catalogue) -> None:
    """Tell where it serves, and what may be done there."""
    tell("")
    for name in pipelines:
        tell(f"  submit     POST {url}/v1/pipelines/{name}/jobs")
        newest, *older = [pipeline.version for pipeline in pipelines.versions(name)]
        if older:
            tell(f"             version {newest} takes new jobs, {', '.join(older)} finishes what began on it")
    tell(f"  follow     GET  {url}/v1/events/<id>")
    tell(f"  stages     GET  {url}/v1/stages")
    tell(f"  API        {url}/docs")
    tell("")
    tell("serving until Ctrl-C; in another terminal:")
    tell(f"  .venv/bin/headrace submit {next(iter(pipelines))} --url {url} -f 'What is a tailrace?'")


def tell(line: str) -> None:
    """A line about the start, for people."""
    print(line, file=sys.stderr, flush=True)
