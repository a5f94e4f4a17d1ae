"""The subjects of the log, `<kind>.<topic>.<lane>.<tenant>.<job>`, and what may stand in them."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["job", "text"]
Lane = Literal["interactive", "standard", "batch"]

KINDS: tuple[Kind, ...] = get_args(Kind)

LANES: tuple[Lane, ...] = get_args(Lane)
"""In the order in which a freed slot asks them."""

SHARES = 32
"""Into how many shares tenants are put, beside the first, which is plain: there are only those that somebody is in."""

DONE = "done"
"""The topic of outcomes, but for dead letters."""

DEAD = "dead"
"""The topic of dead letters: it is the dead letter queue."""

REVIEW = "review"
"""The topic of what people did about dead letters."""

ASK = "ask"
"""The topic of questions to people."""

PUT_OFF = "later"
"""The topic of jobs whose time to start has not come."""

RESERVED = frozenset({"step", DONE, DEAD, ASK, PUT_OFF, REVIEW})
"""Topics that are no stage's."""

LOCAL = "local"
"""The one tenant there is when nobody needs a key."""

EVERY_TENANT = "*"
"""Stands for any tenant in a filter."""

LIVE = "live."
"""The prefix under which every message is published again as soon as it is stored."""

DUE = "later.due."
"""Under it stands which jobs' time has come. Not of the log: it only says when to look there."""

HOOKS_PREFIX = "hooks."
"""Under it stand the deliveries of webhooks."""

