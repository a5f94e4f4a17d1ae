"""What an embedded nats-server is told: this is its configuration."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from actors.contracts.errors import HeadraceError

HOST = "127.0.0.1"
ACCOUNT = "HEADRACE"
USER = "headrace"
SYS_USER = "sys"

MAX_PAYLOAD = 2 << 20
"""The largest message that the server takes, in bytes. A job's messages are at most half of it."""

MAX_JOBS = 10 << 30
"""The most that the stream of jobs may hold, in bytes, however large the disk is."""

MAX_AUDIT = 10 << 30
"""The most that the audit log may hold, in bytes, however large the disk is."""

MAX_LOG = 10 << 20
LOG_FILES = 3

PORTS = range(20_000, 32_000)
"""Where ports are taken from: below the range that the kernel gives to outgoing connections, so that none of them can
sit on a port of ours while the server is down (not even a client of ours that connects to itself)."""


class ServerError(HeadraceError):
    """nats-server cannot run here; the message says why, and what to do."""


class Identity(BaseModel):
    """What stays the same over restarts, so that clients find the server again: name, ports, passwords, room.

    `room` is how many bytes JetStream may store in all. It never shrinks: the server refuses to update a stream
    whose reservation no longer fits (10047), and the store itself makes the free part of the disk smaller.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    port: int
    monitor_port: int
    password: str
    sys_password: str
    room: int = 0

    @classmethod
    def new(cls, is_free: Callable[[int], bool]) -> Self:
        """A name and passwords that nobody can guess, on two ports that are free."""
        port, monitor_port = free_ports(2, is_free)
        return cls(
            name=f"headrace-{secrets.token_hex(4)}",
            port=port,
            monitor_port=monitor_port,
            password=secrets.token_hex(16),
            sys_password=secrets.token_hex(16),
        )

    def on_free_ports(self, is_free: Callable[[int], bool]) -> Self:
        """The same, on the same ports if both are free, else on others."""
        if is_free(self.port) and is_free(self.monitor_port):
            return self
        port, monitor_port = free_ports(2, is_free)
        return self.model_copy(update={"port": port, "monitor_port": monitor_port})

    def with_room(self, free: int) -> Self:
        """The same, on a disk with `free` bytes left: JetStream may have three quarters of them."""
        return self.model_copy(update={"room": max(self.room, free * 3 // 4)})

    @property
    def jobs_bytes(self) -> int:
        """How much the stream of jobs may hold: half of what was free, and at most `MAX_JOBS`."""
        return min(MAX_JOBS, self.room * 2 // 3)

    @property
    def audit_bytes(self) -> int:
        """How much the audit log may hold: a quarter of the room, so that both fit and something is left."""
        return min(MAX_AUDIT, self.room // 4)

    @property
    def url(self) -> str:
        """Where jobs live; the URL carries the password."""
        return f"nats://{USER}:{self.password}@{HOST}:{self.port}"

    @property
    def sys_url(self) -> str:
        """Where the server reports on itself (connections that come and go); the URL carries the password."""
        return f"nats://{SYS_USER}:{self.sys_password}@{HOST}:{self.port}"


def render(identity: Identity, *, folder: Path, log: Path, sync: str = "always") -> str:
    """The configuration file: loopback only, two accounts, a bounded log, and the streams in `<folder>/jetstream`.

    `sync` is JetStream's `sync_interval`: with anything but `always` a power cut loses what was acknowledged since.
    `js_ack_fc_v2` stays off: with it on, an ordered consumer of nats-py 2.16 ends its connection's read loop.
    """
    return f"""\
server_name: {_quoted(identity.name)}
listen: "{HOST}:{identity.port}"
http: "{HOST}:{identity.monitor_port}"
logfile: {_quoted(str(log))}
logfile_size_limit: {MAX_LOG}
logfile_max_num: {LOG_FILES}
max_payload: {MAX_PAYLOAD}
feature_flags {{ js_ack_fc_v2: false }}
jetstream {{
  store_dir: {_quoted(str(folder))}
  max_file_store: {identity.room}
  max_memory_store: {64 << 20}
  sync_interval: {_quoted(sync)}
}}
accounts {{
  $SYS: {{ users: [ {{ user: {SYS_USER}, password: {_quoted(identity.sys_password)} }} ] }}
  {ACCOUNT}: {{ jetstream: enabled, users: [ {{ user: {USER}, password: {_quoted(identity.password)} }} ] }}
}}
"""


def free_ports(count: int, is_free: Callable[[int], bool]) -> list[int]:
    """So many different free ports, chosen by chance. Raises ServerError when there are not that many."""
    found: list[int] = []
    for port in secrets.SystemRandom().sample(PORTS, len(PORTS)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ServerError(
        f"of the ports {PORTS.start} to {PORTS.stop - 1}, {len(found)} are free and {count} needed: free some"
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback now."""
    with socket.socket() as probe:
        # As the server does it, so that old connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
