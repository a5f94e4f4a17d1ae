"""What a user declares: stages, and the pipelines that message types make of them."""

from actors.pipeline.job import Job
from actors.pipeline.pipeline import Pipeline, PipelineError
from actors.pipeline.replicas import Replicas
from actors.pipeline.stage import Stage, StageError, stage

__all__ = ["Job", "Pipeline", "PipelineError", "Replicas", "Stage", "StageError", "stage"]
