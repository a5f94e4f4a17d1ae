"""The catalogue: the pipelines of an installation, each in the version that takes new jobs and in older ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from actors.pipeline.pipeline import Pipeline, PipelineError
from actors.pipeline.stage import Stage


class Catalogue(Mapping[str, Pipeline]):
    """Pipelines by name. Of several that share a name, the first takes new jobs; the others finish what began on them.

    Raises PipelineError when two of them cannot be served together.
    """

    def __init__(self, pipelines: Iterable[Pipeline]) -> None:
        self._versions: dict[str, dict[str, Pipeline]] = {}
        self._stages: dict[str, Stage] = {}
        for pipeline in dict.fromkeys(pipelines):
            self._add(pipeline)

    def __getitem__(self, name: str) -> Pipeline:
        return next(iter(self._versions[name].values()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions)

    def __len__(self) -> int:
        return len(self._versions)

    @property
    def stages(self) -> dict[str, Stage]:
        """Every stage of every version, by its topic."""
        return self._stages

    def versions(self, name: str) -> tuple[Pipeline, ...]:
        """The versions of a pipeline; the one that takes new jobs first."""
        return tuple(self._versions.get(name, {}).values())

    def of(self, name: str, version: str) -> Pipeline | None:
        """What a job of this version is run by: that version, or else the newest; None for a name that is not known."""
        return self._versions.get(name, {}).get(version) or self.get(name)

    def having(self, stage: str) -> Catalogue:
        """The pipelines, in all their versions, that a stage of this name stands in."""
        every = (pipeline for versions in self._versions.values() for pipeline in versions.values())
        return Catalogue(pipeline for pipeline in every if stage in {s.name for s in pipeline.stages})

    def _add(self, pipeline: Pipeline) -> None:
        versions = self._versions.setdefault(pipeline.name, {})
        if pipeline.version in versions:
            raise PipelineError(
                f"two pipelines are called {pipeline.name!r}, with the same stages and messages: rename one of them; "
                "or serve only the newer one, which can finish every job of the other"
            )
        for stage in pipeline.stages:
            if self._stages.setdefault(stage.name, stage.whole) is not stage.whole:
                raise PipelineError(
                    f"two stages are called {stage.name!r}; a stage's name is its topic, unique in the installation: "
                    f"rename one of them ({stage.name}_2, where it is a new version), use the same stage in both "
                    f"pipelines, or declare another function of it with @{stage.name}.also"
                )
        versions[pipeline.version] = pipeline
