"""What can go wrong for a client: who has to do something, and what."""

from __future__ import annotations

from actors.contracts.errors import HeadraceError
from actors.replies import Job, Problem


class ClientError(HeadraceError):
    """The server could not be asked, or did not do what it was asked for."""


class BadRequest(ClientError):
    """This cannot be sent at all: the message says what to change."""


class Refused(ClientError):
    """The server says no, and would say no again: `problem` says why."""

    def __init__(self, problem: Problem, message: str = "") -> None:
        super().__init__(message or str(problem))
        self.problem = problem


class NotFound(Refused):
    """There is no such job or pipeline."""


class Unavailable(Refused):
    """The server says not now, and said so until patience ran out; the same again, later, is right.

    `retry_after` is the seconds it asked for last. `key`, after a submit, is the Idempotency-Key with which submitting
    again makes no second job.
    """

    def __init__(self, problem: Problem, *, retry_after: float | None = None, key: str | None = None) -> None:
        later = f"in {retry_after:g} s" if retry_after is not None else "later"
        super().__init__(problem, f"{problem} ({problem.status}); try again {later}{_with(key)}")
        self.retry_after = retry_after
        self.key = key


class Unreachable(ClientError):
    """Nothing answers, or the connection broke. `key` as in Unavailable: what was submitted may be stored."""

    def __init__(self, url: str, error: Exception, *, key: str | None = None) -> None:
        why = str(error) or type(error).__name__
        super().__init__(
            f"no answer from {url}: {why}; is the server running there? `headrace up` starts one.{_again(key)}"
        )
        self.url = url
        self.key = key


class Unintelligible(ClientError):
    """Something answers, but not as Headrace does: another server, or another version."""


class NothingAsked(HeadraceError):
    """There is nothing to answer: `job` says how it stands."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} asks nothing; it is {job.status.replace('_', ' ')}")
        self.job = job


class NotCompleted(HeadraceError):
    """The job ended without an answer; `job` says how, and what it said on the way."""

    def __init__(self, job: Job) -> None:
        where = f" in {job.stage}" if job.stage else ""
        why = f": {job.error}" if job.error else ""
        super().__init__(f"job {job.id} ended {job.status.replace('_', ' ')}{where}{why}")
        self.job = job


def _with(key: str | None) -> str:
    return f" with the key {key}, which makes no second job" if key else ""


def _again(key: str | None) -> str:
    return f" The job may be stored: submit it again{_with(key)}" if key else ""
