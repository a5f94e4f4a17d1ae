from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.narration import Narration, answer_text, line, visible
from actors.replies import Event, event_of

AT = 1_800_000_000.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def happened(kind: str, **data: Any) -> Event:
    return event_of(kind, "", {"n": 1, "at": AT, **data})


def said(text: str, start: int, stage: str = "write") -> Event:
    return happened("delta", stage=stage, text=text, **{"from": start})


def notes_in(stream: io.StringIO) -> list[str]:
    return [note[10:] for note in stream.getvalue().splitlines()]


DONE = happened("completed", answer={"text": "So."})


async def test_text_and_notes_go_their_own_ways_and_the_outcome_comes_back() -> None:
    async def events() -> AsyncIterator[Event]:
        for event in (happened("handoff", stage="write", type="Grounded"), said("So", 0), said(".", 1), DONE):
            yield event

    text, notes = io.StringIO(), io.StringIO()
    assert await Narration(text=text, notes=notes).tell(events()) is DONE
    assert text.getvalue() == "So.\n"
    assert notes_in(notes) == ["write: has its Grounded", "completed"]


def test_a_job_that_says_nothing_gives_its_answer_as_text() -> None:
    text = io.StringIO()
    Narration(text=text, notes=None).say(DONE)
    assert text.getvalue() == "So.\n"


def test_a_generation_that_starts_anew_starts_a_line() -> None:
    text, notes = io.StringIO(), io.StringIO()
    narration = Narration(text=text, notes=notes)
    for event in (said("one", 0), said(" two", 3), happened("reset", stage="write"), said("uno", 0), said("end", 0)):
        narration.say(event)
    assert text.getvalue() == "one two\nuno\nend"
    assert notes_in(notes) == ["write: starts over; what it has said so far is void"]


def test_a_note_never_begins_within_a_line_of_text_in_one_place() -> None:
    both = io.StringIO()
    narration = Narration(text=both, notes=both)
    for event in (said("So", 0), happened("progress", stage="write", message="on"), said(" far", 1), DONE):
        narration.say(event)
    assert [ln[-9:] for ln in both.getvalue().splitlines()] == ["So", "write: on", " far", "completed"]


def test_two_streams_into_one_file_are_one_place(tmp_path: Path) -> None:
    with open(tmp_path / "log", "a") as text, open(tmp_path / "log", "a") as notes:
        narration = Narration(text=text, notes=notes)
        narration.say(said("So", 0))
        narration.say(happened("progress", stage="write", message="on"))
    assert [ln[-9:] for ln in (tmp_path / "log").read_text().splitlines()] == ["So", "write: on"]


def test_notes_are_dim_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        Narration(text=None, notes=stream).say(DONE)
    assert "\x1b[2m" in terminal.getvalue()
    assert "\x1b" not in pipe.getvalue()


def test_what_a_model_says_cannot_command_a_terminal_and_goes_unchanged_into_a_pipe() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        Narration(text=stream, notes=None).say(said("a\x1b[2J\x07\r\x9bb\tc\n", 0))
    assert terminal.getvalue() == "a[2Jb\tc\n"
    assert pipe.getvalue() == "a\x1b[2J\x07\r\x9bb\tc\n"


def test_a_note_is_one_line_whatever_is_in_it() -> None:
    notes = io.StringIO()
    error = {"type": "ValueError", "message": "two\nlines \x1b[31m" + "long " * 100}
    Narration(text=None, notes=notes).say(happened("failed", stage="write", error=error))
    assert notes.getvalue().count("\n") == 1
    assert "\x1b" not in notes.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("step.started", {"stage": "write", "attempt": 2, "from": 37, "worker": "w"}, "37 tokens"),
        (
            "step.failed",
            {"error": {"type": "OSError", "message": "gone"}, "retry_at": AT},
            "it: failed with OSError: gone",
        ),
        ("step.released", {"reason": "drain"}, "it: handed back unfinished: drain"),
        ("step.part", {"key": "calls"}, "it: stored calls"),
        ("cancel.requested", {}, "cancel requested"),
        ("progress", {"stage": "write", "message": "reading", "done": 3}, "write: reading (3)"),
        ("gap", {"at": None, "from": 2, "to": 9}, "events 2 to 9 are no longer kept"),
        ("cancelled", {"reason": "by hand"}, "cancelled: by hand"),
        ("dead_lettered", {"stage": "write", "reason": "3 crashes"}, "dead lettered in write: 3 crashes"),
        ("expired", {"usage": {"prompt_tokens": 1, "output_tokens": 2, "wasted_tokens": 3}}, "3 wasted"),
        ("step.pondered", {}, "step.pondered"),
    ],
)
def test_every_kind_is_told(kind: str, data: dict[str, Any], told: str) -> None:
    assert told in line(happened(kind, **data), "it")


def test_a_gap_has_no_time() -> None:
    notes = io.StringIO()
    Narration(text=None, notes=notes).say(event_of("gap", "", {"n": 9, "from": 2, "to": 9}))
    assert notes.getvalue() == "--:--:--  events 2 to 9 are no longer kept\n"


def test_an_answer_of_more_than_text_is_json() -> None:
    assert answer_text({"text": "So.\n"}) == "So.\n"
    assert answer_text({"text": "Sö.", "sources": []}) == '{\n  "text": "Sö.",\n  "sources": []\n}\n'


def test_letters_of_all_scripts_are_visible() -> None:
    assert visible("zażółć 水車 👩‍🔧\t\n") == "zażółć 水車 👩‍🔧\t\n"
