"""The faults of a run. Each happens for real, and each is proven to have happened before it counts."""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, get_args

from actors.journal.disk import stopped_storing
from actors.journal.server_process import ask
from actors.journal.topology import JOBS
from tests.chaos.crew import ACK_WAIT_S, Crew, Member
from tests.chaos.history import Pen
from tests.chaos.machine import Machine, Need
from tests.chaos.tampering import Tampering
from tests.chaos.wire import Cut
from tests.lossy import Relay
from tests.nats_servers import Servers

PAST_THE_LEASE_S = 1.5 * ACK_WAIT_S
PROOF_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True)
class Scene:
    """What there is to break. `relay` lies between the server and the workers that are far away.

    The machine's `wire`, if it has one, is all that joins the worker in another network to it.
    """

    servers: Servers
    crew: Crew
    relay: Relay
    machine: Machine
    rng: Random
    pen: Pen

    def one_of(self, *roles: str) -> Member:
        return self.rng.choice(self.crew.of(*roles))


class Fault(ABC):
    """Something that goes wrong, is proven, and is over. Raises when it cannot be proven."""

    name: ClassVar[str]
    replicas: ClassVar[Sequence[int]] = (1, 3)
    """On how many servers it makes sense."""
    needs: ClassVar[Need | None] = None
    """What not every machine lets us have."""

    async def happen(self, scene: Scene) -> None:
        scene.pen.note("fault", name=self.name)
        async with asyncio.timeout(PROOF_S):
            proof = await self.strike(scene)
        scene.pen.note("fault.proven", name=self.name, proof=proof)

    @abstractmethod
    async def strike(self, scene: Scene) -> str:
        """Do it, wait until it is over, and say what proves it. Raises AssertionError when nothing does."""


async def _replaced(member: Member, pid: int) -> None:
    while member.pid == pid:  # noqa: ASYNC110  # what replaces it polls, too
        await asyncio.sleep(POLL_S)


async def _killed(member: Member, what: signal.Signals = signal.SIGKILL, by: signal.Signals = signal.SIGKILL) -> str:
    process, pid = member.process, member.pid
    member.send(what)
    await _replaced(member, pid)
    assert process.exitcode == -by, f"{member.post.name} ended with {process.exitcode}"
    return f"{member.post.name} ({pid}) was ended by {by.name}, and {member.pid} has its place"


class KillWorker(Fault):
    name = "a worker killed"

    async def strike(self, scene: Scene) -> str:
        return await _killed(scene.one_of("fetch", "fetch", "deliver"))


class KillEveryWorker(Fault):
    name = "every worker killed at once"

    async def strike(self, scene: Scene) -> str:
        return "; ".join(await asyncio.gather(*(_killed(each) for each in scene.crew.of("fetch", "deliver"))))


class PauseWorker(Fault):
    name = "a worker stopped past its lease"

    async def strike(self, scene: Scene) -> str:
        member = scene.one_of("fetch", "deliver")
        pid = member.pid
        member.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(PAST_THE_LEASE_S)
            assert member.pid == pid, "it was replaced while it was stopped"
            assert member.is_stopped
        finally:
            member.send(signal.SIGCONT)
        return f"{member.post.name} ({pid}) was held for {PAST_THE_LEASE_S:g} s"


class HangEngine(Fault):
    name = "an engine that hangs"

    async def strike(self, scene: Scene) -> str:
        return await _killed(scene.one_of("fetch"), signal.SIGUSR1)


class DrainWorker(Fault):
    name = "a worker told to stop"

    async def strike(self, scene: Scene) -> str:
        member = scene.one_of("fetch", "deliver")
        process, pid = member.process, member.pid
        member.send(signal.SIGTERM)
        await _replaced(member, pid)
        assert process.exitcode == 0, f"{member.post.name} ended with {process.exitcode}"
        return f"{member.post.name} ({pid}) drained and ended well"


class StarveWorker(Fault):
    name = "a worker out of memory"

    async def strike(self, scene: Scene) -> str:
        return await _killed(scene.one_of("fetch", "deliver"), signal.SIGUSR2, by=signal.SIGABRT)


class CutWire(Fault):
    name = "the packets lost between a worker and the server"
    needs = "wire"

    async def strike(self, scene: Scene) -> str:
        assert scene.machine.wire, "there is no wire"
        what = scene.rng.choice(get_args(Cut))
        async with scene.machine.wire.cut(what) as lost:
            await asyncio.sleep(PAST_THE_LEASE_S)
        assert lost, "nothing was cut"
        assert all(lost), f"packets lost ({what}): {lost}"
        return f"packets lost ({what}): {lost}"


class CutNetwork(Fault):
    name = "the network cut between a worker and the server"

    async def strike(self, scene: Scene) -> str:
        held = scene.relay.held
        scene.relay.part()
        try:
            await asyncio.sleep(PAST_THE_LEASE_S)
        finally:
            scene.relay.heal()
        assert scene.relay.held > held, "nothing had to wait"
        return f"{scene.relay.held - held} connections had something that waited {PAST_THE_LEASE_S:g} s"


class KillFront(Fault):
    name = "ingress and result actor killed"

    async def strike(self, scene: Scene) -> str:
        return await _killed(scene.one_of("front"))


class KillClock(Fault):
    name = "the clock killed"

    async def strike(self, scene: Scene) -> str:
        return await _killed(scene.one_of("clock"))


