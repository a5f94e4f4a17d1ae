"""JetStream's one door: the job log, and what is asked beside it."""

from actors.journal.append import Appender, Refused, TooLarge, Undecided
from actors.journal.connection import Link, Unanswered
from actors.journal.journal import Journal
from actors.journal.read import Reader

__all__ = ["Appender", "Journal", "Link", "Reader", "Refused", "TooLarge", "Unanswered", "Undecided"]
