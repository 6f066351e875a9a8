"""The JSON that clients send and get (contract, section 4). Units end the names; times are RFC 3339 UTC.

Long because it is one list of small shapes, read side by side with the contract.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from control.planning.planner import OUTPUTS_PER_BATCH_MAX, SOURCES_PER_BATCH_MAX, VARIATIONS_MAX
from infra.outbound import URL_CHARS_MAX
from runner.contract import Preset
from runner.media import SOURCE_S_MAX, SOURCE_SIDE_MAX

NAME_CHARS_MAX = 255
SEED_MAX = 2**63 - 1
# What is reckoned with has an end, or a quote would be infinite, or no number at all.
BYTES_MAX, SECONDS_MAX, PIXELS_MAX = 2**53 - 1, 1e9, 2**16

# any text but NUL, which PostgreSQL does not store
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^[^\x00]*$")]

Url = Annotated[str, StringConstraints(min_length=1, max_length=URL_CHARS_MAX)]

# RFC 9110, 8.3.1: type, subtype, parameters; or nothing, which is no video, as all else that is none
ContentType = Annotated[
    str, Field(max_length=255, pattern=r"^([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *;[ -~]*)?)?$")
]


class Request(BaseModel):
    """Base of what clients send. A field that we do not know is refused: ignoring it would be a lie."""

    model_config = ConfigDict(extra="forbid", strict=True)


# --- auth, health -----------------------------------------------------------------------------------


class Login(Request):
    """The shared password."""

    password: Annotated[str, Field(max_length=1024)]


class Token(BaseModel):
    """A bearer token and when it ends."""

    token: str
    expires_at: datetime


class Health(BaseModel):
    """The process lives."""

    status: str
    version: str
    active_jobs: int


class Ready(BaseModel):
    """Whether each outside part answers: `ok`, or what is wrong."""

    ready: bool
    parts: dict[str, str]


# --- uploads ----------------------------------------------------------------------------------------


class NewUpload(Request):
    """A file about to be uploaded."""

    name: Name
    size_bytes: Annotated[int, Field(ge=0)]
    content_type: ContentType


class PartUrl(BaseModel):
    """A part: where to PUT it, or, once it is stored, its ETag and size instead."""

    number: int
    url: str | None = None
    etag: str | None = None
    size_bytes: int | None = None


class UploadStarted(BaseModel):
    """The parts of an upload; every one but the last has `part_size_bytes`. A completed one shows none."""

    upload_id: str
    part_size_bytes: int
    parts: list[PartUrl]
    expires_at: datetime
    state: str  # open or completed
    source_id: str | None = None  # once it is completed


class PartDone(Request):
    """The ETag that the bucket answered to a part's PUT, with or without quotes."""

    number: Annotated[int, Field(ge=1)]
    etag: Annotated[str, Field(min_length=1, max_length=255)]


class UploadDone(Request):
    """All parts are in the bucket."""

    parts: Annotated[list[PartDone], Field(min_length=1, max_length=10_000)]


class SourceCreated(BaseModel):
    """A playable video, ready to be used in batches. `notes` say what could not be used of it."""

    source_id: str
    name: str
    size_bytes: int
    duration_s: float
    width: int
    height: int
    notes: list[str] = []


# --- jobs and batches -------------------------------------------------------------------------------


class SourceRef(Request):
    """A source: an uploaded one by its id, or a URL that gives the video and the name it is to have here.

    Without a name the last part of the URL's path is taken.
    """

    source_id: Annotated[str, Field(max_length=64)] | None = None
    url: Url | None = None
    name: Name | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> SourceRef:
        if (self.source_id is None) == (self.url is None):
            raise ValueError("name either a source_id or a url")
        if self.source_id is not None and self.name is not None:
            raise ValueError("an uploaded source has its name already")
        return self


class NewJob(Request):
    """What to make of each source: `variations`, or a `preset`. The same seed makes the same effects."""

    sources: Annotated[list[SourceRef], Field(min_length=1, max_length=SOURCES_PER_BATCH_MAX)]
    variations: Annotated[int, Field(ge=1, le=VARIATIONS_MAX)] | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    output_url: Url | None = None  # with exactly one output: it is PUT there too
    webhook_url: Url | None = None  # is told the end, signed
    preset: Literal["web-optimized", "hls", "copy", "default"] | None = None  # `default` is `copy`

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.variations is None) == (self.preset is None):
            raise ValueError("give either variations or a preset")
        return self

    @property
    def recipe(self) -> Preset | None:
        """The preset that is made, if it is one."""
        return Preset("copy" if self.preset == "default" else self.preset) if self.preset else None

    @property
    def outputs_count(self) -> int:
        """The number of outputs of all sources."""
        return (self.variations or 1) * len(self.sources)


class NewBatch(NewJob):
    """As a job, over as many machines as it takes."""

    __doc__ = f"As a job, over as many machines as it takes; at most {OUTPUTS_PER_BATCH_MAX} outputs."

    max_machines: Annotated[int, Field(ge=1)] | None = None  # at once; None leaves it to us
    # the cheapest plan that is done by then, or the fastest if none is
    deadline_s: Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)] | None = None


class SourceFacts(Request):
    """A video that was not uploaded, as a quote needs to know it."""

    name: Name = "video.mp4"
    size_bytes: Annotated[int, Field(ge=1, le=BYTES_MAX)]
    duration_s: Annotated[float, Field(gt=0, le=SOURCE_S_MAX, allow_inf_nan=False)]
    width: Annotated[int, Field(ge=1, le=SOURCE_SIDE_MAX)]
    height: Annotated[int, Field(ge=1, le=SOURCE_SIDE_MAX)]


