"""The start and the stop of everything: this is what `headrace up` and `make run` do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from actors.client import AsyncHeadrace, ClientError, Patience
from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import LOCAL
from actors.engines import Vllm, smollm2
from actors.journal.api_keys import ApiKeys
from actors.journal.connection import Link
from actors.journal.server import EmbeddedServer
from actors.journal.topology import ensure, ensure_settings
from actors.narration import Narration
from actors.pipeline import Catalogue
from actors.replies import Completed
from actors.runtime.cluster import LocalCluster
from actors.runtime.ports import claimed
from actors.runtime.replica import load_pipelines
from actors.runtime.settings import Settings
from actors.runtime.writer import utc_now

T = TypeVar("T")

FIRST_PORT = 8000
CONNECT_S = 10.0
OWN_KEY = timedelta(hours=6)
READY_S = 180.0
LOOK_EVERY_S = 1.0

SAMPLES = {
    "analysis": {"text": "What is a tailrace, and what is 7 times 45?"},
}
"""A job for each pipeline that comes with Headrace, to see it work."""


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What to start, and where. None leaves a choice to the settings and their defaults.

    `port` is explicit when it is given: if it is taken, that is an error. `pipelines` are import paths, `module:name`;
    without any, the ones that come with Headrace are served. With `once`, all of it stops after the sample job; without
    `sample` there is none.
    """

    host: str | None = None
    port: int | None = None
    model: str | None = None
    nats_url: str | None = None
    data: Path | None = None
    once: bool = False
    sample: bool = True
    pipelines: tuple[str, ...] = ()


class CannotStart(HeadraceError):
    """Something that a start needs is not there; the message says what to do."""


class _ClusterLost(HeadraceError):
    """A process is gone that Ray cannot do without. Jobs are kept in the log; `port` is where HTTP was."""

    def __init__(self, process: str, port: int) -> None:
        super().__init__(f"{process} has died, and Ray with it: everything is started again; jobs are kept and go on")
        self.port = port


@dataclass(frozen=True, slots=True)
class Running:
    """An installation that has been started: its settings, with every choice made, and the cluster that it runs on."""

    settings: Settings
    cluster: LocalCluster


def up(options: LaunchOptions) -> int:
    """Start everything, run the sample job, and serve until Ctrl-C. Returns the exit status."""
    environment = dict(os.environ)
    sys.path.insert(0, os.getcwd())  # a pipeline of one's own is found where one stands
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        return asyncio.run(_up(options))
    except _ClusterLost as error:
        print(f"headrace: {error}", file=sys.stderr, flush=True)
        _start_anew(error.port, environment)
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except (_Stopped, KeyboardInterrupt):
        return 130


def _start_anew(port: int, environment: dict[str, str]) -> NoReturn:
    """Become a program that was just started, on the same port. A process that has lost its Ray cannot have another."""
    os.execve(sys.executable, [*sys.orig_argv, "--port", str(port), "--no-sample"], environment)


async def _up(options: LaunchOptions) -> int:
    pipelines = load_pipelines((wanted := _settings(options)).pipelines)
    with _at_a_port(wanted) as settings, _stopping_gently() as stop:
        async with installation(settings, stop) as running:
            return await _run(running, pipelines, stop, options)


@asynccontextmanager
async def installation(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Running]:
    """The log, the model, Ray and every application; none of it runs on the way out. Settings must name a port.

    The applications may still be on their way up when it is entered. When `stop` is set before that, it unwinds.
    """
    async with _log_of_jobs(settings) as with_log:
        await _check_closed(settings, with_log)
        with_model = await _until(stop, _with_model(with_log))
        async with _serving(with_model, stop) as running:
            yield running


def _settings(options: LaunchOptions) -> Settings:
    given = {
        "host": options.host,
        "port": options.port,
        "model": options.model,
        "nats_url": options.nats_url,
        "data": options.data,
        "pipelines": options.pipelines or None,
    }
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    if not settings.model.startswith((".", "/", "~")):
        return settings
    folder = Path(settings.model).expanduser().absolute()
    if not folder.is_dir():
        raise CannotStart(f"there is no model folder {folder}; give a folder or a hub name with MODEL= or --model")
    return settings.model_copy(update={"model": str(folder)})


@contextmanager
def _at_a_port(settings: Settings) -> Iterator[Settings]:
    """The settings with the port that HTTP is to have: the one that is named, or the first free one."""
    with claimed(settings.host, [settings.port] if settings.port else itertools.count(FIRST_PORT)) as port:
        if port is None:
            raise CannotStart(
                f"port {settings.port} is taken; stop what listens there, or choose another with PORT= or --port"
            )
        yield settings.model_copy(update={"port": port})


