"""Everything together, as `headrace up` starts it: real nats-server, real Ray Serve, and an engine that is scripted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import httpx2
import psutil
import pytest
from openai import APIError, AsyncOpenAI
from openai.types.responses import ResponseStreamEvent

from actors.client import AsyncHeadrace, Patience
from actors.engines.scripted import tokens_of
from actors.replies import Completed, Delta, Event, Gap, StepStarted
from tests.installation import Installation, installation
from tests.slow_pipeline import WORDS
from tests.streams import read, text_of

pytestmark = pytest.mark.timeout(300)

PIPELINES = ["tests.slow_pipeline:tales", "tests.slow_pipeline:gossips"]
HEADRACE = str(Path(sys.executable).with_name("headrace"))

EXCEPTIONS = {
    ("ray::ServeReplica", "tcp"): "Serve's server for calls between deployments: it takes only the cluster's token",
    ("haproxy", "udp"): "HAProxy sends its log lines from it, and never reads it",
}
"""Sockets that are on other addresses than loopback, because nothing sets them, and why they may be."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("data"), pipelines=PIPELINES) as started:
        yield started


@pytest.fixture
async def client(running: Installation) -> AsyncIterator[AsyncHeadrace]:
    async with AsyncHeadrace(running.url, patience=Patience(tries=60)) as opened:
        yield opened


def assert_whole(events: list[Event]) -> None:
    """Each event once and in order, the outcome last, and the text as the engine says it."""
    numbers = [event.n for event in events]
    assert numbers == sorted(set(numbers))
    assert not any(isinstance(event, Gap) for event in events)
    assert isinstance(events[-1], Completed)
    assert events[-1].answer == {"text": WORDS, "words": 60}
    assert text_of(events) == WORDS


async def test_a_job_goes_from_its_submission_to_its_answer(client: AsyncHeadrace) -> None:
    accepted = await client.submit("tales", {"name": "a mill"})
    assert_whole(await read(client, accepted.id))
    job = await client.job(accepted.id)
    assert job.status == "completed"
    assert job.usage.output_tokens == len(tokens_of(WORDS))


async def test_what_becomes_of_a_job_is_told_by_an_actor_of_its_own(client: AsyncHeadrace) -> None:
    """It may not reach loopback, unless it is allowed to; that it was to is what the log of deliveries says."""
    hook = await client.create_webhook("https://127.0.0.1:1/")
    job = await client.submit("tales", {"name": "a mill"}, wait=60)
    async with asyncio.timeout(60):
        while not (ended := [one async for one in client.deliveries(hook.id, status="failed")]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert [(one.event, one.job) for one in ended] == [("job.completed", job.id)]
    assert "HEADRACE_EGRESS_ALLOW" in (ended[0].reason or "")
    await client.delete_webhook(hook.id)


async def test_twenty_jobs_at_once_are_whole_for_readers_of_every_kind(
    running: Installation, client: AsyncHeadrace
) -> None:
    jobs = await asyncio.gather(*(client.submit("tales", {"name": f"mill {n}"}) for n in range(20)))
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as http:

        async def poll(job: str) -> None:
            while (await http.get(f"/v1/jobs/{job}")).json()["status"] != "completed":  # noqa: ASYNC110  # it polls
                await asyncio.sleep(0.1)

        async def cut_often(job: str) -> str:
            """Read a few events, break the connection, and resume from the last id."""
            said, last, ended = "", "", False
            while not ended:
                headers = {"Last-Event-ID": last} if last else {}
                async with http.stream("GET", f"/v1/events/{job}", headers=headers) as stream:
                    lines = stream.aiter_lines()
                    kind, taken = "", 0
                    async for line in lines:
                        field, _, value = line.partition(": ")
                        match field:
                            case "id":
                                last = value
                            case "event":
                                kind = value
                            case "data":
                                said += _delta(kind, value)
                                ended = kind == "completed"
                                taken += 1
                        if ended or taken == 7:
                            break
            return said

        polled, cut, read_whole = jobs[:5], jobs[5:10], jobs[10:]
        results = await asyncio.gather(
            asyncio.gather(*(cut_often(j.id) for j in cut)),
            asyncio.gather(*(read(client, j.id) for j in read_whole)),
            asyncio.gather(*(poll(j.id) for j in polled)),
        )
    assert all(text == WORDS for text in results[0])
    for events in results[1]:
        assert_whole(events)


def _delta(kind: str, data: str) -> str:
    return str(json.loads(data)["text"]) if kind == "delta" else ""


async def test_a_reader_that_resumes_at_any_event_sees_the_rest_exactly_once(client: AsyncHeadrace) -> None:
    accepted = await client.submit("tales", {"name": "a river"})
    whole = await read(client, accepted.id)
    for place in [event.n for event in whole]:
        rest = [event async for event in client.events(accepted.id, after=place)]
        assert text_of(rest) == text_of([event for event in whole if event.n > place])
        assert all(event.n > place for event in rest)


async def test_a_killed_nats_server_costs_no_job(running: Installation, client: AsyncHeadrace) -> None:
    accepted = await client.submit("tales", {"name": "a flood"})
    events = client.events(accepted.id)
    seen = [await anext(events)]
    while not isinstance(seen[-1], Delta):
        seen.append(await anext(events))
    [server] = running.processes("nats-server")
    server.send_signal(signal.SIGKILL)
    seen += [event async for event in events]
    assert_whole(seen)
    assert server.pid not in {p.pid for p in running.processes("nats-server")}
    again = await client.submit("tales", {"name": "after the flood"})  # without a restart of ours
    assert_whole(await read(client, again.id))


async def test_a_killed_inference_replica_costs_no_token(running: Installation, client: AsyncHeadrace) -> None:
    accepted = await client.submit("tales", {"name": "a fire"})
    events = client.events(accepted.id)
    seen = [await anext(events)]
    while not isinstance(seen[-1], Delta):
        seen.append(await anext(events))
    victim = running.replica("tell")
    victim.send_signal(signal.SIGKILL)
    seen += [event async for event in events]
    assert_whole(seen)
    starts = [event for event in seen if isinstance(event, StepStarted)]
    assert [start.attempt for start in starts] == [1, 2]
    assert starts[0].worker != starts[1].worker
    assert starts[1].from_ > 0
    assert not psutil.pid_exists(victim.pid)


async def test_a_killed_result_actor_costs_a_reader_nothing(running: Installation, client: AsyncHeadrace) -> None:
    accepted = await client.submit("tales", {"name": "a storm"})
    events = client.events(accepted.id)
    seen = [await anext(events)]
    running.replica("events").send_signal(signal.SIGKILL)
    seen += [event async for event in events]
    assert_whole(seen)


async def test_a_killed_ingress_costs_the_openai_client_nothing(running: Installation) -> None:
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="-", max_retries=20) as client:
        stream = await client.responses.create(model="gossip", input="Go on.", background=True, stream=True)
        created = await anext(stream)
        assert created.type == "response.created"
        seen: list[ResponseStreamEvent] = [created]
        running.replica("api").send_signal(signal.SIGKILL)
        while not _is_told(seen):
            with contextlib.suppress(httpx2.TransportError, APIError):  # it is cut, or another is on its way up
                async for event in stream:
                    seen.append(event)
            if not _is_told(seen):
                after = seen[-1].sequence_number
                stream = await client.responses.retrieve(created.response.id, stream=True, starting_after=after)
        numbers = [event.sequence_number for event in seen]
        assert numbers == sorted(set(numbers))
        assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == WORDS
        again = await client.responses.retrieve(created.response.id, stream=True, starting_after=0)
        assert "".join([event.delta async for event in again if event.type == "response.output_text.delta"]) == WORDS


