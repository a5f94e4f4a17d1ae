"""The pipeline `analysis`: retrieve, think, call tools, think again, polish."""

from __future__ import annotations

from actors.inference import write
from actors.pipeline import Pipeline
from actors.postprocess import polish
from actors.retrieval import retrieve
from actors.tools import call_tools

analysis = Pipeline("analysis", retrieve, write, call_tools, polish)