async def _with_model(settings: Settings) -> Settings:
    """The settings with the small model's folder, if a stage needs a model and none is named."""
    pipelines = load_pipelines(settings.pipelines)
    engines = [s.uses for p in pipelines.values() for s in p.stages if isinstance(s.uses, Vllm)]
    if settings.model or all(engine.model for engine in engines):
        return settings
    folder = await asyncio.to_thread(smollm2.prepare, (settings.data / "models").absolute(), say=_tell)
    return settings.model_copy(update={"model": str(folder)})


@asynccontextmanager
async def _log_of_jobs(settings: Settings) -> AsyncIterator[Settings]:
    """A server that holds the jobs: the one that is named, or one of our own."""
    if settings.nats_url:
        await _check_reachable(settings.nats_urls)
        _tell(f"nats-server  {', '.join(_bare(url) for url in settings.nats_urls)}")
        yield settings
        return
    async with EmbeddedServer((settings.data / "nats").absolute()) as server:
        _tell(f"nats-server  {_bare(server.url)}  jobs are kept in {settings.data}")
        yield settings.model_copy(
            update={
                "nats_url": server.url,
                "nats_sys_url": server.sys_url,
                "max_bytes": min(settings.max_bytes, server.jobs_bytes),
                "audit_max_bytes": min(settings.audit_max_bytes, server.audit_bytes),
            }
        )


async def _check_closed(wanted: Settings, settings: Settings) -> None:
    """Raises CannotStart where others than this machine's users could ask, and nobody needs a key."""
    async with _keys(settings) as keys:
        known = await keys.all()
    if not settings.is_loopback and not any(key.is_good(utc_now()) for key in known.values()):
        raise CannotStart(
            f"{settings.host} is no loopback address, so everybody who reaches it could use it, and there is no key "
            f"that is good: make one first, `{_make_a_key(wanted)}`, or listen on 127.0.0.1"
        )
    if known:
        _tell("keys         are needed for every request; see `headrace keys list`")
    else:
        _tell("keys         there are none: everybody on this machine may do everything; to close it:")
        _tell(f"             .venv/bin/{_make_a_key(wanted)}")


@asynccontextmanager
async def _keys(settings: Settings) -> AsyncIterator[ApiKeys]:
    link = await Link.open(settings.nats_urls, "headrace-up")
    try:
        await ensure_settings(link, replicas=settings.nats_replicas)
        yield ApiKeys(link)
    finally:
        await link.close()


@asynccontextmanager
async def _own_key(settings: Settings) -> AsyncIterator[str | None]:
    """A key for what is asked during the start, where one is needed; nobody else is given it, and it ends with that."""
    async with _keys(settings) as keys:
        if not await keys.all():
            yield None
            return
        now = utc_now()
        key = await keys.make(LOCAL, now=now, name="headrace up", is_operator=True, expires=now + OWN_KEY)
        try:
            yield key.text
        finally:
            await keys.forget(key.id)


def _make_a_key(settings: Settings) -> str:
    """The command that makes a key for an installation with these settings."""
    where = ""
    if settings.nats_url:
        where = " --nats-url URL"
    elif settings.data != Path(".headrace"):
        where = f" --data {settings.data}"
    return f"headrace keys create --tenant NAME{where}"


async def _check_reachable(urls: list[str]) -> None:
    try:
        async with asyncio.timeout(CONNECT_S):
            link = await Link.open(urls, "headrace-up")
    except TimeoutError:
        named = ", ".join(_bare(url) for url in urls)
        raise CannotStart(
            f"no nats-server answers at {named}; start it, or leave NATS_URL out to use one of our own"
        ) from None
    await link.close()


@asynccontextmanager
async def _serving(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Running]:
    """Ray and every application, until the way out."""
    # Serve's controller has no other way to hear of a server whose address carries a password.
    cluster = LocalCluster(settings.host, settings.port, {"HEADRACE_NATS_URL": settings.nats_url})
    try:
        _tell("ray          starting")
        await _until(stop, asyncio.to_thread(cluster.start))
        _point_to_logs(settings, cluster)
        settings = settings.model_copy(update={"gpus": cluster.has_gpus()})
        await _until(stop, _make_streams(settings))
        await _until(stop, asyncio.to_thread(_deploy, cluster, settings))
        yield Running(settings, cluster)
    finally:
        _tell("stopping")
        await asyncio.to_thread(cluster.stop)