def _is_told(seen: list[ResponseStreamEvent]) -> bool:
    return seen[-1].type == "response.completed"


async def test_every_socket_listens_on_loopback_or_is_a_named_exception(running: Installation) -> None:
    abroad = {
        (name, kind)
        for process in running.children()
        for name, kind, address in _listening(process)
        if not address.removeprefix("::ffff:").startswith("127.") and address != "::1"
    }
    assert not abroad - set(EXCEPTIONS)
    assert abroad, "Serve's own server is gone: take it from the list, and from README"


def _listening(process: psutil.Process) -> Iterator[tuple[str, str, str]]:
    """A process's name, and the protocol and the address of each socket it can be reached on."""
    with contextlib.suppress(psutil.NoSuchProcess):
        words = process.cmdline()[0]
        name = "ray::ServeReplica" if words.startswith("ray::ServeReplica") else words.rpartition("/")[2]
        for connection in process.net_connections(kind="inet"):
            if connection.type == socket.SOCK_DGRAM and not connection.raddr:
                yield name, "udp", connection.laddr.ip
            elif connection.status == psutil.CONN_LISTEN:
                yield name, "tcp", connection.laddr.ip


def test_the_command_line_streams_the_text_alone(running: Installation) -> None:
    command = [HEADRACE, "submit", "tales", "a wheel", "--follow", "--url", running.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == WORDS
    assert "completed" in done.stderr


def test_the_command_line_shows_stages_with_their_replicas(running: Installation) -> None:
    done = subprocess.run([HEADRACE, "stages", "--url", running.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "tell" in done.stdout
    assert "ready" in done.stdout


@pytest.mark.long
def test_a_second_installation_beside_it_is_one_of_its_own(
    running: Installation, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with installation(tmp_path, pipelines=PIPELINES[:1]) as beside:
        assert beside.port != running.port
        for one in (running, beside):
            command = [HEADRACE, "submit", "tales", "twins", "--key", "the same", "--follow", "--url", one.url]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.stdout.strip() == WORDS
        job = subprocess.run(
            [HEADRACE, "submit", "tales", "kept", "--url", beside.url], capture_output=True, text=True, timeout=60
        ).stdout.strip()
    assert running.process.poll() is None
    # Started again on the same folder, it still has its jobs.
    with installation(tmp_path, pipelines=PIPELINES[:1]) as again:
        done = subprocess.run(
            [HEADRACE, "follow", job.split()[-1], "--url", again.url], capture_output=True, text=True, timeout=120
        )
        assert done.stdout.strip() == WORDS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "{taken}"], "is taken"),
        (["--model", "./no-such-model"], "no model folder"),
        (["--nats-url", "nats://127.0.0.1:1"], "no nats-server answers"),
        (["--pipeline", "tests.slow_pipeline:nothing"], "has no 'nothing'"),
        (["--pipeline", "no_such_module:pipeline"], "no module"),
        (["--data", "{data}", "--pipeline", PIPELINES[0]], "in use"),
        (["--data", "/proc/headrace", "--pipeline", PIPELINES[0]], ""),
        (["--host", "0.0.0.0", "--pipeline", PIPELINES[0]], "headrace keys create"),
    ],
)
def test_what_cannot_start_says_so_in_one_sentence(
    running: Installation, tmp_path: Path, arguments: list[str], says: str
) -> None:
    values = {"taken": str(running.port), "data": str(running.data)}
    flags = [argument.format(**values) for argument in arguments]
    if "--data" not in flags:
        flags += ["--data", str(tmp_path)]
    done = subprocess.run(
        [HEADRACE, "up", *flags],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("headrace: ")
    assert says in last
    assert "Traceback" not in done.stderr
