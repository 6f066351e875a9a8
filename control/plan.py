"""From what a user asks for to a batch: which outputs there are, and which job makes which. PURE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from control.names import folders
from control.variations import effects, tag
from runner.contract import Effects, Preset

OUTPUTS_PER_JOB_MAX = 200
OUTPUTS_PER_BATCH_MAX = 10_000
SOURCES_PER_BATCH_MAX = 100
VARIATIONS_MAX = 100


@dataclass(frozen=True, kw_only=True)
class PlannedSource:
    """A source as the plan sees it. `fingerprint` stands for its content."""

    source_id: str
    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class PlannedOutput:
    """An output to be. `name` is its path in the ZIP; of preset `hls` it ends in "/" and is a folder's."""

    output_id: str
    source_id: str
    variation: int  # 0 with a preset
    name: str
    effects: Effects | None  # None with a preset
    preset: Preset | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """A batch to be stored: jobs in order, each with its outputs in order."""

    seed: int
    variations: int  # 0 with a preset
    preset: Preset | None = None
    jobs: Sequence[Sequence[PlannedOutput]]

    @property
    def outputs_count(self) -> int:
        """The number of outputs over all jobs."""
        return sum(len(job) for job in self.jobs)


def plan(
    sources: Sequence[PlannedSource],
    *,
    variations: int = 0,
    preset: Preset | None = None,
    seed: int,
    new_id: Callable[[], str],
) -> PlannedBatch:
    """Return the batch of `variations` outputs of each source, or the `preset` of each, in jobs of a machine.

    Outputs of one source stay together as far as a job's limit lets them.
    """
    placed = list(zip(sources, folders([source.name for source in sources]), strict=True))
    if preset:
        outputs = [_transcode(source, folder, preset, new_id()) for source, folder in placed]
    else:
        outputs = [
            _variation(source, folder, variation, seed, new_id())
            for source, folder in placed
            for variation in range(1, variations + 1)
        ]
    size = OUTPUTS_PER_JOB_MAX  # as few jobs as can be: a caller's `max_machines` is checked by `jobs_count`
    jobs = [outputs[start : start + size] for start in range(0, len(outputs), size)]
    return PlannedBatch(seed=seed, variations=variations, preset=preset, jobs=jobs)


def jobs_count(outputs: int) -> int:
    """Return how many jobs, and so machines at once, a batch of so many outputs has."""
    return -(-outputs // OUTPUTS_PER_JOB_MAX)


def _variation(
    source: PlannedSource, folder: str, variation: int, seed: int, output_id: str
) -> PlannedOutput:
    fingerprint = source.fingerprint
    code = tag(seed=seed, fingerprint=fingerprint, variation=variation)
    return PlannedOutput(
        output_id=output_id,
        source_id=source.source_id,
        variation=variation,
        name=f"{folder}/{folder}_var{variation:02d}_{code}.mp4",
        effects=effects(seed=seed, fingerprint=fingerprint, variation=variation),
    )


def _transcode(source: PlannedSource, folder: str, preset: Preset, output_id: str) -> PlannedOutput:
    return PlannedOutput(
        output_id=output_id,
        source_id=source.source_id,
        variation=0,
        name=f"{folder}/{folder}_{preset}" + ("/" if preset is Preset.HLS else ".mp4"),
        effects=None,
        preset=preset,
    )
