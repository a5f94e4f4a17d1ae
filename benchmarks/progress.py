"""Progress, for whoever waits for a benchmark."""

from __future__ import annotations

import sys


def tell(line: str) -> None:
    """A line about how far it is."""
    print(line, file=sys.stderr, flush=True)
