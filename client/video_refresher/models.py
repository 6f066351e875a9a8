"""What control answers, and what a submit may ask for (docs/api.md). Units end names; times are UTC.

A field that this client does not know is kept (`model_extra`), so that a newer control can be used. One
file, since it is one list of small models.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date as Date  # noqa: N812 - a field is called `date`
from datetime import datetime
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict

LIVE = ("queued", "launching", "running")


class Model(BaseModel):
    """Base of all models. A model is built when it is first used, so that the import stays quick."""

    model_config = ConfigDict(extra="allow", defer_build=True)


# --- requests ---------------------------------------------------------------------------------------


class SourceRef(Model):
    """A source of a batch: the id of an uploaded video, or the URL of a video and a name for it.

    `data` is the caller's own: a JSON object of at most 4 KiB that the batch, its manifest and its webhook
    show again. `output_urls` are signed PUT URLs, one for each output: the output is also PUT there.
    """

    source_id: str | None = None
    url: str | None = None
    name: str | None = None
    data: dict[str, Any] | None = None
    output_urls: list[str] | None = None


class SourceFacts(Model):
    """The facts of a video that is not uploaded, for a quote."""

    name: str = "video.mp4"
    size_bytes: int
    duration_s: float
    width: int
    height: int
    frame_rate: float | None = None


class Choices(TypedDict, total=False):
    """What to make of the sources: the fields of `POST /api/batches` beside them. None leaves one out."""

    variations: int | None
    preset: Literal["web-optimized", "hls", "copy", "default"] | None
    seed: int | None
    without: Sequence[str] | None
    strength: float | None
    quality: Literal["standard", "high"] | None
    frame_rate: Literal["29.97", "source"] | None
    name: str | None
    name_template: str | None
    max_machines: int | None
    max_cost_usd: float | None
    deadline_s: float | None
    webhook_url: str | None
    output_url: str | None


# --- uploads ----------------------------------------------------------------------------------------


class Part(Model):
    """A part: the URL to PUT it to, or, once it is stored, its ETag and size."""

    number: int
    url: str | None = None
    etag: str | None = None
    size_bytes: int | None = None


class Upload(Model):
    """The parts of an upload. All but the last have `part_size_bytes`. A completed upload shows none."""

    upload_id: str
    part_size_bytes: int
    parts: list[Part]
    expires_at: datetime
    state: str  # open or completed
    source_id: str | None = None  # once it is completed


class Source(Model):
    """An uploaded video, ready to be used in batches.

    If the answer to the upload was lost, only its id is known. `notes` say what could not be used of it.
    """

    source_id: str
    name: str | None = None
    size_bytes: int | None = None
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    notes: list[str] = []


# --- jobs and batches -------------------------------------------------------------------------------


class Problem(Model):
    """A code and a sentence for people."""

    code: str
    message: str


class Progress(Model):
    """Counts are numbers of outputs. `eta_s` is None until there is enough progress to estimate it."""

    percent: float
    ready: int
    failed: int
    total: int
    eta_s: int | None


class File(Model):
    """One of the files that an output consists of. `name` is its path in the ZIP."""

    name: str
    size_bytes: int
    sha256: str


class Variety(Model):
    """How far an output lies from its source and from its nearest sibling: 0 is equal, 1 black against white.

    The mean difference of small grey pictures. It says nothing about what others take for a copy.
    """

    source: float
    sibling: float | None  # None: the batch has one variation of the source


class Output(Model):
    """One result. Its status is queued, running, ready, failed or cancelled."""

    output_id: str
    name: str
    variation: int  # 0 with a preset
    preset: str | None
    status: str
    percent: float
    size_bytes: int | None
    duration_s: float | None
    sha256: str | None
    effects: dict[str, Any]
    variety: Variety | None = None  # of a ready variation; None where it was not measured
    files: list[File] | None  # of a ready `hls` output
    poster: bool
    error: Problem | None
    delivered: bool | None = None  # whether it was PUT to its own URL too; None: there was none
    delivery_error: str | None = None  # why that failed


class SourceInBatch(Model):
    """A source with its outputs. `width` and `height` are 0 while they are unknown."""

    source_id: str
    name: str
    width: int = 0
    height: int = 0
    status: str
    percent: float
    notes: list[str] = []
    data: dict[str, Any] | None = None
    outputs: list[Output]


class Attempt(Model):
    """One try on one machine. `machine_seconds` grows while it is live."""

    attempt_id: str
    number: int
    state: str
    reason: str | None
    reason_text: str | None
    machine_id: str | None
    app: str
    region: str | None
    size: str
    started_at: datetime | None
    ended_at: datetime | None
    machine_seconds: float
    cost_usd: float
    log_tail: str | None = None


class JobInBatch(Model):
    """A job in its batch."""

    job_id: str
    status: str
    percent: float


class Webhook(Model):
    """The state of the webhook: waiting (for the end), due, delivered, or dead (given up)."""

    state: str
    tries: int
    error: str | None


class Summary(Model):
    """The common fields of jobs and batches, as in lists."""

    batch_id: str
    name: str | None
    source_names: list[str]  # the first three
    sources_count: int
    poster_output_id: str | None
    status: str
    partial: bool
    progress: Progress
    waiting: Problem | None  # why nothing moves
    cost_usd: float
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    error: Problem | None

    @property
    def id(self) -> str:
        """The id of the job or batch."""
        return self.batch_id

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status in LIVE

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for is ready."""
        return self.status == "completed" and not self.partial


