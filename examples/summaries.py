"""Summaries of a folder: a job for each text in it, behind everybody else's jobs, and one report at the end.

headrace up --pipeline examples.summaries:summaries
python -m examples.summaries FOLDER > report.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from actors import Job, Message, Pipeline, chat
from actors.client import Headrace
from actors.engines import Engine
from actors.inference import write

MOST = 3_000
"""Characters of a text that are read: what a small model can take."""


class Document(Message):
    name: str
    text: str


class Summary(Message):
    text: str


@write.also  # on the replicas of `write`, so it needs no engine of its own
async def summarise(document: Document, job: Job, engine: Engine) -> Summary:
    asked = f"Summarise this text in one sentence:\n\n{document.text[:MOST]}"
    return Summary(text=await job.speak(engine, chat(asked), max_tokens=80))


summaries = Pipeline("summaries", summarise)


def report(folder: Path, headrace: Headrace) -> str:
    """Summarise every text. The same file is the same job, so what is done is not done again the next time."""
    jobs = {}
    for path in sorted(folder.rglob("*.txt")) + sorted(folder.rglob("*.md")):
        document = Document(name=str(path.relative_to(folder)), text=path.read_text(errors="replace"))
        key = f"summary {document.name} {path.stat().st_mtime_ns}".encode("ascii", "backslashreplace").decode()
        jobs[document.name] = headrace.submit("summaries", document, key=key, lane="batch")
    ended = {name: headrace.wait(job.id) for name, job in jobs.items()}
    said = {name: job.answer["text"] if job.answer else f"({job.status})" for name, job in ended.items()}
    return "\n\n".join(["# Summaries", *(f"## {name}\n\n{text.strip()}" for name, text in said.items())])


if __name__ == "__main__":
    with Headrace() as headrace:
        print(report(Path(sys.argv[1]), headrace))
