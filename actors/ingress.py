"""The ingress: it takes jobs in over HTTP, and says how they are."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.contracts.events import Record
from actors.contracts.fold import fold_job
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.subjects import Lane, Subject, is_job
from actors.endpoints import Subscriptions
from actors.engines.smollm2 import NAME
from actors.history import History
from actors.http import reports
from actors.http.acceptance import Received, Reception
from actors.http.admission import Admission
from actors.http.audience import Audience
from actors.http.author import author
from actors.http.body import body_of, read_body
from actors.http.caller import Caller, Owned, caller_of
from actors.http.carrier import Carrier
from actors.http.door import behind_door
from actors.http.head import Head
from actors.http.keyring import Keyring
from actors.http.preference import preference_of
from actors.http.problem import UNKNOWN_PIPELINE, Refusal, answer_with_problems, unavailable, unknown_job
from actors.http.prompts import Prompts
from actors.http.quotas import Quotas
from actors.http.reference import document
from actors.http.submission import Form, key_of
from actors.http.validator import etag, headers_of, unchanged
from actors.http.waiting import Waiting, while_there
from actors.http.wishes import Cancelling
from actors.journal import Journal, Unanswered, Undecided
from actors.journal.connection import ApiError
from actors.journal.follow import Place
from actors.journal.hooks import Hooks
from actors.journal.journal import PatientJournal
from actors.journal.lag import Lag, stage_lag, stages_in_log
from actors.journal.later import Later
from actors.journal.mirror import Mirror
from actors.journal.room import check_storing
from actors.journal.shares import Shares
from actors.journal.topology import JOBS, ensure
from actors.listing import Listing
from actors.openai import OpenAI
from actors.pipeline import Catalogue, Stage
from actors.questions import Questions
from actors.review import Review
from actors.runtime.cancel import cancel
from actors.runtime.job_log import JobLog
from actors.runtime.lookout import decision_on
from actors.runtime.presence import Owners, workers_of
from actors.runtime.replica import load_pipelines
from actors.runtime.scaling import Decision
from actors.runtime.settings import Settings
from actors.runtime.writer import Clock, utc_now

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long a submission waits for a log that does not answer, before its client is told to come back."""

READ_PATIENCE_S = 1.0
READY_S = 1.0
_NOT_READY = (
    "Nothing can be stored: nats-server cannot be reached, or its disk is full. After that it stores nothing until "
    "it is started again: make room, and restart it. `headrace up` restarts its own."
)


def ingress(settings: Settings, *, now: Clock = utc_now, patience: float = PATIENCE_S) -> FastAPI:
    """The application, for the route `/`. It answers from the first moment, whether or not there is a nats-server.

    A submission waits `patience` seconds for a log that does not answer.
    """
    pipelines = load_pipelines(settings.pipelines)
    stages = list(pipelines.stages)

    async def prepare(journal: Journal) -> None:
        # The consumers too: a stage without a worker has its lag, and it is what scales that stage from zero.
        await ensure(
            journal.signals,
            stages,
            replicas=settings.nats_replicas,
            max_bytes=settings.max_bytes,
            audit_max_bytes=settings.audit_max_bytes,
            ack_wait=settings.ack_wait,
        )

    log = PatientJournal(settings.nats_urls, f"api-{secrets.token_hex(4)}", prepare)
    carrier = Carrier()
    admission = Admission(pipelines.values(), max_jobs=settings.max_jobs, max_backlog=settings.max_backlog)
    limits = Mirror(LIMITS, Limits)
    quotas, shares = Quotas(limits, stages), Shares(limits, ack_wait=settings.ack_wait)
    reception = Reception(
        log,
        admission,
        quotas,
        shares,
        deadline=settings.deadline,
        max_deadline=settings.max_deadline,
        patience=patience,
        now=now,
    )
    keyring = Keyring(is_loopback=settings.is_loopback, now=now)
    waiting, listing = Waiting(), Listing(log, settings.data)
    actor = Ingress(
        log, keyring, pipelines, carrier, admission, reception, waiting, listing, patience=patience, now=now
    )
    questions = Questions(log, carrier, patience=patience, now=now)
    review = Review(log, pipelines, carrier, patience=patience, now=now)
    openai = OpenAI(
        log,
        pipelines.values(),
        _model(settings),
        carrier,
        reception,
        waiting,
        Prompts(settings),
        Audience(limits),
        now=now,
    )
    allow_http = bool(settings.egress_allow)
    subscriptions = Subscriptions(log, carrier, allow_http=allow_http, patience=patience, now=now)
    forms = [Form(p, max_deadline=settings.max_deadline, allow_http=allow_http) for p in pipelines.values()]
    app = FastAPI(title="Headrace", redoc_url=None, redirect_slashes=False, lifespan=actor.running)
    app.openapi_schema = document(forms)
    app.router.routes.extend(
        [
            *(
                Route(f"/v1/pipelines/{f.pipeline.name}/jobs", partial(actor.submit, f), methods=["POST"])
                for f in forms
            ),
            Route("/v1/pipelines/{pipeline}/jobs", actor.unknown_pipeline, methods=["POST"]),
            Route("/v1/pipelines", actor.pipelines),
            *listing.routes,
            Route("/v1/jobs/{id}", actor.job),
            Route("/v1/jobs/{id}/cancel", actor.cancel, methods=["POST"]),
            *History(log).routes,
            *questions.routes,
            *review.routes,
            *subscriptions.routes,
            *openai.routes,
            Route("/v1/stages", actor.stages),
            Route("/healthz", actor.healthz),
            Route("/readyz", actor.readyz),
        ]
    )
    behind_door(app, keyring, settings.origins, openai.words)
    answer_with_problems(app)
    app.add_middleware(Head)
    return app