async def _make_streams(settings: Settings) -> None:
    link = await Link.open(settings.nats_urls, "headrace-up")
    stages = load_pipelines(settings.pipelines).stages
    try:
        await ensure(
            link,
            stages,
            replicas=settings.nats_replicas,
            max_bytes=settings.max_bytes,
            audit_max_bytes=settings.audit_max_bytes,
            ack_wait=settings.ack_wait,
        )
    finally:
        await link.close()


def _deploy(cluster: LocalCluster, settings: Settings) -> None:
    import serve_app

    settings = settings.model_copy(update={"data": settings.data.absolute()})  # a replica stands elsewhere
    cluster.deploy([(a.name, a.route, a.application) for a in serve_app.applications(settings)])


async def _run(running: Running, pipelines: Catalogue, stop: asyncio.Event, options: LaunchOptions) -> int:
    settings = running.settings
    url = f"http://{settings.host}:{settings.port}"
    async with _own_key(settings) as key, AsyncHeadrace(url, api_key=key, patience=Patience(tries=60)) as client:
        await _until(stop, _ready(client))
        _tell(f"http         {url}")
        watching = asyncio.create_task(_watch_stages(client, give_up=options.once))
        try:
            sample = next(((p, SAMPLES[p]) for p in pipelines if p in SAMPLES and options.sample), None)
            status = await _until(stop, _show(client, *sample, watching)) if sample else 0
        finally:
            watching.cancel()
    if options.once:
        return status
    _print_urls(url, pipelines)
    await _serve(running, stop)
    return 0


async def _serve(running: Running, stop: asyncio.Event) -> None:
    """Until somebody asks for the stop. Raises _ClusterLost when the cluster can serve no longer."""
    while not stop.is_set():
        if lost := running.cluster.lost():
            raise _ClusterLost(lost, running.settings.port)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await stop.wait()


async def _ready(client: AsyncHeadrace) -> None:
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


async def _show(client: AsyncHeadrace, pipeline: str, sample: dict[str, str], watching: asyncio.Task[None]) -> int:
    """Submit the sample job and tell what happens to it. It may wait for its engine: that is what the log is for."""
    accepted = await client.submit(pipeline, sample)
    _tell(f"job          {accepted.id}  {sample['text']}")
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


async def _watch_stages(client: AsyncHeadrace, *, give_up: bool) -> None:
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
                    _tell(f"{stage.stage:<12} {replica.state}{f': {replica.detail}' if replica.detail else ''}")
                    if give_up and replica.state == "failed":
                        raise CannotStart(f"stage {stage.stage!r} cannot start: {replica.detail}")
        await asyncio.sleep(LOOK_EVERY_S)


def _point_to_logs(settings: Settings, cluster: LocalCluster) -> None:
    """Leave a link to the cluster's logs in the data folder, for as long as it runs."""
    link = settings.data / "logs"
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.symlink_to(cluster.logs)


def _print_urls(url: str, pipelines: Catalogue) -> None:
    _tell("")
    for name in pipelines:
        _tell(f"  submit     POST {url}/v1/pipelines/{name}/jobs")
        newest, *older = [pipeline.version for pipeline in pipelines.versions(name)]
        if older:
            _tell(f"             version {newest} takes new jobs, {', '.join(older)} finishes what began on it")
    _tell(f"  follow     GET  {url}/v1/events/<id>")
    _tell(f"  stages     GET  {url}/v1/stages")
    _tell(f"  API        {url}/docs")
    _tell("")
    _tell("serving until Ctrl-C; in another terminal:")
    _tell(f"  .venv/bin/headrace submit {next(iter(pipelines))} --url {url} -f 'What is a tailrace?'")


def _tell(line: str) -> None:
    """A line about the start, for people."""
    print(line, file=sys.stderr, flush=True)


def _bare(url: str) -> str:
    """A server's address without its password."""
    return url.rpartition("@")[2].removeprefix("nats://")


class _Stopped(Exception):
    """Somebody asked for the stop before the start was through."""


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises _Stopped when `stop` is set first; what it began is undone by who owns it."""
    task, stopped = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _Stopped
        return task.result()
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextmanager
def _stopping_gently() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C or SIGTERM sets, for an end in order. A second Ctrl-C interrupts that too."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if stop.is_set():
            loop.remove_signal_handler(signal.SIGINT)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
