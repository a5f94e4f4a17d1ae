"""The start and the stop of everything: this is what `headrace up` and `make run` do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from actors.client import AsyncHeadrace, Patience
from actors.contracts.errors import CannotStart, HeadraceError
from actors.engines import Vllm, smollm2
from actors.gate import is_closed, make_a_key, own_key
from actors.interruption import Stopped, stopping_gently, until
from actors.journal.connection import Link
from actors.journal.server import EmbeddedServer
from actors.journal.topology import ensure
from actors.pipeline import Catalogue
from actors.runtime.cluster import LocalCluster
from actors.runtime.ports import claimed
from actors.runtime.replica import load_pipelines
from actors.runtime.settings import Settings
from actors.showing import SAMPLES, show, show_urls, tell, until_ready, watch_stages

FIRST_PORT = 8000
CONNECT_S = 10.0
LOOK_EVERY_S = 1.0


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
    except (Stopped, KeyboardInterrupt):
        return 130


def _start_anew(port: int, environment: dict[str, str]) -> NoReturn:
    """Become a program that was just started, on the same port. A process that has lost its Ray cannot have another."""
    os.execve(sys.executable, [*sys.orig_argv, "--port", str(port), "--no-sample"], environment)


async def _up(options: LaunchOptions) -> int:
    pipelines = load_pipelines((wanted := _settings(options)).pipelines)
    with _at_a_port(wanted) as settings, stopping_gently() as stop:
        async with installation(settings, stop) as running:
            return await _run(running, pipelines, stop, options)


@asynccontextmanager
async def installation(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Running]:
    """The log, the model, Ray and every application; none of it runs on the way out. Settings must name a port.

    The applications may still be on their way up when it is entered. When `stop` is set before that, it unwinds.
    """
    async with _log_of_jobs(settings) as with_log:
        if await is_closed(settings, with_log):
            tell("keys         are needed for every request; see `headrace keys list`")
        else:
            tell("keys         there are none: everybody on this machine may do everything; to close it:")
            tell(f"             .venv/bin/{make_a_key(settings)}")
        with_model = await until(stop, _with_model(with_log))
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
    folder = await asyncio.to_thread(smollm2.prepare, (settings.data / "models").absolute(), say=tell)
    return settings.model_copy(update={"model": str(folder)})


@asynccontextmanager
async def _log_of_jobs(settings: Settings) -> AsyncIterator[Settings]:
    """A server that holds the jobs: the one that is named, or one of our own."""
    if settings.nats_url:
        await _check_reachable(settings.nats_urls)
        tell(f"nats-server  {', '.join(_bare(url) for url in settings.nats_urls)}")
        yield settings
        return
    async with EmbeddedServer((settings.data / "nats").absolute()) as server:
        tell(f"nats-server  {_bare(server.url)}  jobs are kept in {settings.data}")
        yield settings.model_copy(
            update={
                "nats_url": server.url,
                "nats_sys_url": server.sys_url,
                "max_bytes": min(settings.max_bytes, server.jobs_bytes),
                "audit_max_bytes": min(settings.audit_max_bytes, server.audit_bytes),
            }
        )


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
        tell("ray          starting")
        await until(stop, asyncio.to_thread(cluster.start))
        _point_to_logs(settings, cluster)
        settings = settings.model_copy(update={"gpus": cluster.has_gpus()})
        await until(stop, _make_streams(settings))
        await until(stop, asyncio.to_thread(_deploy, cluster, settings))
        yield Running(settings, cluster)
    finally:
        tell("stopping")
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
    async with own_key(settings) as key, AsyncHeadrace(url, api_key=key, patience=Patience(tries=60)) as client:
        await until(stop, until_ready(client))
        tell(f"http         {url}")
        watching = asyncio.create_task(watch_stages(client, give_up=options.once))
        try:
            sample = next(((p, SAMPLES[p]) for p in pipelines if p in SAMPLES and options.sample), None)
            status = await until(stop, show(client, *sample, watching)) if sample else 0
        finally:
            watching.cancel()
    if options.once:
        return status
    show_urls(url, pipelines)
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


def _point_to_logs(settings: Settings, cluster: LocalCluster) -> None:
    """Leave a link to the cluster's logs in the data folder, for as long as it runs."""
    link = settings.data / "logs"
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.symlink_to(cluster.logs)


def _bare(url: str) -> str:
    """A server's address without its password."""
    return url.rpartition("@")[2].removeprefix("nats://")
