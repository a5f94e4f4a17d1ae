"""The streams and consumers there are, and their making."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from actors.contracts.subjects import HOOKS_PREFIX, LIVE, Queue, plain_queues
from actors.journal.connection import ApiError, Link, Unanswered

log = logging.getLogger(__name__)

T = TypeVar("T")

JOBS = "JOBS"
"""The one stream that every job lives in. One place turns a job into a stream name, and this is it."""

AUDIT = "AUDIT"
"""The stream that keeps every fact, whatever is forgotten in `JOBS`."""

FACTS = "job.*.*.*.*"
"""The subjects of every fact; the rest of `JOBS` is text."""

LATER = "LATER"
"""The stream of jobs that are put off."""

SETTINGS = "SETTINGS"
"""The stream of what people set while it runs: of each setting the newest."""

HOOKS = "HOOKS"
"""The stream of webhooks' deliveries: of each the newest."""

HERALD = "webhooks"
"""The consumer of `AUDIT` by which webhooks hear of what happened to jobs."""

NS = 1_000_000_000
WEEK_S = 7 * 86_400
AUDIT_S = 400 * 86_400
"""How long a fact is kept, in seconds: over a year, so that a yearly audit finds all of it."""

MONTH_S = 30 * 86_400
MOST_DELIVERIES = 100_000
"""The most deliveries that there may be: each takes memory of the server, as a job does."""

TOLD_OF = ("audit.done.>", "audit.dead.>", "audit.ask.>")
"""What webhooks are told of."""

MAX_CONSUMERS = 4_096
"""How many queues there may be: a stage has three, and three for each share that tenants are in, so 41 stages fit with
every share. Each takes the server memory, so there is a bound."""

ACK_WAIT_S = 30.0
"""The lease: how long a hand-off is a worker's without a sign of progress, in seconds."""

NO_MORE_CONSUMERS = 10026
NO_ROOM = 10047
NAME_IN_USE = 10058
NO_STREAM = 10059
NO_CONSUMER = 10014
CONSUMER_IN_USE = 10148
"""Somebody has just made it, from another time on."""
NOBODY_LEADS = (10008, 10009)
PAUSE_S = 0.1


