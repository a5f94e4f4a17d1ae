"""Language models that generate: what they all promise, and the ones there are."""

from actors.engines.protocol import Engine, EngineError
from actors.engines.scripted import Scripted
from actors.engines.vllm import Vllm

__all__ = ["Engine", "EngineError", "Scripted", "Vllm"]
