"""Two versions of a pipeline over one log: what began on one ends on it, and what nobody knows waits, in sight."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest

from actors import Job, Message, Pipeline, Stage, stage
from actors.clock import Clock
from actors.contracts.events import Completed, HandOff, Record
from actors.contracts.messages import Packed
from actors.contracts.retry import DELIVERIES
from actors.engines import Engine, Scripted
from actors.journal.append import MAX_MESSAGE
from actors.journal.topology import ensure
from actors.pipeline import Catalogue
from actors.runtime import ending
from actors.runtime.replica import load_pipelines
from actors.runtime.strangers import RENEWED_AT
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office
from tests.scribe import Scribe, an_origin
from tests.serving import served, settings_for, working
from tests.verify import kinds
from tests.workers import BACKSTOP_S, a_hand


class Order(Message):
    """What every version takes."""

    text: str


class Priced(Message):
    """What `price` gives in the first version."""

    text: str
    cents: int


class Quote(Message):
    """What `price_2` gives in the second."""

    text: str
    euros: float


class Sent(Message):
    """The answer of both."""

    text: str


@stage()
async def price(order: Order, job: Job) -> Priced:
    return Priced(text=f"{order.text} by the first", cents=100)


@stage()
async def send(priced: Priced, job: Job) -> Sent:
    return Sent(text=f"{priced.text}, {priced.cents} cents")


@stage()
async def price_2(order: Order, job: Job) -> Quote:
    return Quote(text=f"{order.text} by the second", euros=1.0)


@send.also
async def send_2(quote: Quote, job: Job) -> Sent:
    return Sent(text=f"{quote.text}, {quote.euros} euros")


orders_1 = Pipeline("orders", price, send)
orders = Pipeline("orders", price_2, send_2)

OLD, NEW = "tests.integration.test_versions:orders_1", "tests.integration.test_versions:orders"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "PAUSE_S", 0.05)


async def post(http: httpx.AsyncClient) -> str:
    accepted = await http.post("/v1/pipelines/orders/jobs", json={"input": {"text": "a mill"}})
    assert accepted.status_code == 202, accepted.text
    id: str = accepted.json()["id"]
    return id


async def answer(http: httpx.AsyncClient, id: str) -> str:
    async with asyncio.timeout(BACKSTOP_S):
        while (job := (await http.get(f"/v1/jobs/{id}")).json())["status"] in ("queued", "running"):
            pass
    assert job["status"] == "completed", job
    text: str = job["answer"]["text"]
    return text


def test_the_first_of_a_name_takes_new_jobs_and_the_others_finish_theirs() -> None:
    both = load_pipelines([NEW, OLD])
    assert dict(both) == {"orders": orders}
    assert both.versions("orders") == (orders, orders_1)
    assert both.of("orders", orders_1.version) is orders_1
    assert both.of("orders", "of another time") is orders, "a version that is gone is run by the newest, where it fits"
    assert both.of("mills", orders.version) is None
    assert set(both.stages) == {"price", "send", "price_2"}
    assert set(both.having("price").versions("orders")) == {orders_1}
    assert load_pipelines([NEW, NEW]).versions("orders") == (orders,)


@R1
async def test_a_job_stays_on_the_stages_it_began_with_while_a_new_version_takes_new_ones(
    servers: Servers, office: Office
) -> None:
    async with served(settings_for(servers).model_copy(update={"pipelines": (OLD,)})) as http:
        before = await post(http)
    both = settings_for(servers).model_copy(update={"pipelines": (NEW, OLD)})
    async with served(both) as http:
        after = await post(http)
        listed = next(p for p in (await http.get("/v1/pipelines")).json()["pipelines"] if p["name"] == "orders")
        assert (listed["version"], listed["finishing"]) == (orders.version, [orders_1.version])
        async with working(both, "price", "price_2", "send"):
            assert await answer(http, before) == "a mill by the first, 100 cents"
            assert await answer(http, after) == "a mill by the second, 1.0 euros"
        found = {s["stage"]: s for s in (await http.get("/v1/stages")).json()["stages"]}
        assert [found[name]["pipelines"] for name in ("price", "price_2", "send")] == [["orders"]] * 3


async def stages_of(http: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    return {s["stage"]: s for s in (await http.get("/v1/stages")).json()["stages"]}


@R1
async def test_a_job_whose_version_nobody_serves_waits_in_sight_and_goes_on_when_somebody_does(
    servers: Servers, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs no budget, however often a worker that does not know it is given it."""
    old = settings_for(servers).model_copy(update={"pipelines": (OLD,)})
    new = old.model_copy(update={"pipelines": (NEW,)})
    async with served(old) as http:
        async with working(old, "price"), asyncio.timeout(BACKSTOP_S):
            ids = [await post(http) for _ in range(3)]
            while await office.journal.reader.count("job.send.>") < 3:
                pass
        waits = await post(http)
    async with served(new) as http:
        with caplog.at_level(logging.WARNING):
            async with working(new, "send"), asyncio.timeout(BACKSTOP_S):
                while not (unknown := (await stages_of(http))["send"]["unknown"]) or unknown[0]["jobs"] < 3:
                    pass
                await office.ear.until(b"-NAK", times=3 * RENEWED_AT)
                while await office.journal.reader.count("job.send.>") < 6:
                    pass
        assert unknown == [{"pipeline": "orders", "version": orders_1.version, "jobs": 3}]
        said = [r for r in caplog.records if getattr(r, "action", "") == "version_unknown"]
        assert len(said) == 1, "one line for a version, not one for each job and time"
        assert vars(said[0])["version"] == orders_1.version
    async with served(old) as http, working(old, "price", "send"):
        for id in (*ids, waits):
            assert await answer(http, id) == "a mill by the first, 100 cents"
    for job in await logs(office, ids):
        assert not [event for event in kinds(job) if event in ("step.failed", "step.released")]
        assert len([r for r in job if isinstance(r.event, HandOff) and r.event.of]) >= 1
        assert isinstance(job[-1].event, Completed)


