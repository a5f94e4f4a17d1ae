"""A stage: one typed step."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from actors.contracts.errors import HeadraceError
from actors.contracts.messages import Message
from actors.contracts.retry import Retry
from actors.contracts.subjects import RESERVED, is_topic
from actors.pipeline.job import Job
from actors.pipeline.overflow import Overflow
from actors.pipeline.placement import Placeable, Placement
from actors.pipeline.replicas import Replicas

Resource = AbstractAsyncContextManager[Any]
"""What a stage `uses`: opened once per replica, handed to every call (an engine, an index, a pool)."""


DEFAULT_RETRY = Retry()


class StageError(HeadraceError):
    """A stage is declared in a way that cannot work; the message names the stage and says what to change."""


@dataclass(frozen=True)
class Stage:
    """One typed step, as declared. Calling it calls the function: a stage's unit test is a call.

    `takes` are the message types it is given, `gives` those it may return. `gpus` and `cpus` are what one replica
    occupies, and `accelerator` is of which kind the GPUs are; `concurrency` is how many jobs one replica runs at a
    time; `replicas` is their number, or how it follows the lag; `overflow` is what helps where those have too much.
    `timeout` is in seconds, for steps that use no engine. `effects` says that running it twice is visible outside, so
    it is claimed in the log before it begins.
    """

    name: str
    run: Callable[..., Any]
    takes: tuple[type[Message], ...]
    gives: tuple[type[Message], ...]
    uses: Resource | None = None
    gpus: float = 0.0
    cpus: float = 0.1
    concurrency: int = 8
    replicas: int | Replicas = 1
    timeout: float = 60.0
    effects: bool = False
    retry: Retry = DEFAULT_RETRY
    accelerator: str | None = None
    overflow: Overflow | None = None
    part_of: Stage | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def also(self, function: Callable[..., Any]) -> Stage:
        """Declare another function of this stage, for other messages and another pipeline.

        The two share topic, replicas and what the stage `uses`: `@write.also` lets a second pipeline have an engine
        that is there already. Raises StageError.
        """
        whole = self.whole
        _check_function(function)
        takes, gives = _signature(whole.name, function, whole.uses is not None)
        return replace(whole, run=function, takes=takes, gives=gives, part_of=whole)

    @property
    def whole(self) -> Stage:
        """The stage that this is a function of; itself where there is but one."""
        return self.part_of or self

    @property
    def on_cpus(self) -> Stage | None:
        """The same stage as its overflow runs it; None where it has none."""
        whole, over = self.whole, self.whole.overflow
        if over is None:
            return None
        return replace(
            whole, gpus=0.0, accelerator=None, cpus=over.cpus, concurrency=over.concurrency, replicas=over.replicas
        )

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop, which it must not block; a plain function runs in a thread."""
        return inspect.iscoroutinefunction(self.run)


def stage(
    misplaced: None = None,
    /,
    *,
    uses: Resource | None = None,
    gpus: float = 0.0,
    cpus: float = 0.1,
    concurrency: int = 8,
    replicas: int | Replicas = 1,
    timeout: float = 60.0,
    effects: bool = False,
    retry: Retry = DEFAULT_RETRY,
    accelerator: str | None = None,
    overflow: Overflow | None = None,
) -> Callable[[Callable[..., Any]], Stage]:
    """Declare a function as a stage; its name becomes the topic, its type hints the routing.

    The function takes a message (or a union of them), the `Job`, and what it `uses`, if anything:
    `async def write(prompt: Grounded | ToolResults, job: Job, engine: Engine) -> Draft`. Raises StageError.
    """

    def declare(function: Callable[..., Any]) -> Stage:
        _check_function(function)
        name = function.__name__
        _check_name(name)
        _check_uses(name, uses)
        takes, gives = _signature(name, function, uses is not None)
        _check_placement(name, Placement(gpus, cpus, accelerator), uses, overflow)
        _check_numbers(name, concurrency=concurrency, timeout=timeout)
        _check_replicas(name, replicas, uses)
        if not isinstance(retry, Retry):
            raise StageError(f"stage {name!r}: retry is {retry!r}; give budgets, for example Retry(attempts=3)")
        return Stage(
            name, function, takes, gives, uses, gpus, cpus, concurrency, replicas, timeout, effects, retry, accelerator,
            overflow,
        )  # fmt: skip

    if misplaced is not None:
        raise StageError(f"stage {_show(misplaced)}: write @stage() above it, with its parentheses")
    return declare


def _check_function(function: object) -> None:
    if not inspect.isfunction(function):
        raise StageError(
            f"{function!r} is no function; a stage is one, of its message and its job: write @stage() above a `def`"
        )


def _check_name(name: str) -> None:
    if name in RESERVED:
        raise StageError(f"a stage cannot be called {name!r}: that topic is Headrace's own; choose another name")
    if not is_topic(name):
        raise StageError(f"a stage cannot be called {name!r}: use small letters, digits and _, beginning with a letter")


