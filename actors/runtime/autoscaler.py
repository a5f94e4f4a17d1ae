"""The autoscaler: what Serve's controller asks, ten times a second, how many replicas a stage is to have."""

from __future__ import annotations

import logging
import time
import weakref
from typing import TYPE_CHECKING, Any

from actors.runtime.lookout import Lookout
from actors.runtime.scaling import Memory, Rule
from actors.runtime.settings import Settings

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

log = logging.getLogger(__name__)


class Autoscaler:
    """Answers from what it knows, so it never holds the controller up; and it never raises.

    An autoscaling policy that raises stalls every application of the installation, not only its own: Serve calls it in
    its control loop and catches nothing. Serve copies this class by value, so the module stays small. The server's
    address comes from the controller's own settings: Serve writes a policy's arguments into its log.
    """

    def __init__(self, stage: str, rule: dict[str, Any]) -> None:
        self._stage = stage
        self._rule = rule
        self._lookout: Lookout | None = None
        self._memory: Memory | None = None
        self._failed = ""

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """How many replicas there are to be, and no state: Serve would forget it on the next deploy."""
        try:
            return self._decide(context.target_num_replicas), {}
        except Exception as error:
            if str(error) != self._failed:  # once, not ten times a second
                self._failed = str(error)
                log.exception("cannot decide on a stage's replicas", extra={"action": "scaling_failed"})
            return context.target_num_replicas, {}

    def _decide(self, target: int) -> int:
        rule = Rule(**self._rule)
        lookout = self._lookout or self._look_out(rule)
        decision, self._memory = rule.decide(self._memory, lookout.load, now=time.monotonic(), target=target)
        before, lookout.decision = lookout.decision, decision
        if decision.replicas != target or before is None:
            fields = {"action": "scaled", "stage": self._stage, "from": target, "to": decision.replicas}
            log.info("a stage's number of replicas was decided", extra=fields | {"reason": decision.reason})
        return decision.replicas

    def _look_out(self, rule: Rule) -> Lookout:
        """Begin to look; it ends when Serve forgets this policy, as it does on every deploy."""
        self._lookout = lookout = Lookout(
            Settings().nats_urls, self._stage, counts_tokens=rule.tokens_per_replica is not None
        )
        weakref.finalize(self, lookout.stop)
        lookout.start()
        return lookout
