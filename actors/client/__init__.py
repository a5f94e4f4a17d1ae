"""The client: this is how a program submits jobs, reads their events and waits for their answers."""

from actors.client.blocking import Headrace
from actors.client.courier import DEFAULT_URL
from actors.client.errors import (
    BadRequest,
    ClientError,
    NotCompleted,
    NotFound,
    NothingAsked,
    Refused,
    Unavailable,
    Unintelligible,
    Unreachable,
)
from actors.client.headrace import AsyncHeadrace
from actors.client.patience import Patience
from actors.client.wish import Input, Terms

__all__ = [
    "DEFAULT_URL",
    "AsyncHeadrace",
    "BadRequest",
    "ClientError",
    "Headrace",
    "Input",
    "NotCompleted",
    "NotFound",
    "NothingAsked",
    "Patience",
    "Refused",
    "Terms",
    "Unavailable",
    "Unintelligible",
    "Unreachable",
]
