"""Effort: how many tokens the jobs of a stage took lately, by the size of their hand-offs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

FADES = 0.98
"""What a job's weight is multiplied by with every later one: about the last fifty count."""

GUESS = 0.25
"""Tokens for each byte that one hand-off has more than another, as long as nothing else is known: four bytes of English
are about a token."""

GUESS_WEIGHS = float(1 << 20)
"""How much that guess weighs, in bytes squared: as much as a pair of jobs whose sizes differ by about a KiB."""


class Effort(BaseModel):
    """What the jobs of a stage took: on average `tokens`, prompt and generated ones, at a hand-off of `bytes`.

    `jobs` is how much they weigh together. `spread` is the sum of the squares of what their sizes differ from the
    average by, `common` that of its products with what their tokens differ by. More than `most` tokens, an engine's
    context, none is taken to need, unless they took that many; 0 where that is not known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    jobs: float = 0.0
    bytes: float = 0.0
    tokens: float = 0.0
    spread: float = 0.0
    common: float = 0.0
    most: int = 0

    def joined(self, other: Effort) -> Effort:
        """What these jobs and those of another worker took together."""
        if not (jobs := self.jobs + other.jobs):
            return self
        part, bytes, tokens = other.jobs / jobs, other.bytes - self.bytes, other.tokens - self.tokens
        return Effort(
            jobs=jobs,
            bytes=self.bytes + part * bytes,
            tokens=self.tokens + part * tokens,
            spread=self.spread + other.spread + self.jobs * part * bytes * bytes,
            common=self.common + other.common + self.jobs * part * bytes * tokens,
            most=max(self.most, other.most),
        )

    def and_job(self, bytes: int, tokens: int, *, most: int = 0) -> Effort:
        """The same after one more job; the earlier ones weigh a little less."""
        faded = {"jobs": self.jobs * FADES, "spread": self.spread * FADES, "common": self.common * FADES}
        return self.model_copy(update=faded).joined(Effort(jobs=1.0, bytes=bytes, tokens=tokens, most=most))

    @property
    def per_byte(self) -> float:
        """Tokens for each byte that a hand-off has more than another: a guess, until sizes have differed."""
        return min(1.0, max(0.0, (self.common + GUESS * GUESS_WEIGHS) / (self.spread + GUESS_WEIGHS)))

    def of(self, bytes: float) -> float:
        """About how many tokens a job with a hand-off of so many bytes takes."""
        about = max(0.0, self.tokens + self.per_byte * (bytes - self.bytes))
        return min(about, max(self.most, self.tokens)) if self.most else about


class Experience:
    """What a worker has learnt of its stage's jobs."""

    def __init__(self) -> None:
        self.effort = Effort()

    def note(self, bytes: int, tokens: int, *, most: int) -> None:
        """A job with a hand-off of so many bytes took so many tokens; the engine takes at most `most` at once."""
        self.effort = self.effort.and_job(bytes, tokens, most=most)
