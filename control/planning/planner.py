"""Turns a request into a batch: its outputs, and the job that makes each of them. PURE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from control.domain.effects import ALL_EFFECTS, EffectChoice, effects, tag
from control.domain.encoding import STANDARD, Encoding
from control.domain.filenames import folders
from control.domain.name_template import NameTemplate, require_different
from control.planning.schedule import Capacity, Schedule, choose, schedules
from control.planning.workload import UNKNOWN_SOURCE, SourceInfo, work_units
from runner.contract import Effects, Preset

OUTPUTS_PER_JOB_MAX = 200
OUTPUTS_PER_BATCH_MAX = 10_000
SOURCES_PER_BATCH_MAX = 100
VARIATIONS_MAX = 100

FEWEST = Capacity(sizes=("performance-1x",), machines_max=1, jobs_max=1)  # the fewest jobs that are possible


@dataclass(frozen=True, kw_only=True)
class PlannedSource:
    """A source as the plan sees it. Equal content has an equal `fingerprint`."""

    source_id: str
    name: str
    fingerprint: str
    source_info: SourceInfo = UNKNOWN_SOURCE
    sides: tuple[int, int] | None = None  # width and height; None: unknown


@dataclass(frozen=True, kw_only=True)
class Naming:
    """A user's template for the names of outputs, and the day of the submit (UTC)."""

    template: NameTemplate
    day: date


@dataclass(frozen=True, kw_only=True)
class PlannedOutput:
    """An output to make. `name` is its path in the ZIP; for preset `hls` that is a folder and ends in "/"."""

    output_id: str
    source_id: str
    variation: int  # 0 with a preset
    name: str
    effects: Effects | None  # None with a preset
    preset: Preset | None = None
    position: int = 0  # within the batch; outputs with equal positions keep their order


@dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """A batch to store: jobs in launch order, each with its outputs in order."""

    seed: int
    variations: int  # 0 with a preset
    preset: Preset | None = None
    jobs: Sequence[Sequence[PlannedOutput]]
    schedule: Schedule | None = None  # time and cost of each job; its assignments are in the order of `jobs`
    curve: Sequence[Schedule] = ()  # the same machine size with more and with fewer machines
    max_cost_usd: float | None = None  # the budget of this batch
    name: str | None = None  # that the user gave it
    choice: EffectChoice = ALL_EFFECTS
    encoding: Encoding = STANDARD
    name_template: str | None = None

    @property
    def outputs_count(self) -> int:
        """The number of outputs over all jobs."""
        return sum(len(job) for job in self.jobs)

    @property
    def room_bytes(self) -> float:
        """The storage that is reserved for all outputs."""
        return (
            sum(assignment.room_bytes for assignment in self.schedule.assignments) if self.schedule else 0.0
        )


def plan(
    sources: Sequence[PlannedSource],
    *,
    variations: int = 0,
    preset: Preset | None = None,
    seed: int,
    new_id: Callable[[], str],
    capacity: Capacity = FEWEST,
    sends: int = 1,
    deadline_s: float | None = None,
    max_cost_usd: float | None = None,
    name: str | None = None,
    choice: EffectChoice = ALL_EFFECTS,
    encoding: Encoding = STANDARD,
    naming: Naming | None = None,
) -> PlannedBatch:
    """Return the batch of `variations` outputs of each source, or of the `preset` of each, split into jobs.

    One job is for one machine. `choose` picks the schedule; when none meets the deadline and the cost limit,
    it picks the best one anyway. `sends` is the number of places that each output goes to: the bucket, and
    the URL of a user. `variations` must not be larger than `choice.distinct_max`. Raises NameRefused if
    `naming` cannot give each output a name of its own.
    """
    placed = list(zip(sources, folders([source.name for source in sources]), strict=True))
    if preset:
        outputs = [_transcode(source, folder, preset, seed, new_id(), naming) for source, folder in placed]
    else:
        outputs = [
            _variation(source, folder, variation, seed, new_id(), choice, naming)
            for source, folder in placed
            for variation in range(1, variations + 1)
        ]
    if naming:
        require_different(output.name for output in outputs)
    numbers = {source.source_id: number for number, source in enumerate(sources)}
    asked = [(numbers[output.source_id], output.effects) for output in outputs]
    seen = [source.source_info for source in sources]
    ways = schedules(work_units(asked, seen, sends=sends, encoding=encoding), capacity)
    chosen = choose(ways, deadline_s=deadline_s, max_cost_usd=max_cost_usd)
    return PlannedBatch(
        seed=seed,
        variations=variations,
        preset=preset,
        jobs=[
            [replace(outputs[index], position=index) for index in assignment.outputs]
            for assignment in chosen.assignments
        ],
        schedule=chosen,
        curve=[way for way in ways if way.size == chosen.size],
        max_cost_usd=max_cost_usd,
        name=name,
        choice=choice,
        encoding=encoding,
        name_template=naming.template.text if naming else None,
    )


def jobs_count(outputs: int) -> int:
    """Return the smallest number of jobs, and so of machines, that a batch of this many outputs needs."""
    return -(-outputs // OUTPUTS_PER_JOB_MAX)


def _variation(
    source: PlannedSource,
    folder: str,
    variation: int,
    seed: int,
    output_id: str,
    choice: EffectChoice,
    naming: Naming | None,
) -> PlannedOutput:
    fingerprint = source.fingerprint
    number, code = f"{variation:02d}", tag(seed=seed, fingerprint=fingerprint, variation=variation)
    file = f"{folder}_var{number}_{code}"
    if naming:
        file = _by_template(naming, source, folder, seed, n=number, tag=code)
    return PlannedOutput(
        output_id=output_id,
        source_id=source.source_id,
        variation=variation,
        name=f"{folder}/{file}.mp4",
        effects=effects(seed=seed, fingerprint=fingerprint, variation=variation, choice=choice),
    )


def _transcode(
    source: PlannedSource, folder: str, preset: Preset, seed: int, output_id: str, naming: Naming | None
) -> PlannedOutput:
    file = _by_template(naming, source, folder, seed) if naming else f"{folder}_{preset}"
    return PlannedOutput(
        output_id=output_id,
        source_id=source.source_id,
        variation=0,
        name=f"{folder}/{file}" + ("/" if preset is Preset.HLS else ".mp4"),
        effects=None,
        preset=preset,
    )


def _by_template(naming: Naming, source: PlannedSource, folder: str, seed: int, **own: str) -> str:
    values = {"source": folder, "seed": str(seed), "date": naming.day.isoformat(), **own}
    if source.sides:
        values["width"], values["height"] = map(str, source.sides)
    return naming.template.file_name(values)
