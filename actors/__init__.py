"""Headrace: an event-driven runtime for AI jobs, on Ray and NATS JetStream.

What a user declares comes from here; importing it loads neither Ray nor NATS nor vLLM.
"""

from actors.contracts.errors import NotAnswered, RetryableError, TerminalError
from actors.contracts.generation import Turn, chat
from actors.contracts.messages import Message
from actors.contracts.retry import Retry
from actors.pipeline import (
    CallKey,
    Job,
    Overflow,
    Pipeline,
    PipelineError,
    Replicas,
    Stage,
    StageError,
    Tool,
    ToolError,
    stage,
    tool,
)

__all__ = [
    "CallKey",
    "Job",
    "Message",
    "NotAnswered",
    "Overflow",
    "Pipeline",
    "PipelineError",
    "Replicas",
    "Retry",
    "RetryableError",
    "Stage",
    "StageError",
    "TerminalError",
    "Tool",
    "ToolError",
    "Turn",
    "chat",
    "stage",
    "tool",
]
