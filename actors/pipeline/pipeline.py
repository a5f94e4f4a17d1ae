"""A pipeline: stages joined by message types."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import NamedTuple

from actors.contracts.errors import HeadraceError
from actors.contracts.messages import Message
from actors.pipeline.stage import Stage

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class Route(NamedTuple):
    """One message type from the stage that gives it to the one that takes it; None for who sends and has the answer."""

    giver: str | None
    message: str
    taker: str | None


class PipelineError(HeadraceError):
    """A pipeline does not fit together; the message names the stage and the type."""


class Pipeline:
    """Stages in which a message goes to the one stage that takes its type; the type that no stage takes is the answer.

    Declaring runs nothing. It checks itself when it is built: every type has one taker, every stage can be reached,
    there is one entry and one answer. Raises PipelineError.
    """

    def __init__(self, name: str, *stages: Stage) -> None:
        self.name = name
        self.stages = stages
        self._check_names()
        self._takers = self._route()
        self.input = self._find_input()
        self.answer = self._find_answer()
        self._check_reachable()

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {', '.join(s.name for s in self.stages)})"

    @property
    def entry(self) -> Stage:
        """The stage that takes the job's input."""
        return self._takers[self.input]

    @cached_property
    def messages(self) -> dict[str, type[Message]]:
        """Every message type of the pipeline by its wire name."""
        return {m.wire_name(): m for s in self.stages for m in (*s.takes, *s.gives)}

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change with the stages, their routing and the schemas of their messages."""
        shape = {
            "stages": [[s.name, [m.__name__ for m in s.takes], [m.__name__ for m in s.gives]] for s in self.stages],
            "schemas": {name: message.model_json_schema() for name, message in sorted(self.messages.items())},
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """Every way that a message goes, the input first and the answer last."""
        ways = [Route(None, self.input.wire_name(), self.entry.name)]
        for s in self.stages:
            for message in s.gives:
                taker = self.taker(message)
                ways.append(Route(s.name, message.wire_name(), taker.name if taker else None))
        return tuple(sorted(dict.fromkeys(ways), key=lambda way: way.taker is None))

    def taker(self, message: type[Message]) -> Stage | None:
        """The stage that a message of this type goes to; None for the answer."""
        return self._takers.get(message)

    def _check_names(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise PipelineError(
                f"no pipeline is called {self.name!r}: use small letters, digits, - and _, beginning with a letter"
            )
        if not self.stages:
            raise PipelineError(f"pipeline {self.name!r} has no stages; give it some: Pipeline({self.name!r}, a, b)")
        for s in self.stages:
            if not isinstance(s, Stage):
                raise PipelineError(f"pipeline {self.name!r}: {s!r} is no stage; decorate the function with @stage()")
        names = [s.name for s in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise PipelineError(
                    f"pipeline {self.name!r} has stage {name!r} twice; a stage stands in it once: let one function "
                    "take both types (`message: A | B`), or make a second stage with a name of its own"
                )

    def _route(self) -> dict[type[Message], Stage]:
        takers: dict[type[Message], Stage] = {}
        wire: dict[str, type[Message]] = {}
        for s in self.stages:
            for message in (*s.takes, *s.gives):
                if wire.setdefault(message.wire_name(), message) is not message:
                    raise PipelineError(
                        f"pipeline {self.name!r}: stage {s.name!r} and a stage before it mean two types by "
                        f"{message.wire_name()!r}, of {wire[message.wire_name()].__module__} and {message.__module__}; "
                        "a wire name is unique in its pipeline: rename one, or let both stages use the same"
                    )
            for message in s.takes:
                if message in takers:
                    raise PipelineError(self._contested(message, takers[message], s))
                takers[message] = s
        return takers

    def _contested(self, message: type[Message], one: Stage, other: Stage) -> str:
        """What to do where two stages take the same type."""
        name, own = message.__name__, f"{message.__name__}For{other.name.title().replace('_', '')}"
        givers = [repr(s.name) for s in self.stages if message in s.gives]
        whoever = f"let {' and '.join(givers)} return that" if givers else "make that the input"
        return (
            f"pipeline {self.name!r}: {name} is taken by {one.name!r} and by {other.name!r}, and a message goes to one "
            f"stage. If each is for cases of its own, give {other.name!r} a type of its own, `class {own}({name})`, "
            f"and {whoever} where it is meant; if both are to have it, let {one.name!r} give what {other.name!r} takes"
        )

    def _find_input(self) -> type[Message]:
        given = {m for s in self.stages for m in s.gives}
        inputs = [m for m in self._takers if m not in given]
        match inputs:
            case [one]:
                return one
            case []:
                taken = ", ".join(f"{m.__name__} (stage {s.name!r})" for m, s in self._takers.items())
                raise PipelineError(
                    f"pipeline {self.name!r} has no entry: every type that is taken is also given, {taken}; "
                    "the first stage needs an input type that no stage gives: add it, `message: Input | …`"
                )
        names = ", ".join(f"{m.__name__} (stage {self._takers[m].name!r})" for m in inputs)
        raise PipelineError(
            f"pipeline {self.name!r} has several entries: {names}; no stage gives these, and one may be the input: "
            "let a stage give the others, or take them out"
        )

    def _find_answer(self) -> type[Message]:
        answers = list(dict.fromkeys(m for s in self.stages for m in s.gives if m not in self._takers))
        match answers:
            case [one]:
                return one
            case []:
                given = ", ".join(f"{m.__name__} (stage {s.name!r})" for s in self.stages for m in s.gives)
                raise PipelineError(
                    f"pipeline {self.name!r} has no answer: every type that is given is also taken, {given}, so it "
                    "never ends; let a stage give a type that no stage takes: `-> … | Answer`"
                )
        givers = ", ".join(
            f"{m.__name__} (stage {next(s.name for s in self.stages if m in s.gives)!r})" for m in answers
        )
        raise PipelineError(
            f"pipeline {self.name!r} has several answers: {givers}; no stage takes these, and one may be the answer: "
            "let a stage take the others, or give one type that says which it is"
        )

    def _check_reachable(self) -> None:
        reached: set[str] = set()
        ahead = [self.entry]
        while ahead:
            s = ahead.pop()
            if s.name not in reached:
                reached.add(s.name)
                ahead += [self._takers[m] for m in s.gives if m in self._takers]
        for s in self.stages:
            if s.name not in reached:
                takes = " or ".join(m.__name__ for m in s.takes)
                raise PipelineError(
                    f"pipeline {self.name!r}: stage {s.name!r} is never reached; no reachable stage gives {takes}: "
                    "let one give it, or take the stage out"
                )
        self._check_ends()

    def _check_ends(self) -> None:
        ends = {s.name for s in self.stages if self.answer in s.gives}
        before = -1
        while before != len(ends):
            before = len(ends)
            ends |= {s.name for s in self.stages if any((t := self.taker(m)) and t.name in ends for m in s.gives)}
        for s in self.stages:
            if s.name not in ends:
                gives = " or ".join(m.__name__ for m in s.gives)
                raise PipelineError(
                    f"pipeline {self.name!r}: from stage {s.name!r}, which gives {gives}, no way leads to the answer "
                    f"{self.answer.__name__}: let it, or a stage after it, give that too"
                )
