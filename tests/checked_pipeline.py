"""The example `checked`, with a model to check that is there without a hub: tiny, and its weights are random."""

from __future__ import annotations

from dataclasses import replace

from actors import Pipeline
from actors.engines import Vllm
from examples import checked as example
from tests.installation import ROOT
from tests.tiny_model import CONTEXT

CHECKER = ROOT / ".headrace" / "models" / "tiny"
"""Where whoever starts it makes the model."""

check = replace(example.check, uses=Vllm(str(CHECKER), max_model_len=CONTEXT, dtype="float32", kv_cache_gib=0.25))
checked = Pipeline("checked", example.draft, check)