_TOPIC = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TENANT = re.compile(r"[a-z2-7]{1,26}|[0-9a-f]{1,32}")
_JOB = re.compile(r"[a-z2-7]{26}")
_LANE = re.compile(rf"({'|'.join(LANES)})(?:-([0-9]{{2}}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """Which job: the three tokens that all its subjects end in. A job keeps its lane and its share of it for life."""

    lane: Lane
    tenant: str
    job: str
    share: int = 0

    def __post_init__(self) -> None:
        lane = self.lane in LANES and is_share(self.share)
        if not lane or not is_tenant(self.tenant) or not is_job(self.job):
            raise ValueError(f"{self.lane!r}, {self.tenant!r}, {self.job!r} is not <lane>, <tenant>, <job>")

    @property
    def filter(self) -> str:
        """Every subject of the job. The one spelling: a second one is not compared on a replicated stream."""
        return job_filter(self.tenant, self.job)

    @property
    def text_filter(self) -> str:
        """Every subject of the job on which text is said."""
        return f"text.*.*.{self.tenant}.{self.job}"

    def subject(self, kind: Kind, topic: str) -> Subject:
        """The job's subject for what is said on this topic."""
        return Subject(kind, topic, self.lane, self.tenant, self.job, self.share)


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject, taken apart. Raises ValueError when a part of it is none of the log: each is one plain token."""

    kind: Kind
    topic: str
    lane: Lane
    tenant: str
    job: str
    share: int = 0

    def __post_init__(self) -> None:
        known = self.kind in KINDS and (self.topic in RESERVED or is_topic(self.topic)) and self.lane in LANES
        if not (known and is_share(self.share) and is_tenant(self.tenant) and is_job(self.job)):
            raise ValueError(f"{str(self)!r} is not <kind>.<topic>.<lane>.<tenant>.<job>")

    def __str__(self) -> str:
        return f"{self.kind}.{self.topic}.{_lane_token(self.lane, self.share)}.{self.tenant}.{self.job}"

    @property
    def address(self) -> Address:
        return Address(self.lane, self.tenant, self.job, self.share)

    @property
    def queue(self) -> Queue | None:
        """The queue that a hand-off waits in; None for what is none."""
        return Queue(self.topic, self.lane, self.share) if self.kind == "job" and is_topic(self.topic) else None

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Take `text` apart. Raises ValueError when it is no subject of the log."""
        parts = text.split(".")
        if len(parts) != 5:
            raise ValueError(f"{text!r} is not <kind>.<topic>.<lane>.<tenant>.<job>")
        kind, topic, token, tenant, job = parts
        lane, share = _lane_and_share(token)
        return cls(kind, topic, lane, tenant, job, share)  # type: ignore[arg-type]  # it checks its own literals

    @classmethod
    def of(cls, text: str) -> Subject | None:
        """The same; None for what is no subject of the log, which somebody else has written to."""
        try:
            return cls.parse(text)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one stage in one share of a lane: the hand-offs that one durable consumer sees.

    Share 0 is the lane itself, and there is one for every stage; the others are there once a job of a tenant is.
    """

    stage: str
    lane: Lane
    share: int = 0

    @property
    def token(self) -> str:
        """The lane's token in a subject."""
        return _lane_token(self.lane, self.share)

    @property
    def consumer(self) -> str:
        return f"{self.stage}-{self.token}"

    @property
    def handoffs(self) -> str:
        """The subjects of its hand-offs."""
        return f"job.{self.stage}.{self.token}.>"

    def of(self, tenant: str) -> str:
        """The subjects of one tenant's hand-offs in it."""
        return f"job.{self.stage}.{self.token}.{tenant}.*"

    @classmethod
    def parse(cls, consumer: str) -> Queue | None:
        """The queue that a consumer is of; None for one that is of none."""
        stage, _, token = consumer.partition("-")
        lane, share = _lane_and_share(token)
        return cls(stage, lane, share) if lane in LANES and is_topic(stage) else None


def plain_queues(stages: Iterable[str]) -> list[Queue]:
    """The queues that there always are, of each of these stages."""
    return [Queue(stage, lane) for stage in stages for lane in LANES]


def job_filter(tenant: str, job: str) -> str:
    """Every subject of one job, whatever its kind, topic and lane."""
    return f"*.*.*.{tenant}.{job}"


def facts(topic: str) -> str:
    """Every fact on a topic, of every lane and tenant."""
    return f"job.{topic}.>"


def facts_of(tenant: str) -> str:
    """Every fact of a tenant's jobs."""
    return f"job.*.*.{tenant}.*"


def dead_letters(tenant: str) -> str:
    """Every dead letter of a tenant."""
    return f"job.{DEAD}.*.{tenant}.*"


def arrivals_subject(stage: str, lane_token: str = "*") -> str:
    """Where it is said, beside the log, that something has come into a queue that is no plain one."""
    return f"arrivals.{stage}.{lane_token}"


def is_topic(name: str) -> bool:
    """Whether a stage may have this name."""
    return bool(_TOPIC.fullmatch(name)) and name not in RESERVED


def is_tenant(name: str) -> bool:
    return bool(_TENANT.fullmatch(name))


def is_share(number: int) -> bool:
    return 0 <= number <= SHARES


def is_job(name: str) -> bool:
    """Whether this can be the id of a job at all: 26 characters of base32, in small letters."""
    return bool(_JOB.fullmatch(name))


def job_id(tenant: str, key: str) -> str:
    """The id of the job that this tenant's Idempotency-Key makes, now and for as long as it is kept."""
    hashed = hashlib.sha256(f"{tenant}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(hashed[:17])[:26].decode().lower()


def redriven_job_id(tenant: str, job: str, number: int) -> str:
    """The id of the job that the how-manieth redrive of this one makes; no Idempotency-Key makes the same."""
    return job_id(tenant, f"{job}\nredrive\n{number}")


def new_key() -> str:
    """An Idempotency-Key for a client that sent none: 130 random bits."""
    return base64.b32encode(secrets.token_bytes(17))[:26].decode().lower()


def later_subject(tenant: str, job: str) -> str:
    """Where it stands until when a job is put off."""
    return f"later.at.{tenant}.{job}"


def due_subject(tenant: str, job: str) -> str:
    """Where it stands that the time of a job that was put off has come."""
    return f"{DUE}{tenant}.{job}"


def setting_subject(shelf: str, name: str) -> str:
    """Where the newest of what was set under a name stands; each is a token, or `>` for every name of a shelf."""
    return f"settings.{shelf}.{name}"


def hook_subject(tenant: str, endpoint: str, delivery: str) -> str:
    """Where the newest of a webhook's delivery stands; each is a token, or `*` for every one."""
    return f"{HOOKS_PREFIX}{tenant}.{endpoint}.{delivery}"


def worker_subject(worker: str) -> str:
    """Where a worker answers (beside the log) whether it still runs a claim."""
    return f"worker.{worker}"


def workers_subject(stage: str) -> str:
    """Where every worker of a stage says how it is."""
    return f"workers.{stage}"


def scaling_subject(stage: str) -> str:
    """Where whoever decides on a stage's number of replicas says what it has decided."""
    return f"scaling.{stage}"


def _lane_token(lane: str, share: int) -> str:
    return f"{lane}-{share:02}" if share else lane


def _lane_and_share(token: str) -> tuple[Lane, int]:
    """The lane and the share in a lane's token; one that is none comes back as it is, for whoever checks."""
    found = _LANE.fullmatch(token)
    if not found or found[2] == "00" or not is_share(int(found[2] or 0)):
        return token, 0  # type: ignore[return-value]
    return found[1], int(found[2] or 0)  # type: ignore[return-value]