class NewQuote(NewBatch):
    """As a batch; a source may also be described, so that nothing needs to be uploaded to be quoted."""

    sources: Annotated[  # type: ignore[assignment]
        list[SourceRef | SourceFacts], Field(min_length=1, max_length=SOURCES_PER_BATCH_MAX)
    ]


class CurvePoint(BaseModel):
    """What it would be with another number of machines."""

    machines: int
    makespan_s: float
    cost_usd: float


class Quote(BaseModel):
    """What a batch will take, more or less; less surely when a source is not known yet (`estimated`).

    `fits` is false when its results may not fit into the storage now: then a submit is a 507.
    """

    machines: int
    size: str
    makespan_s: float
    cost_usd: float
    estimated: bool
    fits: bool
    curve: list[CurvePoint]


class Progress(BaseModel):
    """Counts are of outputs. `eta_s` is null until there is something to reckon with."""

    percent: float
    ready: int
    failed: int
    total: int
    eta_s: int | None


class Problem(BaseModel):
    """A code and a sentence for people."""

    code: str
    message: str


class FileView(BaseModel):
    """One of the files that an output consists of. `name` is its path in the ZIP."""

    name: str
    size_bytes: int
    sha256: str


class OutputView(BaseModel):
    """One result. `size_bytes` and `sha256` of an `hls` output are those of its media file."""

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
    files: list[FileView] | None  # of a ready `hls` output, which is a folder of two
    poster: bool  # whether there is one at `/api/outputs/{output_id}/poster`
    error: Problem | None
    delivery_error: str | None = None  # why `output_url` did not take it


class DownloadLink(BaseModel):
    """Where a browser gets the ZIP without a header, until then."""

    url: str
    expires_at: datetime


class SourceView(BaseModel):
    """A source with its outputs. `notes` say what could not be used of it."""

    source_id: str
    name: str
    status: str
    percent: float
    notes: list[str] = []
    outputs: list[OutputView]


class AttemptView(BaseModel):
    """One try on one machine. `machine_seconds` rises while it lives."""

    attempt_id: str
    number: int
    state: str
    reason: str | None
    machine_id: str | None
    app: str
    region: str | None
    size: str
    started_at: datetime | None
    ended_at: datetime | None
    machine_seconds: float
    cost_usd: float


class Summary(BaseModel):
    """What jobs and batches have in common, as lists show it."""

    batch_id: str
    status: str
    partial: bool
    progress: Progress
    waiting: Problem | None
    cost_usd: float
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    error: Problem | None


class Named(BaseModel):
    """What a job's JSON begins with."""

    job_id: str


class JobSummary(Summary, Named):
    """A job in a list."""


class JobInBatch(BaseModel):
    """A job as its batch shows it."""

    job_id: str
    status: str
    percent: float


class BatchSummary(Summary):
    """A batch in a list."""

    seed: int
    jobs: list[JobInBatch]


class WebhookView(BaseModel):
    """Whether `webhook_url` has been told: waiting (for the end), due, delivered, or dead: given up."""

    state: str
    tries: int
    error: str | None


class Details(BaseModel):
    """What a single job or batch shows beyond its summary."""

    webhook: WebhookView | None
    ticket: str
    sources: list[SourceView]
    attempts: list[AttemptView]


class JobView(Details, JobSummary):
    """A job."""


class BatchView(Details, BatchSummary):
    """A batch."""


# --- event streams ----------------------------------------------------------------------------------


class StateEvent(BaseModel):
    """`state`, and at the end `end`: the status that a job (or, without `job_id`, a batch) has taken on."""

    batch_id: str
    job_id: str | None
    status: str
    partial: bool
    attempt_id: str | None
    at: datetime


class SourceProgress(BaseModel):
    """How far a source is."""

    source_id: str
    status: str
    percent: float


class ProgressEvent(Progress):
    """`progress`: how far all is now, and why nothing moves."""

    batch_id: str
    job_id: str | None
    status: str
    waiting: Problem | None
    jobs: list[JobInBatch]
    sources: list[SourceProgress]


# --- machines, storage, lists -----------------------------------------------------------------------


class StorageView(BaseModel):
    """What the bucket holds for us, and how much it may."""

    used_bytes: int
    cap_bytes: int
    percent: float


class MachineView(BaseModel):
    """A machine of ours as the cloud shows it now. An orphan belongs to no attempt that we know."""

    machine_id: str
    name: str
    app: str
    region: str
    state: str
    created_at: datetime
    job_id: str | None
    attempt_id: str | None
    orphan: bool


class Day(BaseModel):
    """What machines cost that were settled on a day (UTC), or that live, on today's."""

    date: date
    machines: int
    machine_seconds: float
    leaked_seconds: float
    egress_bytes: int
    download_bytes: int
    outputs: int
    cost_usd: float


class BatchCost(BaseModel):
    """What a batch has cost in these days; it may be deleted by now."""

    batch_id: str
    machines: int
    outputs: int
    cost_usd: float
    usd_per_output: float | None


class BudgetView(BaseModel):
    """A cap, and what is left of it."""

    cap_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float


class BudgetsView(BaseModel):
    """The caps of this day and this month; null without one."""

    day: BudgetView | None
    month: BudgetView | None


class Costs(BaseModel):
    """What was paid for, oldest day first and dearest batch first. `leaked_seconds` should read 0."""

    days: list[Day]
    batches: list[BatchCost]
    cost_usd: float
    leaked_seconds: float
    budget: BudgetsView


class MachineList(BaseModel):
    """Machines, as Fly last showed them; null before its first answer to this process."""

    items: list[MachineView]
    observed_at: datetime | None


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None