class NoMoreQueues(ApiError):
    """The log has as many queues as it may have: fewer stages have to be served in one installation."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(
            NO_MORE_CONSUMERS,
            f"there is no room for the queue {queue.consumer}: the log has {MAX_CONSUMERS:,} and takes no more; a "
            "stage has three, and three for each share of tenants: serve some stages by an installation of their own",
        )


def jobs_stream(*, replicas: int, max_bytes: int) -> dict[str, Any]:
    """The configuration of `JOBS`.

    No `subject_delete_marker_ttl`, no `max_msgs_per_subject` and no rollup: each would remove facts behind our back.
    `max_consumers` is explicit because the server's own default is 1,000. Source: nats-server 2.15, ADR-8 and ADR-43.
    """
    return {
        "name": JOBS,
        "subjects": [FACTS, "text.*.*.*.*"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "max_age": WEEK_S * NS,
        "max_bytes": max_bytes,
        "max_consumers": MAX_CONSUMERS,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "duplicate_window": 120 * NS,
        "republish": {"src": ">", "dest": LIVE + ">"},
    }


def later_stream(*, replicas: int) -> dict[str, Any]:
    """The configuration of `LATER`: message schedules, and what they set off.

    Schedules go only with `discard old`, which would drop some of them in silence: so there is no limit to reach. What
    a job that is put off takes here is far below what it takes in `JOBS`, which has a limit. Source: ADR-51.
    """
    return {
        "name": LATER,
        "subjects": ["later.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "old",
        "max_age": WEEK_S * NS,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_msg_schedules": True,
    }


def audit_stream(*, replicas: int, max_bytes: int) -> dict[str, Any]:
    """The configuration of `AUDIT`: every fact of `JOBS`, and nothing that anybody could publish or delete.

    The job's id is left out of the subject, because every live subject costs the server memory; the header
    `Nats-Stream-Source` keeps the whole of it. No per-message TTL: a fact stays as long as the stream says. With
    `discard new` a full stream stops where it is, and goes on from there once it has room: nothing is passed over.
    """
    kept = {"src": FACTS, "dest": "audit.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}"}
    return {
        "name": AUDIT,
        "sources": [{"name": JOBS, "subject_transforms": [kept]}],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "max_age": AUDIT_S * NS,
        "max_bytes": max_bytes,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": True,
    }


def settings_stream(*, replicas: int) -> dict[str, Any]:
    """The configuration of `SETTINGS`: the newest message of each subject, for good.

    It is small, so it reserves no room.
    """
    return {
        "name": SETTINGS,
        "subjects": ["settings.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "old",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
    }


def hooks_stream(*, replicas: int) -> dict[str, Any]:
    """The configuration of `HOOKS`: the newest message of each delivery, for a month after it was written.

    What is full takes no new delivery, but always the news of one that is there. It reserves no room: a delivery has a
    few kilobytes at most.
    """
    return {
        "name": HOOKS,
        "subjects": [f"{HOOKS_PREFIX}>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "max_age": MONTH_S * NS,
        "max_msgs": MOST_DELIVERIES,
        "max_msgs_per_subject": 1,
        "allow_direct": True,
    }


def herald_consumer(since: datetime) -> dict[str, Any]:
    """The durable consumer over what webhooks are told of, from that time on.

    Over `AUDIT` and not over `JOBS`: a job is forgotten only once `AUDIT` has its facts, so nothing is lost to whoever
    was away. Without limits, as `queue_consumer` is.
    """
    return {
        "name": HERALD,
        "durable_name": HERALD,
        "ack_policy": "explicit",
        "deliver_policy": "by_start_time",
        "opt_start_time": since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "filter_subjects": list(TOLD_OF),
        "ack_wait": int(ACK_WAIT_S * NS),
        "max_deliver": -1,
        "max_ack_pending": -1,
    }


def queue_consumer(queue: Queue, *, ack_wait: float) -> dict[str, Any]:
    """The durable consumer over one stage's hand-offs in one share of a lane.

    `max_deliver` and `max_ack_pending` are unlimited: JetStream's limits lose work in silence, ours make a dead letter.
    """
    return {
        "name": queue.consumer,
        "durable_name": queue.consumer,
        "ack_policy": "explicit",
        "filter_subject": queue.handoffs,
        "ack_wait": int(ack_wait * NS),
        "max_deliver": -1,
        "max_ack_pending": -1,
        "max_waiting": 8_192,
    }


async def ensure(
    link: Link,
    stages: Iterable[str],
    *,
    replicas: int = 1,
    max_bytes: int = 1 << 30,
    audit_max_bytes: int = 1 << 30,
    ack_wait: float = ACK_WAIT_S,
) -> None:
    """Make what is missing and update what differs; safe to do again, and by several processes at once.

    Raises NoMoreQueues for a stage that finds no room; a share that finds none in a stage is gone without.
    """
    await _ensure_stream(link, jobs_stream(replicas=replicas, max_bytes=max_bytes))
    await _ensure_stream(link, audit_stream(replicas=replicas, max_bytes=audit_max_bytes))
    await _ensure_stream(link, later_stream(replicas=replicas))
    await ensure_settings(link, replicas=replicas)
    await ensure_hooks(link, replicas=replicas)
    wanted = list(stages)
    for queue in plain_queues(wanted):
        await ensure_queue(link, queue, ack_wait=ack_wait)
    await _ensure_shares(link, wanted, ack_wait=ack_wait)


async def _ensure_shares(link: Link, stages: Iterable[str], *, ack_wait: float) -> None:
    """Let these stages be there for every share: a job of an older version may come to one before any new job does."""
    known = await _patiently(partial(queues, link), "the names of the queues")
    shared = sorted({(queue.lane, queue.share) for queue in known if queue.share})
    missing = list[NoMoreQueues]()
    for queue in (Queue(stage, *place) for stage in stages for place in shared):
        try:
            await ensure_queue(link, queue, ack_wait=ack_wait)
        except NoMoreQueues as error:  # one stage's shares are no reason to be without the log
            missing.append(error)
    if missing:
        fields = {"action": "no_more_queues", "missing": len(missing), "reason": str(missing[0])}
        log.error("some stages go without the queues of some shares", extra=fields)


async def ensure_settings(link: Link, *, replicas: int = 1) -> None:
    """Make `SETTINGS` alone, if it is missing: something may have to be set before anything else is started."""
    await _ensure_stream(link, settings_stream(replicas=replicas))


async def ensure_hooks(link: Link, *, replicas: int = 1) -> None:
    """Make `HOOKS`, and what hears of jobs' outcomes, if they are missing. Raises ApiError where there is no `AUDIT`.

    Who makes the consumer anew, after it was lost, tells of the last week again; what was told before is known by its
    id.
    """
    await _ensure_stream(link, hooks_stream(replicas=replicas))
    try:
        await _call(link, f"CONSUMER.INFO.{AUDIT}.{HERALD}", {})
    except ApiError as error:
        if error.code != NO_CONSUMER:
            raise
        config = herald_consumer(datetime.now(UTC) - timedelta(seconds=WEEK_S))
        body = {"stream_name": AUDIT, "config": config, "action": "create"}
        try:
            await _call(link, f"CONSUMER.CREATE.{AUDIT}.{HERALD}", body)
        except ApiError as taken:
            if taken.code != CONSUMER_IN_USE:
                raise


async def queues(link: Link) -> list[Queue]:
    """Every queue that there is. Raises Unanswered, and ApiError where there is no log."""
    found: list[str] = []
    while True:
        page = await link.api(f"CONSUMER.NAMES.{JOBS}", {"offset": len(found)})
        found += page["consumers"] or []
        if len(found) >= int(page["total"]) or not page["consumers"]:
            return [queue for queue in map(Queue.parse, found) if queue]


async def _ensure_stream(link: Link, config: dict[str, Any]) -> None:
    name = config["name"]
    try:
        await _call(link, f"STREAM.CREATE.{name}", config)
    except ApiError as error:
        # Of a stream that is there, the room that it has reserved is asked for a second time.
        if error.code not in (NAME_IN_USE, NO_ROOM) or not await _update(link, config):
            raise


async def _update(link: Link, config: dict[str, Any]) -> bool:
    """Whether there is such a stream."""
    try:
        await _call(link, f"STREAM.UPDATE.{config['name']}", config)
    except ApiError as error:
        if error.code != NO_STREAM:
            raise
        return False
    return True


async def ensure_queue(link: Link, queue: Queue, *, ack_wait: float) -> None:
    """Make what serves a queue, if it is missing: it has in it whatever was handed off before, too.

    Raises NoMoreQueues.
    """
    config = queue_consumer(queue, ack_wait=ack_wait)
    body = {"stream_name": JOBS, "config": config, "action": ""}
    try:
        await _call(link, f"CONSUMER.CREATE.{JOBS}.{config['name']}.{config['filter_subject']}", body)
    except ApiError as error:
        if error.code == NO_MORE_CONSUMERS:
            raise NoMoreQueues(queue) from error
        raise


async def _call(link: Link, call: str, body: dict[str, Any]) -> None:
    await _patiently(partial(link.api, call, body, timeout=10), call)


async def _patiently(ask: Callable[[], Awaitable[T]], call: str) -> T:
    """What is answered, once somebody can: a cluster that has just started has no leader yet."""
    while True:
        try:
            return await ask()
        except Unanswered as error:
            reason = str(error)
        except ApiError as error:
            if error.code not in NOBODY_LEADS:
                raise
            reason = str(error)
        log.info("waiting for JetStream", extra={"action": "topology_wait", "call": call, "reason": reason})
        await asyncio.sleep(PAUSE_S)
