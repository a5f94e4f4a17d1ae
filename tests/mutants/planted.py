"""The mutants: bugs to be planted in the code, each with the test that must catch it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: in `file`, `old` becomes `new`. `old` stands there exactly once, and `test` must fail then."""

    name: str
    file: str
    old: str
    new: str
    test: str


WORKER = "tests/integration/test_worker"
WEBHOOKS = "tests/integration/test_webhooks.py"
TWO_WORKERS = f"{WORKER}_crashes.py::test_two_workers_given_one_delivery_ask_and_the_second_lets_go[write-r1]"

MUTANTS = (
    Mutant(
        "ack before append",
        "actors/runtime/ending.py",
        """        try:
            await self._writer.end(build)
        except TooLarge as error:
            raise _too_large(f"the output""",
        """        try:
            await self._ack()
            await self._writer.end(build)
        except TooLarge as error:
            raise _too_large(f"the output""",
        f"{WORKER}.py::test_nothing_is_acked_before_the_log_proves_it_done[r1]",
    ),
    Mutant(
        "no expected sequence",
        "actors/journal/append.py",
        """        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(expect),
            "Nats-Expected-Last-Subject-Sequence-Subject": address.filter,
        }""",
        "        headers: dict[str, str] = {}",
        "tests/integration/test_append.py::test_the_first_append_of_a_job_creates_it_and_the_second_is_refused[r1]",
    ),
    Mutant(
        "another filter string for text (only a cluster shows it)",
        "actors/journal/append.py",
        """Sequence-Subject": address.filter,""",
        """Sequence-Subject": address.filter.replace("*.*.*", f"*.*.{address.lane}" if kind == "text" else "*.*.*"),""",
        "tests/integration/test_append.py::test_of_racing_appends_to_a_job_never_both_are_stored[r3]",
    ),
    Mutant(
        "an outcome without compare",
        "actors/journal/append.py",
        """        waited = ""
""",
        """        waited = ""
        if topic == "done":
            headers.clear()
""",
        "tests/integration/test_cancel.py::test_of_two_who_have_decided_to_end_a_job_one_does[r1]",
    ),
    Mutant(
        "an append without an answer counts as stored",
        "actors/journal/append.py",
        "                        waited = str(error)",
        "                        return expect + 1",
        "tests/integration/test_append.py::test_without_a_connection_an_append_ends_undecided_and_is_not_stored_later",
    ),
    Mutant(
        "a cancel is not compared with what it was decided on",
        "actors/runtime/job_log.py",
        "        ttl = FOR_EVER if keep else None",
        """        ttl = FOR_EVER if keep else None
        newest = await self._journal.reader.last(self._tenant, self.job)
        chain = Chain(newest.seq if newest else 0, chain.n, chain.prev)""",
        "tests/integration/test_cancel.py"
        "::test_a_cancel_that_was_decided_before_the_job_ended_is_not_stored_after_it[r1]",
    ),
    Mutant(
        "a claim is not compared with what was read",
        "actors/runtime/writer.py",
        "        self._pen.reached(before)\n",
        """        self._pen.reached(before)
        if claiming and (newest := await self._pen.reader.last(self.address.tenant, self.address.job)):
            self._chain = replace(self._chain, seq=newest.seq)
""",
        f"{WORKER}_endings.py::test_a_job_cancelled_in_the_queue_gets_no_inference[r1]",
    ),
    Mutant(
        "inference before step.started is stored",
        "actors/runtime/step.py",
        "            await self._writer.ensure_claimed()",
        "            self._claiming = asyncio.ensure_future(self._writer.ensure_claimed())",
        f"{WORKER}.py::test_no_inference_begins_before_its_start_is_stored[r1]",
    ),
    Mutant(
        "a stored output is run again",
        "actors/runtime/rules.py",
        "    if state is None or state.closed:",
        "    if state is None:",
        f"{WORKER}_crashes.py::test_a_crash_after_the_output_is_stored_runs_nothing_again[r1]",
    ),
    Mutant(
        "an ack by a fenced worker",
        "actors/runtime/ending.py",
        "                pass  # an append, an ack or a nak would act on my successor's lease",
        "                await self._ack()",
        TWO_WORKERS,
    ),
    Mutant(
        "a takeover without asking the owner",
        "actors/runtime/writer.py",
        """            case True:
                return False""",
        """            case True:
                return True""",
        TWO_WORKERS,
    ),
    Mutant(
        "a silent owner counts as gone at once",
        "actors/runtime/writer.py",
        "        return quiet.total_seconds() >= self._pen.ack_wait / 2",
        "        return quiet.total_seconds() >= 0",
        f"{WORKER}_ownership.py::test_a_silent_owner_keeps_its_claim_while_its_newest_event_is_new[new-r1]",
    ),
    Mutant(
        "a heartbeat from a timer although the engine hangs",
        "actors/runtime/worker.py",
        "                continue  # the lease must run out: somebody else can do this",
        "                pass",
        f"{WORKER}_crashes.py::test_the_lease_of_a_step_whose_engine_hangs_runs_out[r1]",
    ),
    Mutant(
        "a resume by text instead of token ids",
        "actors/runtime/speech.py",
        "    said, shown = writer.said, writer.shown",
        "    said, shown = tuple(engine.encode(writer.shown)) if writer.shown else (), writer.shown",
        f"{WORKER}_pieces.py::test_a_resume_gives_the_engine_the_stored_token_ids_and_never_text[r1]",
    ),
    Mutant(
        ">= for > in a reader's resume",
        "actors/journal/follow.py",
        "            if event.n < expected:",
        "            if event.n < expected - 1:",
        "tests/integration/test_read_follow.py::test_a_reader_resumes_at_every_number_with_and_without_a_sequence[r1]",
    ),
    Mutant(
        "a crash is counted on a hand-back",
        "actors/contracts/fold.py",
        """            case StepReleased():
                self._open[event.claim] = False
""",
        """            case StepReleased():
""",
        "tests/unit/contracts/test_fold.py::test_attempts_pair_with_their_verdicts_by_claim",
    ),
    Mutant(
        "max_deliver is set",
        "actors/journal/topology.py",
        '        "ack_wait": int(ack_wait * NS),\n        "max_deliver": -1,',
        '        "ack_wait": int(ack_wait * NS),\n        "max_deliver": 2,',
        f"{WORKER}_failures.py::test_failures_use_up_their_budget_and_the_last_is_the_dead_letter[write-r1]",
    ),
    Mutant(
        "text expires before its job",
        "actors/runtime/writer.py",
        "int((event.origin.deadline + TEXT_OUTLIVES - pen.now()).total_seconds())",
        "1_800",
        f"{WORKER}.py::test_text_is_kept_for_a_day_past_its_jobs_deadline[r1]",
    ),
    Mutant(
        "suspects are not kept apart",
        "actors/runtime/step.py",
        "        return state.crashes if state else 0",
        "        return 0",
        "tests/integration/test_crash_points.py::test_sixty_three_jobs_live_beside_one_that_kills_its_worker",
    ),
    Mutant(
        "a delay is never given out again",
        "actors/runtime/ending.py",
        "        if delay > LONGEST_NAK_S and await self._put_off(until):",
        "        if delay > LONGEST_NAK_S:",
        "tests/integration/test_delays.py"
        "::test_a_step_that_is_put_off_holds_no_place_and_goes_on_from_what_it_said[r1]",
    ),
    Mutant(
        "a step given out again begins anew",
        "actors/runtime/again.py",
        "            of=before.first_n,\n",
        "",
        "tests/integration/test_repair.py::test_a_lost_job_is_given_out_again_once[r1]",
    ),
    Mutant(
        "a question does not close its hand-off",
        "actors/contracts/fold.py",
        "            self._closed = isinstance(event, InputRequired) and record.seq > self._seq\n",
        "",
        "tests/unit/contracts/test_fold.py::test_a_step_that_asks_is_nobodys_and_has_cost_no_budget",
    ),
    Mutant(
        "an answer is taken for whatever is asked now",
        "actors/runtime/answer.py",
        "    if state.question and state.question.n == question:",
        "    if state.question:",
        "tests/integration/test_asking.py::test_an_answer_is_checked_taken_once_and_never_for_another_question[r1]",
    ),
    Mutant(
        "a repair forgets a cancel",
        "actors/repair.py",
        "            if step.cancel:  # only an outcome may follow that",
        "            if step.cancel and not step.open:",
        "tests/integration/test_repair.py"
        "::test_a_lost_job_that_is_to_be_cancelled_gets_that_outcome_and_is_not_given_out[r1]",
    ),
    Mutant(
        "a job is left to an owner that is gone after cancel.requested",
        "actors/runtime/cancel.py",
        "await owners.look(owner.worker, owner.claim) is not False:",
        "await owners.look(owner.worker, owner.claim) is not True:",
        "tests/integration/test_cancel.py::test_a_job_whose_worker_is_gone_is_cancelled_at_once[r1]",
    ),
    Mutant(
        "an Idempotency-Key is not compared with the input",
        "actors/http/submission.py",
        '            "input": said,\n',
        "",
        "tests/integration/test_http.py::test_the_same_key_and_body_are_the_same_job_and_another_body_is_refused",
    ),
    Mutant(
        "an Idempotency-Key belongs to no tenant",
        "actors/contracts/subjects.py",
        'f"{tenant}\\0{key}"',
        'f"{key}"',
        "tests/unit/contracts/test_subjects.py::test_tenants_with_the_same_key_have_jobs_of_their_own",
    ),
    Mutant(
        "a redrive has a new id every time",
        "actors/contracts/subjects.py",
        'f"{job}\\nredrive\\n{number}"',
        'f"{job}\\nredrive\\n{secrets.token_hex(8)}"',
        "tests/integration/test_review.py::test_two_people_who_redrive_at_once_make_one_job[r1]",
    ),
    Mutant(
        "the chain's prev is not checked",
        "actors/audit/chain.py",
        "        elif link.prev != before.digest and link.n == before.n + 1:",
        "        elif link.n == before.n + 1:\n            continue\n        elif not before.digest:",
        "tests/unit/audit/test_chain.py::test_an_altered_fact_is_found_by_the_one_after_it",
    ),
    Mutant(
        "a tenant is owed for the time in which it had nothing waiting",
        "actors/journal/turns.py",
        "        return max(self._now, self._free_at.get(share, 0.0))",
        "        return self._free_at.get(share, 0.0)",
        "tests/unit/journal/test_turns.py::test_one_that_had_nothing_waiting_goes_next_and_is_owed_no_more_than_that",
    ),
    Mutant(
        "tenants are started without regard to their weights",
        "actors/journal/turns.py",
        "start + jobs / self._weight(share)",
        "start + jobs",
        "tests/integration/test_shares.py::test_tenants_with_a_backlog_are_started_in_proportion_to_their_weights[r1]",
    ),
    Mutant(
        "a lane that is passed over gets no turn",
        "actors/journal/pull.py",
        "        due = [lane for lane in self._lanes if self._passed[lane] >= LANE_TURN - 1]",
        "        due = list[Lane]()",
        "tests/integration/test_shares.py::test_no_lane_is_starved_by_those_that_go_first[r1]",
    ),
    Mutant(
        "an outcome is acknowledged before its deliveries are stored",
        "actors/herald.py",
        """                left = await self._tell_all(journal, replicas, [record for record, _ in batch if record])
""",
        """                told = [record for record, _ in batch if record]
                while batch:
                    await outcomes.done(batch.pop()[1])
                left = await self._tell_all(journal, replicas, told)
""",
        f"{WEBHOOKS}::test_what_an_actor_that_died_had_no_room_for_is_told_by_the_next",
    ),
    Mutant(
        "what became of a delivery is stored over whatever is there",
        "actors/journal/hooks.py",
        "        return await self._put(known, delivery)",
        """        newest = await self.get(*known.key)
        return await self._put(newest or known, delivery)""",
        f"{WEBHOOKS}::test_what_is_replayed_while_it_is_on_its_way_is_sent_once_more",
    ),
    Mutant(
        "every attempt has a webhook-id of its own",
        "actors/postman.py",
        """            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": secrets.sign(delivery.id, delivery.body, now),
""",
        """            "webhook-id": (id := f"{delivery.id}{len(delivery.attempts)}"),
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": secrets.sign(id, delivery.body, now),
""",
        f"{WEBHOOKS}::test_what_is_not_taken_is_tried_again_by_whoever_is_there_then_under_the_same_id",
    ),
    Mutant(
        "an answer that is no 2xx counts as taken",
        "actors/contracts/delivery.py",
        "        return self.status is not None and 200 <= self.status < 300",
        "        return self.status is not None and 200 <= self.status < 400",
        "tests/unit/contracts/test_delivery.py::test_only_2xx_is_a_success",
    ),
    Mutant(
        "a secret that was rotated away signs no more",
        "actors/contracts/webhook.py",
        "for one in self.each if one.until is None or one.until > now)",
        "for one in self.each if one.until is None)",
        f"{WEBHOOKS}::test_after_a_rotation_both_secrets_verify_until_the_old_one_ends",
    ),
    Mutant(
        "a name's addresses are looked at, and the name is connected to",
        "actors/http/egress.py",
        "        [*others, last] = await self._addresses(host, port)",
        "        others, last = [await self._addresses(host, port)][:0], host",
        "tests/unit/http/test_egress.py::test_the_address_that_was_looked_at_is_the_one_that_is_connected_to",
    ),
    Mutant(
        "410 disables no endpoint",
        "actors/postman.py",
        "            if delivery.url is not None or await _patiently(disable):",
        "            if delivery.url is not None or disable:",
        f"{WEBHOOKS}::test_an_endpoint_that_is_gone_is_disabled_and_nothing_more_is_sent_to_it",
    ),
    Mutant(
        "there is always room for more of a tenant's deliveries",
        "actors/postman.py",
        "        return len(self._newest.get(tenant, ())) < MOST_OF_A_TENANT",
        "        return True",
        f"{WEBHOOKS}::test_a_tenant_whose_receivers_take_nothing_leaves_room_for_the_others",
    ),
)
