"""A whole installation, started as a person starts it: `headrace up`, in a process of its own."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
START_S = 180.0
STOP_S = 60.0


class Installation:
    """`headrace up` as a child process: what it says, what it started, and its end."""

    def __init__(self, data: Path, *arguments: str, pipelines: Sequence[str] = ()) -> None:
        flags = [flag for path in pipelines for flag in ("--pipeline", path)]
        self.data = data
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "RAY_"))}
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("headrace"), "up", "--data", str(data), *flags, *arguments],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        """Where its HTTP answers, as it said itself."""
        return next(line.split()[1] for line in self.said if line.startswith("http "))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def wait_for(self, words: str, *, within: float = START_S) -> str:
        """The first line with these words in it. Raises AssertionError, with what it said, if it ends before."""
        for line in list(self.said):
            if words in line:
                return line
        while True:
            try:
                heard = self._lines.get(timeout=within)
            except queue.Empty:
                raise AssertionError(f"{words!r} did not come:\n" + "\n".join(self.said)) from None
            if heard is None:
                raise AssertionError(f"it ended before {words!r}:\n" + "\n".join(self.said))
            if words in heard:
                return heard

    def processes(self, name: str) -> list[psutil.Process]:
        """What it started whose command line has `name` in it."""
        return [p for p in self.children() if name in " ".join(_command(p))]

    def replica(self, deployment: str) -> psutil.Process:
        """The one replica of a deployment."""
        [found] = self.processes(f"ray::ServeReplica:{deployment}:")
        return found

    def children(self) -> list[psutil.Process]:
        """All that it started, and itself."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def wait(self) -> int:
        """Its exit status, once it has ended by itself."""
        return self.process.wait(timeout=START_S)

    def stop(self) -> int:
        """Ctrl-C, as a terminal sends it; its exit status. Asserts that nothing of it is left."""
        started = self.children() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(timeout=STOP_S)
        _, alive = psutil.wait_procs(started, timeout=5)
        assert not alive, f"left behind: {[' '.join(_command(p)) for p in alive]}"
        return status

    def kill(self) -> None:
        """End it and all that it started, whatever state it is in."""
        for process in self.children() if self.process.poll() is None else []:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


@contextmanager
def installation(data: Path, *arguments: str, pipelines: Sequence[str] = ()) -> Iterator[Installation]:
    """An installation that serves, stopped on the way out."""
    running = Installation(data, *arguments, pipelines=pipelines)
    try:
        running.wait_for("serving until Ctrl-C")
        yield running
        assert running.stop() == 0
    except BaseException:
        print("headrace up said:", *running.said, sep="\n")  # pytest shows it with the test that failed
        raise
    finally:
        if running.process.poll() is None:
            running.kill()


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
