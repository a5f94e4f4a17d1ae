"""The pipeline `analysis` with a scripted engine for a model: to see that its benchmark runs."""

from __future__ import annotations

from dataclasses import replace

from actors.engines import Scripted
from actors.inference import write
from actors.pipeline import Pipeline
from actors.postprocess import polish
from actors.retrieval import retrieve
from actors.tools import call_tools

CHOICE = {"calls": [{"tool": "calculator", "arguments": {"expression": "7 * 45"}}], "then": "answer"}

model = Scripted(says="A tailrace carries the water away. It is 315.", says_structured=lambda asked: CHOICE)
analysis = Pipeline("analysis", retrieve, replace(write, uses=model), call_tools, polish)
