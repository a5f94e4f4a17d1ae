"""Free ports, and how programs that start at the same moment do not choose the same one."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def first_free(host: str, ports: Iterable[int]) -> int:
    """The first of these ports that nobody listens on."""
    return next(port for port in ports if is_free(host, port))


@contextmanager
def claimed(host: str, ports: Iterable[int]) -> Iterator[int | None]:
    """The first of these ports that is free and that no other program has claimed this way; None if there is none.

    It takes some seconds from choosing a port to listening on it; the claim holds from here to the way out.
    """
    for port in ports:
        with contextlib.ExitStack() as stack:
            claim = stack.enter_context((Path(tempfile.gettempdir()) / f"headrace-port-{port}").open("a"))
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            if is_free(host, port):
                yield port
                return
    yield None