class Ingress:
    """Validates, appends and answers. It holds nothing of a job: any replica answers for any job."""

    def __init__(
        self,
        log: PatientJournal,
        keyring: Keyring,
        pipelines: Catalogue,
        carrier: Carrier,
        admission: Admission,
        reception: Reception,
        waiting: Waiting,
        listing: Listing,
        *,
        patience: float,
        now: Clock,
    ) -> None:
        self._log = log
        self._keyring = keyring
        self._pipelines = pipelines
        self._reception = reception
        self._waiting = waiting
        self._listing = listing
        self._patience = patience
        self._now = now
        self._carrier = carrier
        self._admission = admission

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """The lifespan of the application; what is being stored when it ends is stored first."""
        async with (
            self._log,
            self._keyring.following(self._log),
            self._admission.looking(self._log),
            self._reception.hearing(),
            self._listing.kept(),
        ):
            yield
            await self._carrier.finish()

    async def submit(self, form: Form, request: Request) -> Response:
        """Store a job: 202 once it is on disk, 200 for one that was stored under the same key.

        Where the request prefers to wait, 200 says that the job has its outcome, and 202 that it has not yet.
        """
        key, preference = key_of(request), preference_of(request)
        asked = form.read(await body_of(request))
        tenant = caller_of(request).tenant
        storing = self._reception.receive(tenant, form.pipeline, asked, key, author(request))
        received = await self._carrier.carry(storing)
        headers = {"Location": f"/v1/jobs/{received.job}", "Idempotency-Key": key, **received.headers}
        known = _report(received.job, received.known)
        if known:
            headers["Idempotent-Replay"] = "true"
        if preference.wait is None:
            return _json(known or _accepted(received), 200 if known else 202, headers)
        job = Owned(tenant, received.job)
        report = await while_there(request, self._ended(job, known or _accepted(received), preference.wait))
        return _json(report, 200 if _has_ended(report) else 202, headers | preference.headers)

    async def unknown_pipeline(self, request: Request) -> Response:
        raise Refusal(
            UNKNOWN_PIPELINE,
            f"There is no pipeline {request.path_params['pipeline'][:64]!r}; use one of: {', '.join(self._pipelines)}.",
            known=list(self._pipelines),
        )

    async def job(self, request: Request) -> Response:
        """A job as it stands; once it has its outcome, where the request prefers to wait for that; 304 for who has it.

        Waiting is reading on where the log was read to: nothing is asked for again and again.
        """
        id, preference = request.path_params["id"], preference_of(request)
        if not is_job(id):
            raise unknown_job(id)
        journal = await self._log.connected(READ_PATIENCE_S)
        job = Owned(await caller_of(request).owner(journal.reader, id), id)
        records = await _read(journal, job)
        if (state := fold_job(records)) is None:
            raise unknown_job(id)
        if preference.wait and state.outcome is None:
            seen = Place(state.chain.n, state.chain.seq)
            if await while_there(request, self._waiting.outcome(journal, job, preference.wait, after=seen)):
                records = await _read_all(journal, job)
        if (state := fold_job(records)) is None:
            raise unknown_job(id)
        tag = etag(state.chain)
        headers = headers_of(tag) | preference.headers
        return unchanged(request, headers) or _json(reports.job(id, _lane(records), state), headers=headers)

    async def cancel(self, request: Request) -> Response:
        """Stop a job: 200 with its outcome, or 202 once its worker was asked to end it."""
        id = request.path_params["id"]
        if not is_job(id):
            raise unknown_job(id)
        wish = read_body(Cancelling, await body_of(request, optional=True))
        return await self._carrier.carry(self._cancel(caller_of(request), id, wish.reason, author(request)))

    async def pipelines(self, _: Request) -> Response:
        """The pipelines that take jobs."""
        served = self._pipelines
        return _json({"pipelines": [reports.pipeline(p, served.versions(name)) for name, p in served.items()]})

    async def stages(self, request: Request) -> Response:
        """Every stage: its lag, the workers that answer, what was decided on their number; and how full the log is."""
        caller_of(request).must_operate()
        journal = await self._log.connected(READ_PATIENCE_S)
        stages = self._pipelines.stages
        lags, workers, decisions = await asyncio.gather(
            asyncio.gather(*(stage_lag(journal.signals, journal.reader, stage) for stage in stages)),
            asyncio.gather(*(workers_of(journal.signals, stage) for stage in stages)),
            asyncio.gather(*(_decision(journal, stage) for stage in stages.values())),
        )
        told = zip(stages.values(), lags, workers, decisions, strict=True)
        now = self._now()
        shown = [reports.stage(s, self._homes(s), lag, here, decided, now=now) for s, lag, here, decided in told]
        shown += [reports.unserved(name, lag, now=now) for name, lag in (await _unserved(journal, stages)).items()]
        room, webhooks = await asyncio.gather(self._admission.room(journal, lags), _webhooks(journal))
        return _json({"stages": shown, "room": reports.room(room), "webhooks": webhooks})

    def _homes(self, stage: Stage) -> list[str]:
        return list(self._pipelines.having(stage.name))

    async def healthz(self, _: Request) -> Response:
        """This process answers."""
        return _json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """A job can be stored. It says nothing about engines: jobs wait for those."""
        journal = await self._log.opened(0)
        try:
            await journal.appends.api(f"STREAM.INFO.{JOBS}", timeout=READY_S)
            await check_storing(journal, timeout=READY_S)
        except ApiError as error:
            raise unavailable(error, "The log is not there; it is made when this process starts.") from error
        except Unanswered as error:
            raise unavailable(error, _NOT_READY) from error
        return _json({"status": "ready"})

    async def _cancel(self, caller: Caller, id: str, reason: str | None, by: str) -> Response:
        try:
            async with asyncio.timeout(self._patience):
                journal = await self._log.opened(self._patience)
                tenant = await caller.owner(journal.reader, id)
                log = JobLog(journal, tenant, id, by=by, now=self._now)
                await log.read()
                await cancel(log, Owners(journal.signals), reason)
                if log.state and log.state.outcome and (noted := await Later(journal.signals).noted(tenant, id)):
                    await Later(journal.signals).strike_out(noted)
        except TimeoutError:
            raise Undecided("the job's log did not answer in time") from None
        if (report := _report(id, log.records)) is None:
            raise unknown_job(id)
        return _json(report, 202 if report["cancelling"] else 200)

    async def _ended(self, job: Owned, known: reports.Report, within: float) -> reports.Report:
        """The job once it has its outcome; what is `known`, or newer, when that takes longer. It is stored already."""
        if _has_ended(known):
            return known
        try:
            journal = await self._log.connected(READ_PATIENCE_S)
            if await self._waiting.outcome(journal, job, within):
                return _report(job.job, await _read_all(journal, job)) or known
        except Unanswered as error:
            log.info("a wait was cut short", extra={"action": "wait_cut", "job": job.job, "reason": str(error)})
        return known


