"""What a user declares: stages, and the pipelines that message types make of them."""

from actors.pipeline.catalogue import Catalogue
from actors.pipeline.job import Job
from actors.pipeline.overflow import Overflow
from actors.pipeline.pipeline import Pipeline, PipelineError
from actors.pipeline.replicas import Replicas
from actors.pipeline.stage import Stage, StageError, stage
from actors.pipeline.tool import CallKey, Tool, ToolDeclarationError, ToolError, tool

__all__ = [
    "CallKey",
    "Catalogue",
    "Job",
    "Overflow",
    "Pipeline",
    "PipelineError",
    "Replicas",
    "Stage",
    "StageError",
    "Tool",
    "ToolDeclarationError",
    "ToolError",
    "stage",
    "tool",
]