class JobSummary(Summary):
    """A job in a list."""

    job_id: str

    @property
    def id(self) -> str:
        """The id of the job."""
        return self.job_id


class BatchSummary(Summary):
    """A batch in a list."""

    seed: int
    shared: bool = False  # whether it has a share link
    jobs: list[JobInBatch]


class Details(Model):
    """The fields of a single job or batch that lists do not have: its settings and contents."""

    variations: int  # of each source; 0 with a preset
    preset: str | None
    without: list[str]
    strength: float
    quality: str
    frame_rate: str
    name_template: str | None = None
    webhook: Webhook | None
    ticket: str
    sources: list[SourceInBatch]
    attempts: list[Attempt]

    @property
    def outputs(self) -> list[Output]:
        """The outputs of all sources."""
        return [output for source in self.sources for output in source.outputs]

    @property
    def is_delivered(self) -> bool:
        """Whether each ready output is at its own URL too, if it has one."""
        return all(output.delivered is not False for output in self.outputs if output.status == "ready")


class Job(Details, JobSummary):
    """A job: the work of one machine."""


class Batch(Details, BatchSummary):
    """A batch: sources times variations, on as many machines as needed."""


class CurvePoint(Model):
    """Time and cost with another number of machines."""

    machines: int
    makespan_s: float
    cost_usd: float


class Quote(Model):
    """The estimated time and cost of a batch. `fits` is False if its results may not fit into the storage."""

    machines: int
    size: str
    makespan_s: float
    cost_usd: float
    cost_low_usd: float | None = None  # the likely range; None while too few jobs have finished
    cost_high_usd: float | None = None
    estimated: bool
    fits: bool
    retention_hours: float | None = None  # of results, after the end; None from an older control
    curve: list[CurvePoint]


class Link(Model):
    """A URL of the ZIP that needs no header, and when it expires."""

    url: str
    expires_at: datetime


class ShareLink(Model):
    """A URL that shows the results of a batch to anyone, and when it expires."""

    url: str
    expires_at: datetime


# --- event streams ----------------------------------------------------------------------------------


class StateEvent(Model):
    """The new status of a job or, without `job_id`, of a batch."""

    batch_id: str
    job_id: str | None
    status: str
    partial: bool
    attempt_id: str | None
    at: datetime


class SourceProgress(Model):
    """The progress of a source."""

    source_id: str
    status: str
    percent: float


class ProgressEvent(Progress):
    """The current progress, and the reason if nothing moves."""

    batch_id: str
    job_id: str | None
    status: str
    waiting: Problem | None
    jobs: list[JobInBatch]
    sources: list[SourceProgress]


# --- money, machines, storage, health ---------------------------------------------------------------


class Day(Model):
    """The cost of the machines that ended on a day (UTC). Live machines count today."""

    date: Date
    machines: int
    machine_seconds: float
    leaked_seconds: float
    egress_bytes: int
    download_bytes: int
    outputs: int
    cost_usd: float


class BatchCost(Model):
    """The cost of a batch in these days. The batch may be deleted."""

    batch_id: str
    machines: int
    outputs: int
    cost_usd: float
    usd_per_output: float | None


class Budget(Model):
    """A cap and the rest of it."""

    cap_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float


class Budgets(Model):
    """The caps of this day and this month; None without one."""

    day: Budget | None
    month: Budget | None


class Costs(Model):
    """Costs: the oldest day first, the most expensive batch first. `leaked_seconds` should be 0."""

    days: list[Day]
    batches: list[BatchCost]
    cost_usd: float
    leaked_seconds: float
    budget: Budgets


class Storage(Model):
    """The used storage and its cap."""

    used_bytes: int
    cap_bytes: int
    percent: float


class Machine(Model):
    """A machine as the cloud shows it now. An orphan belongs to no known attempt."""

    machine_id: str
    name: str
    app: str
    region: str
    state: str
    created_at: datetime
    job_id: str | None
    attempt_id: str | None
    orphan: bool


class Health(Model):
    """The process of control is alive."""

    status: str
    version: str
    active_jobs: int


class Ready(Model):
    """The state of each service that control needs: `ok`, or the problem."""

    ready: bool
    parts: dict[str, str]