async def _read(journal: Journal, job: Owned) -> list[Record]:
    """A job's messages. A replica that lags may not know it yet, so nothing is only believed of the leader."""
    return await journal.reader.job(*job) or await _read_all(journal, job)


async def _read_all(journal: Journal, job: Owned) -> list[Record]:
    """A job's messages as the leader knows them."""
    last = await journal.reader.last(*job)
    return await journal.reader.job(*job, at_least=last.seq) if last else []


async def _unserved(journal: Journal, served: Iterable[str]) -> dict[str, list[Lag]]:
    """The lags of stages that no pipeline here has any more, where something still waits for one that does."""
    names = set(await stages_in_log(journal.signals)) - set(served)
    lags = {name: await stage_lag(journal.signals, journal.reader, name) for name in sorted(names)}
    return {name: lag for name, lag in lags.items() if any(lane.waiting or lane.running for lane in lag)}


async def _webhooks(journal: Journal) -> reports.Report:
    hooks = Hooks(journal.signals)
    behind, waiting = await asyncio.gather(hooks.behind(), hooks.waiting())
    return {"behind": behind, "waiting": waiting}


async def _decision(journal: Journal, stage: Stage) -> Decision | None:
    return None if isinstance(stage.replicas, int) else await decision_on(journal.signals, stage.name)


def _model(settings: Settings) -> str:
    """What the language model is called: a folder by its own name, one on the hub as it is there."""
    model = settings.model or NAME
    return Path(model).name if Path(model).is_dir() else model


def _report(job: str, records: list[Record]) -> reports.Report | None:
    state = fold_job(records)
    return reports.job(job, _lane(records), state) if state else None


def _lane(records: list[Record]) -> Lane:
    return Subject.parse(records[0].subject).lane


def _accepted(received: Received) -> reports.Report:
    report = reports.accepted(received.job, received.lane, received.origin)
    return report | ({"waits_until": received.start_at} if received.start_at else {})


def _has_ended(report: reports.Report) -> bool:
    return report["status"] not in ("queued", "running", "input_required")


def _json(report: reports.Report, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(report), status, headers, "application/json")
