"""vLLM's own benchmark client against the ingress, on a real server with real workers: it runs to its end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.engines import smollm2
from tests.installation import ROOT
from tests.nats_servers import Servers
from tests.pipelines import TALKS, talker
from tests.serving import listening, settings_for, until_ready, working

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

SERVE = """
from argparse import ArgumentParser
from vllm.benchmarks.serve import add_cli_args, main

parser = ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""`vllm bench serve`, without the command around it, which does not start where vLLM's build for CPUs is installed."""

PROMPTS, TOKENS = 12, 8
SPOKEN = "and " * TOKENS


async def benchmark(url: str, folder: Path, *flags: str) -> dict[str, Any]:
    """What `vllm bench serve` has measured when it has ended, with a real tokenizer."""
    tokenizer = str(smollm2.prepare(ROOT / ".headrace" / "models"))
    said = ["--model", "chat", "--tokenizer", tokenizer, "--base-url", url, "--disable-tqdm"]
    asked = ["--dataset-name", "random", "--random-input-len", "20", "--random-output-len", str(TOKENS)]
    kept = ["--num-prompts", str(PROMPTS), "--save-result", "--result-dir", str(folder), "--result-filename", "r.json"]
    program = [sys.executable, "-c", SERVE, *said, *asked, *kept, *flags]
    process = await asyncio.create_subprocess_exec(
        *program,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()[-4_000:]
    found: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return found


@pytest.mark.long
async def test_vllms_benchmark_runs_to_its_end_and_gets_all_that_it_asked_for(
    r1: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talker, "says", SPOKEN)
    settings = settings_for(r1).model_copy(update={"pipelines": TALKS})
    async with listening(settings) as url, httpx.AsyncClient(base_url=url) as http, working(settings, "talk"):
        await until_ready(http)
        chat = ("--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--ignore-eos")
        result = await benchmark(url, tmp_path, *chat)
    assert (result["completed"], result.get("failed", 0)) == (PROMPTS, 0)
    assert result["total_output_tokens"] == PROMPTS * TOKENS
    assert result["mean_ttft_ms"] > 0
