from __future__ import annotations

import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest

from actors import cli, launch
from actors.cli import main
from actors.client import Patience
from tests.unit.scripted_server import (
    A_JOB,
    ANSWER,
    AT,
    JOB,
    JOB_REPLY,
    LOG,
    PIPELINE,
    QUESTION,
    STAGE,
    Connection,
    ScriptedServer,
    a_letter,
    problem,
    told,
)

TEXT = "It feeds a\n\nmill."
ERRORLESS = ("Traceback", "\x1b")


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command against the server, here and without waiting between tries."""
    monkeypatch.setenv("HEADRACE_URL", server.url)
    monkeypatch.setattr(cli, "ASKING", Patience(tries=3, first=0.0, longest=0.0))
    monkeypatch.setattr(cli, "READING", Patience(tries=3, first=0.0, longest=0.0))

    def run(*args: str, stdin: bytes = b"") -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as exited:
            main(args)
        out, err = capsys.readouterr()
        assert not any(sign in out + err for sign in ERRORLESS)
        assert isinstance(exited.value.code, int)
        return Said(exited.value.code, out, err)

    return run


@contextmanager
def alone(server: ScriptedServer, *args: str) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """The same command as a process of its own, with its output and its errors."""
    program = [sys.executable, "-c", "from actors.cli import main; main()", *args, "--url", server.url]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process, process.stdout, process.stderr
        finally:
            process.kill()


class TestSubmit:
    def test_the_id_alone_is_printed(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell()
        said = run("submit", "analysis", '{"text": "why?", "limit": 2}')
        assert (said.status, said.out) == (0, f"{JOB}\n")
        assert f"headrace follow {JOB}" in said.err
        assert list(story.stored.values()) == [{"input": {"text": "why?", "limit": 2}}]

    def test_mere_text_becomes_the_one_text_field(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell()
        run("submit", "analysis", "why?")
        assert list(story.stored.values()) == [{"input": {"text": "why?"}}]

    def test_what_is_no_object_is_text(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell()
        run("submit", "analysis", "42")
        assert list(story.stored.values()) == [{"input": {"text": "42"}}]

    def test_input_comes_from_a_file_or_from_the_standard_input(
        self, server: ScriptedServer, run: Run, tmp_path: Path
    ) -> None:
        story = server.tell()
        (tmp_path / "question").write_text("wärum?\nnow\n", "utf-8")
        run("submit", "analysis", f"@{tmp_path / 'question'}")
        run("submit", "analysis", "-", stdin=b'{"text": "why?"}\n')
        assert [stored["input"]["text"] for stored in story.stored.values()] == ["wärum?\nnow", "why?"]

    def test_every_option_travels(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell()
        said = run(
            *("submit", "analysis", "why?", "--lane", "batch", "--deadline", "60", "--key", "k1"),
            *("--metadata", "team=blue", "--metadata", "sum=1+1=2", "--json"),
        )
        assert json.loads(said.out)["id"] == JOB
        assert story.stored == {
            "k1": {
                "input": {"text": "why?"},
                "lane": "batch",
                "deadline": 60,
                "metadata": {"team": "blue", "sum": "1+1=2"},
            }
        }

    def test_follow_streams_text_to_stdout_and_events_to_stderr(self, server: ScriptedServer, run: Run) -> None:
        server.tell(connections=[Connection(3), Connection(2, again=1)], retry=0)
        said = run("submit", "analysis", "why?", "--follow")
        assert (said.status, said.out) == (0, TEXT + "\n")
        assert said.err.startswith(f"job {JOB}\n")
        assert "write: started by write-1, attempt 1" in said.err
        assert "completed (7 prompt tokens, 6 output tokens)" in said.err

    def test_follow_with_json_is_one_object_per_line(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        lines = [json.loads(line) for line in run("submit", "analysis", "why?", "-f", "--json").out.splitlines()]
        assert lines[0]["id"] == JOB
        assert [line["n"] for line in lines[1:]] == [data["n"] for _, data in A_JOB]
        assert lines[3]["from"] == 0

    @pytest.mark.parametrize(
        ("args", "sentence"),
        [
            (["submit", "analysis", "{bad"], "begins with { and is not JSON"),
            (["submit", "analysis", '{"text": NaN}'], "NaN is no JSON"),
            (["submit", "analysis", '{"a":' * 9000], "is not JSON"),
            (["submit", "analysis", "@/no/such/file"], "cannot read '/no/such/file': No such file"),
            (["submit", "analysis", "why?", "--metadata", "team"], "is not NAME=VALUE"),
            (["submit", "analysis", "why?", "--lane", "fast"], "interactive"),
            (["submit", "analysis", "why?", "--deadline", "soon"], "'--deadline'"),
            (["submit", "analysis", "why?", "--key", "ключ"], "printable ASCII"),
            (["submit", "analysis", "why?", "--url", "localhost"], "is not the URL of a server"),
            (["submit", "analysis"], "INPUT"),
            (["follow", "ID", "--events", "--text"], "--events, --text, or neither"),
            (["up", "--pipeline", "shop"], "is not MODULE:NAME"),
            (["up", "--port", "99999"], "less than or equal to 65535"),
            (["fly"], "fly"),
        ],
    )
    def test_a_wrong_usage_is_told_and_exits_with_2(
        self, server: ScriptedServer, run: Run, args: list[str], sentence: str
    ) -> None:
        story = server.tell()
        said = run(*args)
        assert (said.status, said.out, story.submits) == (2, "", 0)
        assert sentence in " ".join(said.err.split())

    def test_input_that_is_not_text_is_a_wrong_usage(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        said = run("submit", "analysis", "-", stdin=b"\xff\xfe")
        assert said.status == 2
        assert "not UTF-8" in said.err

    def test_text_for_a_pipeline_with_more_fields_names_them(self, server: ScriptedServer, run: Run) -> None:
        schema = {
            "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"$ref": "#/$defs/Part"}}},
            "required": ["a", "b"],
        }
        server.tell(pipelines=[{**PIPELINE, "input": schema}])
        said = run("submit", "analysis", "why?")
        assert said.status == 2
        assert "give it JSON with a: string, b: list of Part" in " ".join(said.err.split())

    def test_an_unknown_pipeline_names_the_known_ones(self, server: ScriptedServer, run: Run) -> None:
        server.tell(refusals=[problem(404, "there is no pipeline 'nope'", known=["analysis"])])
        sentence = "headrace: there is no pipeline 'nope'; there are: analysis\n"
        assert run("submit", "nope", "{}") == Said(1, "", sentence)
        assert run("submit", "nope", "why?") == Said(1, "", sentence)

    def test_a_full_server_says_when_to_come_back(self, server: ScriptedServer, run: Run) -> None:
        server.tell(refusals=[problem(429, "the backlog is full", retry_after=600)])
        sentence = "the backlog is full (429); try again in 600 s with the key k1, which makes no second job"
        assert run("submit", "analysis", "{}", "--key", "k1") == Said(1, "", f"headrace: {sentence}\n")


class TestFollow:
    def test_text_alone(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        assert run("follow", JOB, "--text") == Said(0, TEXT + "\n", "")

    def test_events_alone_go_to_stdout(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        said = run("follow", JOB, "--events")
        assert (said.status, said.err) == (0, "")
        assert [line[10:] for line in said.out.splitlines()] == [
            "retrieve: has its Question",
            "write: has its Grounded",
            "write: started by write-1, attempt 1",
            "write: reading 1 of 3",
            "polish: has its Draft",
            "completed (7 prompt tokens, 6 output tokens)",
        ]

    def test_a_broken_connection_is_taken_up_and_mentioned(
        self, server: ScriptedServer, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.tell(connections=[Connection(5, "tear"), Connection(1, "break", again=2)], retry=0)
        assert run("follow", JOB, "--text").out == TEXT + "\n"
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            "stream cut, resuming",
            "stream cut, resuming",
        ]

    def test_it_may_begin_in_the_middle(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        assert run("follow", JOB, "--text", "--after", "8").out == ".\n"

    def test_any_other_outcome_exits_with_1(self, server: ScriptedServer, run: Run) -> None:
        error = {"type": "ValueError", "message": "no mill"}
        server.tell(told(("failed", {"stage": "write", "error": error})))
        said = run("follow", JOB, "--text")
        assert said == Said(1, "", f"headrace: job {JOB} has no answer: failed in write: ValueError: no mill\n")

    def test_an_unknown_job_is_one_sentence(self, server: ScriptedServer, run: Run) -> None:
        server.tell(refusals=[problem(404, "there is no job x")])
        assert run("follow", "x") == Said(1, "", "headrace: there is no job x\n")

    def test_ctrl_c_leaves_the_job_alone_and_says_how_to_go_on(self, server: ScriptedServer) -> None:
        server.tell(connections=[Connection(3, "hold")])
        with alone(server, "follow", JOB) as (process, _, errors):
            assert "retrieve: has its Question" in errors.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, "")
        assert err.endswith(f"\nThe job goes on; watch it with: headrace follow {JOB}\n")
        assert "Traceback" not in err

    def test_a_pipe_that_closes_ends_it_quietly(self, server: ScriptedServer) -> None:
        many = [("delta", {"stage": "write", "from": i, "text": "word " * 1000}) for i in range(200)]
        server.tell(told(*many, ("expired", {})))
        with alone(server, "follow", JOB, "--text") as (process, output, errors):
            output.read(10)
            output.close()
            assert errors.read() == ""
            assert process.wait(timeout=30) == 1


class TestShow:
    def test_a_job_is_shown_for_people(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        said = run("show", JOB)
        assert said.status == 0
        lines = dict(line.split(maxsplit=1) for line in said.out.splitlines() if not line.startswith(" "))
        assert (lines["job"], lines["status"], lines["metadata"]) == (JOB, "completed", "team=blue")
        assert lines["usage"] == "7 prompt tokens, 6 output tokens"
        assert "It feeds a mill." in said.out

    def test_json_is_what_the_server_said(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        assert json.loads(run("show", JOB, "--json").out)["answer"] == ANSWER

    def test_a_queued_job_says_why_it_waits(self, server: ScriptedServer, run: Run) -> None:
        queued = {**JOB_REPLY, "status": "queued", "stage": "write", "answer": None, "attempts": 0}
        failed = {"worker": "write-2", "state": "failed", "detail": "the model folder /m is not there", "jobs": 0}
        server.tell(job=queued, stages=[{**STAGE, "replicas": [*STAGE["replicas"], failed]}])
        said = run("show", JOB)
        assert "status    queued in write\n" in said.out
        assert (
            "waits     write is not ready: write-1 is loading: loading weights; "
            "write-2 is failed: the model folder /m is not there\n"
        ) in said.out

    def test_a_job_whose_stages_cannot_be_asked_is_shown_without_a_reason(
        self, server: ScriptedServer, run: Run
    ) -> None:
        queued = {**JOB_REPLY, "status": "queued", "stage": "write", "answer": None}
        server.tell(job=queued, refusals=[None, problem(500, "a bug")])
        said = run("show", JOB)
        assert (said.status, "waits" in said.out) == (0, False)

    def test_an_error_is_shown(self, server: ScriptedServer, run: Run) -> None:
        error = {"type": "ValueError", "message": "no mill"}
        server.tell(job={**JOB_REPLY, "status": "failed", "answer": None, "error": error})
        assert "error     ValueError: no mill\n" in run("show", JOB).out


class TestLog:
    def test_every_entry_is_a_line_as_it_is_stored(self, server: ScriptedServer, run: Run) -> None:
        server.tell(connections=[Connection(2)])
        said = run("log", JOB)
        assert [json.loads(line)["event"] for line in said.out.splitlines()] == [entry["event"] for entry in LOG]
        assert said.status == 0

    def test_it_may_begin_anywhere(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        assert [json.loads(line)["sequence"] for line in run("log", JOB, "--after", "20").out.splitlines()] == [30]

    def test_an_unknown_job_is_one_sentence(self, server: ScriptedServer, run: Run) -> None:
        server.tell(refusals=[problem(404, "There is no job 'x'.")])
        said = run("log", "x")
        assert (said.status, said.out, said.err) == (1, "", "headrace: There is no job 'x'\n")


class TestLists:
    def test_stages_are_a_table_with_what_is_wrong_below(self, server: ScriptedServer, run: Run) -> None:
        calm = {"stage": "polish", "pipelines": ["analysis"], "waiting": 0, "running": 0, "oldest_age_s": None}
        ready = {"worker": "polish-1", "state": "ready", "detail": None, "jobs": 0, "free": 8}
        fixed = {"min": 2, "max": 2, "wanted": 2, "reason": "that many were declared"}
        scaling = {"min": 0, "max": 4, "wanted": 2, "reason": "3 wait and 1 run, 2 for each replica"}
        server.tell(
            stages=[
                {**STAGE, "replicas": [{**STAGE["replicas"][0], "for_s": 12.3}], "scaling": scaling},
                {**calm, "lanes": {}, "replicas": [ready, ready], "scaling": fixed},
            ]
        )
        assert run("stages").out.splitlines() == [
            "STAGE   WAITING  RUNNING  OLDEST  INTERACTIVE  STANDARD  BATCH  REPLICAS",
            "write   3        1        12 s    1 + 1        2 + 0     -      1 loading",
            "  2 wanted, of 0 to 4: 3 wait and 1 run, 2 for each replica",
            "  write-1 is loading: loading weights, for 12 s",
            "polish  0        0        -       -            -         -      2 ready",
        ]

    def test_a_watch_looks_again_until_it_is_stopped(
        self, server: ScriptedServer, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited: list[float] = []

        def stop_at_the_third(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr("time.sleep", stop_at_the_third)
        server.tell()
        said = run("stages", "--watch", "--every", "2.5")
        assert (said.status, waited) == (130, [2.5, 2.5, 2.5])
        assert said.out.count("STAGE") == 3

    def test_pipelines_say_what_they_take_and_what_to_type(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        assert run("pipelines").out.splitlines() == [
            "analysis  0123456789ab",
            "  takes    text: string, [limit: integer]",
            "  stages   retrieve, write, polish",
            "  answers  [text: string]",
            '  try      headrace submit analysis "some text" --follow',
        ]

    @pytest.mark.parametrize(("command", "field"), [("stages", "waiting"), ("pipelines", "input")])
    def test_lists_are_json_for_programs(self, server: ScriptedServer, run: Run, command: str, field: str) -> None:
        server.tell()
        listed: list[dict[str, Any]] = json.loads(run(command, "--json").out)
        assert field in listed[0]


class TestCancel:
    @pytest.mark.parametrize(
        ("job", "status", "said"),
        [
            ({"status": "cancelled"}, 0, "is cancelled"),
            ({"status": "running", "cancelling": True}, 0, "is being stopped"),
            ({"status": "completed"}, 1, "is completed"),
        ],
    )
    def test_it_says_how_the_job_stands(
        self, server: ScriptedServer, run: Run, job: dict[str, Any], status: int, said: str
    ) -> None:
        story = server.tell(job=JOB_REPLY | job)
        ran = run("cancel", JOB, "--reason", "enough")
        assert ran.status == status
        assert f"job {JOB} {said}" in ran.out
        assert story.wishes == [{"reason": "enough"}]


ASKS = JOB_REPLY | {"status": "input_required", "stage": "write", "answer": None, "question": QUESTION}


class TestAnswer:
    def test_a_job_that_asks_says_what_and_how_it_is_answered(self, server: ScriptedServer, run: Run) -> None:
        server.tell(job=ASKS | {"waits_until": AT + 60})
        said = run("show", JOB).out
        assert "status    input required in write" in said
        assert "asks      When was the mill built?" in said
        assert "expects   year: integer" in said
        assert f"reply     headrace answer {JOB} ANSWER" in said
        assert "until     20" in said
        assert "waits " not in said, "no stage holds it up"

    @pytest.mark.parametrize(
        ("typed", "expects", "sent"),
        [
            ('{"year": 1850}', {"type": "object"}, {"year": 1850}),
            ("1850", {"type": "integer"}, 1850),
            ("1850", {"type": "string"}, "1850"),
            ("true", {"type": "boolean"}, True),
            ("Lower Mill", {"enum": ["Lower Mill"]}, "Lower Mill"),
        ],
    )
    def test_what_is_typed_is_sent_as_what_is_expected(
        self, server: ScriptedServer, run: Run, typed: str, expects: dict[str, Any], sent: Any
    ) -> None:
        story = server.tell(job=ASKS | {"question": QUESTION | {"expects": expects}})
        said = run("answer", JOB, typed)
        assert (said.status, said.out) == (0, f"job {JOB} goes on; watch it with: headrace follow {JOB}\n")
        assert story.wishes == [{"question": 7, "answer": sent}]

    def test_a_question_that_is_named_is_the_one_that_is_meant(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell(job=ASKS, refusals=[None, problem(409, "It asks question 7 now.")])
        said = run("answer", JOB, "yes", "--question", "3")
        assert (said.status, said.err) == (1, "headrace: It asks question 7 now\n")
        assert story.wishes == [{"question": 3, "answer": "yes"}]

    def test_a_job_that_asks_nothing_is_told_nothing(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell()
        said = run("answer", JOB, "yes")
        assert (said.status, said.err) == (1, f"headrace: job {JOB} asks nothing; it is completed\n")
        assert not story.wishes


class TestStartAfter:
    @pytest.mark.parametrize("typed", ["90", "2026-11-25T08:00:00+00:00"])
    def test_a_job_is_put_off(self, server: ScriptedServer, run: Run, typed: str) -> None:
        story = server.tell()
        assert run("submit", "analysis", "why?", "--start-after", typed).status == 0
        (body,) = story.stored.values()
        sent = body["start_after"]
        assert sent == 90 or datetime.fromisoformat(sent) == datetime.fromisoformat(typed)

    def test_what_is_no_time_is_a_wrong_usage(self, server: ScriptedServer, run: Run) -> None:
        said = run("submit", "analysis", "why?", "--start-after", "tomorrow")
        assert said.status == 2
        assert "2026-11-25T08:00" in said.err


class TestDraw:
    def test_a_pipeline_is_drawn(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        assert run("pipelines", "analysis", "--draw", "mermaid").out.startswith("flowchart LR\n")
        assert run("pipelines", "--draw", "svg").out.startswith("<svg ")

    def test_a_pipeline_that_is_not_there_is_named(self, server: ScriptedServer, run: Run) -> None:
        server.tell()
        said = run("pipelines", "mills", "--draw", "svg")
        assert (said.status, said.err) == (1, "headrace: there is no pipeline 'mills'; there are: analysis\n")

    def test_one_that_is_not_served_is_drawn_without_a_server(self, run: Run) -> None:
        said = run(
            "pipelines", "--pipeline", "actors.analysis:analysis", "--draw", "mermaid", "--url", "http://[::1]:9"
        )
        assert '"ToolResults"' in said.out

    @pytest.mark.parametrize("flags", [(), ("analysis", "--draw", "svg")])
    def test_an_import_path_is_only_for_a_drawing(self, run: Run, flags: tuple[str, ...]) -> None:
        assert run("pipelines", "--pipeline", "actors.analysis:analysis", *flags).status == 2

    def test_one_picture_shows_one_pipeline(self, server: ScriptedServer, run: Run) -> None:
        server.tell(pipelines=[PIPELINE, PIPELINE | {"name": "chat"}])
        said = run("pipelines", "--draw", "svg")
        assert said.status == 2
        assert "analysis, chat" in said.err


OPEN, OTHER, REDRIVEN = "b" * 26, "c" * 26, "d" * 26
LETTERS = (a_letter(OPEN), a_letter(OTHER, stage="polish"), a_letter(REDRIVEN, review="redriven", redriven=[JOB]))


class TestDead:
    def test_the_list_has_what_nobody_reviewed(self, server: ScriptedServer, run: Run) -> None:
        server.tell(letters=LETTERS)
        lines = run("dead", "list").out.splitlines()
        assert [line.split()[0] for line in lines] == ["ID", OPEN, OTHER]
        assert "RuntimeError: it broke" in lines[1]
        assert [letter["id"] for letter in json.loads(run("dead", "list", "--all", "--json").out)] == [
            OPEN,
            OTHER,
            REDRIVEN,
        ]
        assert run("dead", "list", "--stage", "nothing").out == ""

    def test_one_is_shown_whole(self, server: ScriptedServer, run: Run) -> None:
        server.tell(letters=LETTERS)
        out = run("dead", "show", OPEN).out
        for said in ("Question", '"text": "why?"', "RuntimeError: it broke", "line 7", "It feeds", "handoff"):
            assert said in out
        assert run("dead", "show", JOB).status == 1

    def test_those_that_are_named_are_redriven_by_number(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell(letters=LETTERS)
        ran = run("dead", "redrive", OPEN, REDRIVEN, OPEN)
        assert (ran.status, ran.out) == (0, f"{JOB}\n{JOB}\n")
        assert story.wishes == [{"redrive": OPEN, "number": 1}, {"redrive": REDRIVEN, "number": 2}]

    def test_an_edited_input_is_for_one(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell(letters=LETTERS)
        assert run("dead", "redrive", OPEN, "--input", '{"text": "how?"}').status == 0
        assert story.wishes == [{"redrive": OPEN, "number": 1, "input": {"text": "how?"}}]
        assert run("dead", "redrive", OPEN, OTHER, "--input", "{}").status == 2

    def test_those_that_a_filter_fits_are_asked_about_first(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell(letters=LETTERS)
        no = run("dead", "discard", "--stage", "write", "--reason", "a test", stdin=b"n\n")
        assert no.status == 1
        assert "discard 1 dead letters?" in no.err
        assert story.wishes == []
        for args, answer in (((), b"y\n"), (("--yes",), b"")):
            story.wishes.clear()
            run("dead", "discard", "--stage", "write", "--reason", "a test", *args, stdin=answer)
            assert story.wishes == [{"discard": OPEN, "reason": "a test"}]

    def test_neither_nor_both_is_a_wrong_usage(self, server: ScriptedServer, run: Run) -> None:
        server.tell(letters=LETTERS)
        assert run("dead", "redrive").status == 2
        assert run("dead", "redrive", OPEN, "--stage", "write").status == 2

    def test_one_that_is_refused_stops_no_other(self, server: ScriptedServer, run: Run) -> None:
        story = server.tell(letters=LETTERS)
        ran = run("dead", "discard", JOB, OPEN, "--reason", "a test")
        assert (ran.status, ran.out) == (1, f"{OPEN} is discarded\n")
        assert f"{JOB}: no such dead letter" in ran.err
        assert len(story.wishes) == 2


class TestUp:
    def test_what_is_asked_for_is_launched(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        launched: list[launch.LaunchOptions] = []

        def up(options: launch.LaunchOptions) -> int:
            launched.append(options)
            return 3

        monkeypatch.setattr(launch, "up", up)
        asked = ["--port", "9000", "--data", "/d", "--model", "m", "--nats-url", "nats://n:1", "--once"]
        assert run("up", *asked, "--pipeline", "shop.jobs:orders", "--pipeline", "b:c").status == 3
        assert run("up").status == 3
        everything = launch.LaunchOptions(
            port=9000,
            data=Path("/d"),
            model="m",
            nats_url="nats://n:1",
            once=True,
            pipelines=("shop.jobs:orders", "b:c"),
        )
        assert launched == [everything, launch.LaunchOptions()]


class TestHelp:
    @pytest.mark.parametrize("command", ["up", "submit", "follow", "show", "cancel", "stages", "pipelines"])
    def test_every_command_teaches_by_example(self, run: Run, command: str) -> None:
        said = run(command, "--help")
        assert said.status == 0
        assert f"Examples:\n    headrace {command}" in said.out

    @pytest.mark.parametrize("command", ["list", "show", "redrive", "discard"])
    def test_every_command_about_dead_letters_does_too(self, run: Run, command: str) -> None:
        said = run("dead", command, "--help")
        assert said.status == 0
        assert f"Examples:\n    headrace dead {command}" in said.out

    @pytest.mark.parametrize("command", ["verify", "export", "replay", "checkpoint"])
    def test_every_command_about_the_audit_log_does_too(self, run: Run, command: str) -> None:
        said = run("audit", command, "--help")
        assert said.status == 0
        assert f"Examples:\n    headrace audit {command}" in said.out

    def test_help_loads_nothing_that_takes_long(self) -> None:
        heavy = "[m for m in ('nats', 'ray', 'cryptography') if m in sys.modules]"
        told = subprocess.check_output([sys.executable, "-c", f"import sys, actors.cli; print({heavy})"], text=True)
        assert told == "[]\n"

    def test_nobody_there_is_one_sentence(self, run: Run) -> None:
        said = run("stages", "--url", "http://127.0.0.1:1")
        assert said.status == 1
        assert said.err.startswith("headrace: no answer from http://127.0.0.1:1")
        assert said.err.count("\n") == 1