async def logs(office: Office, ids: list[str]) -> list[list[Record]]:
    return [await office.journal.reader.job("local", id) for id in ids]


def test_a_hand_off_is_made_anew_long_before_its_deliveries_are_used_up() -> None:
    assert RENEWED_AT <= DELIVERIES // 2


@R1
async def test_what_waits_for_a_stage_that_no_pipeline_has_is_shown_and_has_its_deadline(
    servers: Servers, office: Office
) -> None:
    old = settings_for(servers, deadline=2).model_copy(update={"pipelines": (OLD,)})
    new = settings_for(servers).model_copy(update={"pipelines": (NEW,)})
    async with served(old) as http:
        id = await post(http)
    async with served(new) as http:
        price = (await stages_of(http))["price"]
        assert (price["waiting"], price["pipelines"], price["replicas"]) == (1, [], [])
        assert "serve the version that has it" in price["note"]
        clock = Clock(new.model_copy(update={"data": servers.nodes[0].folder}))
        async with asyncio.timeout(BACKSTOP_S):
            while not await clock.round(office.journal):
                pass
        assert (await http.get(f"/v1/jobs/{id}")).json()["status"] == "aborted"


class Changed(Message):
    """Of the same name as what another version gives, and another thing."""

    text: str
    euros: float

    @classmethod
    def wire_name(cls) -> str:
        return "Priced"


def speaks(engine: Scripted) -> Stage:
    async def send(priced: Changed, job: Job, engine: Engine) -> Sent:
        return Sent(text=await job.speak(engine, priced.text))

    return stage(uses=engine)(send)


@R1
@pytest.mark.parametrize("renewed_at", [1, RENEWED_AT], ids=["made anew at once", "made anew later"])
async def test_a_message_that_this_version_reads_otherwise_is_not_claimed_again_and_again(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch, renewed_at: int
) -> None:
    """That it does not fit is only known once it was parsed, which needs a claim; after that the worker knows."""
    monkeypatch.setattr(ending, "RENEWED_AT", renewed_at)
    await ensure(office.journal.signals, ["send"], max_bytes=1 << 30, ack_wait=1.0)
    pipeline = Pipeline("orders", speaks(engine := Scripted(says="never")))
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(orders_1, Priced(text="x", cents=1), to="send")
        async with asyncio.timeout(BACKSTOP_S):
            while await office.journal.reader.count("job.send.>") < 2:
                pass
        seen = kinds(await office.log(job))
    assert seen[:4] == ["handoff", "step.started", "step.released", "handoff"]
    assert seen.count("step.started") == 1
    assert engine.pulse().steps == 0
    async with a_hand(servers, orders_1, send):
        end = (await office.outcome(job))[-1].event
    assert isinstance(end, Completed)


@R1
async def test_what_has_the_most_bytes_and_waits_for_its_version_is_made_anew(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "RENEWED_AT", 3)
    await ensure(office.journal.signals, ["send"], max_bytes=1 << 30, ack_wait=1.0)
    job = Scribe(office.journal.appender, origin=an_origin(pipeline="orders", version=orders_1.version))
    at = job.origin.created
    empty = job.event(HandOff, stage="send", origin=job.origin, message=Packed.of(Order(text="")), at=at)
    await job.hand_off("send", Order(text="x" * (MAX_MESSAGE - len(empty.encode()))), at=at)
    async with a_hand(servers, orders_1, send):
        seen = await office.until(job, lambda event: isinstance(event, HandOff) and event.of == 1)
    assert [event.kind for event in seen] == ["handoff", "handoff"]
    assert len((await office.log(job))[1].data) > MAX_MESSAGE


@R1
async def test_what_is_overdue_is_ended_and_not_made_anew(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "RENEWED_AT", 1)
    await ensure(office.journal.signals, ["send"], max_bytes=1 << 30, ack_wait=1.0)
    job = await office.post(orders_1, Order(text="a mill"), to="send", seconds=-1)
    async with a_hand(servers, orders_1, send):
        assert kinds(await office.outcome(job)) == ["handoff", "aborted"]


def test_stages_that_cannot_be_served_together_say_what_to_do() -> None:
    @stage()
    async def price(order: Order, job: Job) -> Sent: ...  # type: ignore[empty-body]

    with pytest.raises(Exception, match=r"two stages are called 'price'.*price_2.*@price.also"):
        Catalogue([orders_1, Pipeline("orders", price)])
    with pytest.raises(Exception, match=r"two pipelines are called 'orders'.*serve only the newer one"):
        Catalogue([orders_1, Pipeline("orders", *orders_1.stages)])
    assert list(Catalogue([orders, orders_1])) == ["orders"]
