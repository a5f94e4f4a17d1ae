"""The job protocol as a model: every state that one job can reach with so many faults, and what must hold in each.

What it covers: one job of two stages, of which the first claims before it begins and speaks (2 tokens) and the second
is pure and claims from its second delivery on; two workers per stage; budgets of two failures and two lost leases; a
cancel, the deadline, a redrive; the clock (overdue jobs, delays, takeover, repair); and the rule of a worker that was
refused, with the question to the owner. A fault is one of: a worker's crash, a pause past its lease, a failure, a
hand-back, a delivery to two at once, an answer or an ack that is lost, an append that arrives after its sender gave up
or died, an owner that is silent or cut off, a restart of the server that forgets deliveries and acks, a consumer that
takes a hand-off for acked. Any of them may come at any moment, and everything else in any order.

What it checks on the way: one job per key and one outcome, with nothing but a review after it; nothing but an outcome
after a cancel; no token lost or repeated; no append by who is not the owner; no finished step run again; no live claim
taken over unasked; attempts within the budget, and none dead before it is used up; no ack that the log does not bear
out; one new job per redrive. And from every state, without another fault, what happens by itself leads to an outcome.

What it leaves out: the server's own part (an append is one step: compare, store, answer), replicas that lag (but for
the variant `stale-read`), text that expires, room, leases as durations, pieces (`job.once`), questions (`job.ask`),
starts that are put off, readers, the audit, and several jobs of a worker: suspects that wait for smaller company only
wait before they claim. A redriven job is a job as any. That the code does what is modelled is for the tests and the
mutants of the code to show.
"""