class KillWebhooks(Fault):
    name = "the actor of webhooks killed"

    async def strike(self, scene: Scene) -> str:
        return await _killed(scene.one_of("webhooks"))


class KillServer(Fault):
    name = "a server killed"

    async def strike(self, scene: Scene) -> str:
        at = scene.rng.randrange(scene.servers.replicas)
        return await _restarted(scene.servers, at)


class KillLeader(Fault):
    name = "the server that leads the log killed"
    replicas = (3,)

    async def strike(self, scene: Scene) -> str:
        return await _restarted(scene.servers, await scene.servers.leader_of(JOBS))


class FreezeServer(Fault):
    name = "a server stopped for a while"

    async def strike(self, scene: Scene) -> str:
        at = scene.rng.randrange(scene.servers.replicas)
        scene.servers.freeze(at)
        try:
            await asyncio.sleep(scene.rng.choice([0.5, PAST_THE_LEASE_S]))
        finally:
            scene.servers.thaw(at)
        return f"server {at} did nothing"


class SlowDisk(Fault):
    name = "a server's disk slow to sync"
    needs = "strace"

    async def strike(self, scene: Scene) -> str:
        at, delay = scene.rng.randrange(scene.servers.replicas), scene.rng.choice([20, 100, 500])
        async with Tampering(scene.servers.nodes[at].pid, "fsync", f"delay_enter={delay * 1_000}") as slow:
            await asyncio.sleep(PAST_THE_LEASE_S)
            await slow.hit.wait()  # nothing may have come to be stored, while an election went on
        return f"{slow.hits} syncs of server {at} took {delay} ms longer"


class FullDisk(Fault):
    name = "a server's disk full"
    needs = "strace"

    async def strike(self, scene: Scene) -> str:
        at = scene.rng.randrange(scene.servers.replicas)
        node = scene.servers.nodes[at]
        async with Tampering(node.pid, "pwrite64", "error=ENOSPC") as full:
            while not (why := await stopped_storing(node.identity)):  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(POLL_S)
            await asyncio.sleep(scene.rng.uniform(0.0, ACK_WAIT_S))
            assert full.hit.is_set(), "it could write everything"
        await scene.servers.stop(at)  # as the embedded server's supervisor does it once there is room
        await scene.servers.start(at)
        return f"server {at} could not write {full.hits} times, said {why!r}, and began again"


async def _restarted(servers: Servers, at: int) -> str:
    before = await _identity(servers, at)
    await servers.kill(at)
    await servers.start(at)
    after = await _identity(servers, at)
    assert after != before
    return f"server {at} began at {before}, and again at {after}"


async def _identity(servers: Servers, at: int) -> str:
    return str((await ask(servers.nodes[at].identity, "/varz"))["start"])


FAULTS: tuple[type[Fault], ...] = (
    KillWorker,
    PauseWorker,
    KillServer,
    CutNetwork,
    HangEngine,
    DrainWorker,
    KillFront,
    KillClock,
    KillWebhooks,
    KillLeader,
    FreezeServer,
    KillEveryWorker,
    StarveWorker,
    CutWire,
    SlowDisk,
    FullDisk,
)


class Impossible(Exception):
    """A fault that was asked for by name cannot happen here."""


def faults_for(replicas: int, machine: Machine, asked: Collection[str] = ()) -> list[Fault]:
    """Those that make sense on so many servers, or of these the ones that are asked for by name.

    Faults that this machine cannot have are told of and left out. Raises Impossible for one that was asked for.
    """
    if unknown := set(asked) - {fault.name for fault in FAULTS}:
        known = "\n  ".join(fault.name for fault in FAULTS)
        raise Impossible(f"there is no fault {', '.join(map(repr, unknown))}; there are:\n  {known}")
    wanted = [fault for fault in FAULTS if replicas in fault.replicas and (not asked or fault.name in asked)]
    possible = [fault() for fault in wanted if fault.needs not in machine.lacks]
    for need, why in machine.lacks.items():
        if names := ", ".join(fault.name for fault in wanted if fault.needs == need):
            told = f"not on this machine: {names} ({why})"
            if asked:
                raise Impossible(told)
            print(told)
    return possible


async def misfortune(scene: Scene, seconds: float, ongoing: Sequence[Fault]) -> None:
    """Let faults happen for so long, each as often as the others and at least once, now and then two together."""
    clock = asyncio.get_running_loop().time
    ends, deck = clock() + seconds, list(ongoing)
    scene.rng.shuffle(deck)
    dealt = 0
    while dealt < len(ongoing) or clock() < ends:
        if not deck:
            deck = list(ongoing)
            scene.rng.shuffle(deck)
        hand = [deck.pop()]
        if deck and scene.rng.random() < 0.25 and not _same_target(hand[0], deck[-1]):
            hand.append(deck.pop())
        dealt += len(hand)
        await asyncio.gather(*(fault.happen(scene) for fault in hand))
        await asyncio.sleep(scene.rng.uniform(0.2, 1.5))


def _same_target(one: Fault, other: Fault) -> bool:
    """Whether the two may meet in one process or connection, where neither could be proven any more."""
    workers = (KillWorker, KillEveryWorker, PauseWorker, HangEngine, DrainWorker, StarveWorker, CutWire)
    servers = (KillServer, KillLeader, FreezeServer, CutNetwork, CutWire, SlowDisk, FullDisk)
    return any(isinstance(one, group) and isinstance(other, group) for group in (workers, servers))
