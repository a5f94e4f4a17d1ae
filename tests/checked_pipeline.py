"""The example `checked`, with a model to check that is there without a hub: tiny, and its weights are random."""

from __future__ import annotations

from dataclasses import replace

from actors import Pipeline, Replicas
from actors.engines import Vllm
from examples import checked as example
from tests.installation import ROOT
from tests.tiny_model import CONTEXT

CHECKER = ROOT / ".headrace" / "models" / "tiny"
"""Where whoever starts it makes the model."""

tiny = Vllm(str(CHECKER), max_model_len=CONTEXT, dtype="float32", kv_cache_gib=0.25)
check = replace(example.check, uses=tiny, replicas=Replicas(min=0, max=1))  # so that a start waits for one engine only
checked = Pipeline("checked", example.draft, check)