def _check_uses(name: str, uses: object) -> None:
    if isinstance(uses, type):
        raise StageError(f"stage {name!r}: uses={uses.__name__} is a class; give an instance: uses={uses.__name__}()")
    if uses is not None and not isinstance(uses, AbstractAsyncContextManager):
        raise StageError(
            f"stage {name!r}: uses={uses!r} cannot be opened; give an async context manager, which has __aenter__ and "
            "__aexit__, or is made by @asynccontextmanager"
        )


def _check_placement(name: str, placement: Placement, uses: Resource | None, overflow: Overflow | None) -> None:
    if mistake := placement.mistake:
        raise StageError(f"stage {name!r}: {mistake}")
    if isinstance(uses, Placeable) and (mistake := uses.mistake_on(placement.gpus)):
        raise StageError(f"stage {name!r}: {mistake}")
    if overflow is None:
        return
    if not isinstance(overflow, Overflow):
        raise StageError(f"stage {name!r}: overflow={overflow!r} must be an Overflow, for example Overflow(after=20)")
    if mistake := overflow.mistake:
        raise StageError(f"stage {name!r}: overflow=Overflow(…): {mistake}")
    if not placement.gpus:
        raise StageError(f"stage {name!r}: overflow helps a stage with GPUs; add gpus=1, or give it more replicas")


def _check_numbers(name: str, *, concurrency: int, timeout: float) -> None:
    if not (isinstance(concurrency, int) and not isinstance(concurrency, bool) and concurrency >= 1):
        raise StageError(f"stage {name!r}: concurrency={concurrency!r} must be a whole number, at least 1")
    if not (isinstance(timeout, int | float) and timeout > 0):
        raise StageError(f"stage {name!r}: timeout={timeout!r} must be more than 0 seconds")


def _check_replicas(name: str, replicas: object, uses: Resource | None) -> None:
    if isinstance(replicas, Replicas):
        if mistake := replicas.mistake:
            raise StageError(f"stage {name!r}: replicas=Replicas(…): {mistake}")
        if replicas.tokens_per_replica and not isinstance(uses, Placeable):
            raise StageError(
                f"stage {name!r}: replicas=Replicas(…): tokens_per_replica counts what an engine reads and generates, "
                "and it uses none; give it lag_per_replica, a number of jobs, instead"
            )
    elif not (isinstance(replicas, int) and not isinstance(replicas, bool) and replicas >= 0):
        raise StageError(
            f"stage {name!r}: replicas={replicas!r} must be a whole number, at least 0, or follow the lag, "
            "for example Replicas(min=0, max=4, lag_per_replica=8)"
        )


def _signature(
    name: str, function: Callable[..., Any], has_resource: bool
) -> tuple[tuple[type[Message], ...], tuple[type[Message], ...]]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise StageError(f"stage {name!r} yields; it returns one message, and speaks with job.speak or job.report")
    signature = inspect.signature(function).parameters
    for parameter in signature.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise StageError(
                f"stage {name!r}: its parameter {parameter.name!r} cannot be given by position; write it without a *"
            )
    parameters = list(signature)
    wanted = 3 if has_resource else 2
    if len(parameters) != wanted:
        shape = "(message, job, resource)" if has_resource else "(message, job)"
        why = "it declares `uses`" if has_resource else "it declares no `uses`"
        raise StageError(f"stage {name!r} has {len(parameters)} parameters; it needs {shape}, because {why}")
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise StageError(
            f"stage {name!r}: the type {error.name!r} is not known where the stage is declared; "
            "declare messages at the top of a module, above the stage"
        ) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise StageError(f"stage {name!r}: its annotations cannot be read, correct them: {error}") from error
    if (job := hints.get(parameters[1])) is not Job:
        raise StageError(f"stage {name!r}: its second parameter must be annotated `Job`, not {_show(job)}")
    return _messages(name, f"parameter {parameters[0]!r}", hints.get(parameters[0])), _messages(
        name, "return value", hints.get("return")
    )


def _messages(name: str, what: str, hint: Any) -> tuple[type[Message], ...]:
    if hint is None:
        raise StageError(
            f"stage {name!r}: its {what} has no annotation; routing goes by message type, so name the types it may be"
        )
    members = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for member in members:
        if not (isinstance(member, type) and issubclass(member, Message)) or member is Message:
            raise StageError(f"stage {name!r}: its {what} is {_show(member)}, no Message; {_instead(member)}")
    return tuple(dict.fromkeys(members))


def _instead(hint: Any) -> str:
    """What to write where something stands that is no message."""
    if hint is type(None):
        return "a stage always gives a message: make one for this case, `class Nothing(Message)`"
    if get_origin(hint) is not None:
        return "wrap it in one: `class Many(Message)` with a field for it"
    if hint is Message:
        return "name the types that it may be: each is a class of its own"
    return "derive it from Message"


def _show(hint: Any) -> str:
    return repr(getattr(hint, "__name__", hint)) if hint is not None else "missing"
