"""The JSON that clients send and get (contract, section 4). Units end the names; times are RFC 3339 UTC.

Long because it is one list of small shapes, read side by side with the contract.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control.plan import OUTPUTS_PER_BATCH_MAX, SOURCES_PER_BATCH_MAX, VARIATIONS_MAX

NAME_CHARS_MAX = 255
SEED_MAX = 2**63 - 1

# any text but NUL, which PostgreSQL does not store
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^[^\x00]*$")]

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
    """Where to PUT one part."""

    number: int
    url: str


class UploadStarted(BaseModel):
    """Signed URLs, one for each part; every part but the last has `part_size_bytes`."""

    upload_id: str
    part_size_bytes: int
    parts: list[PartUrl]
    expires_at: datetime


class PartDone(Request):
    """The ETag that the bucket answered to a part's PUT, with or without quotes."""

    number: Annotated[int, Field(ge=1)]
    etag: Annotated[str, Field(min_length=1, max_length=255)]


class UploadDone(Request):
    """All parts are in the bucket."""

    parts: Annotated[list[PartDone], Field(min_length=1, max_length=10_000)]


class SourceCreated(BaseModel):
    """A playable video, ready to be used in batches."""

    source_id: str
    name: str
    size_bytes: int
    duration_s: float
    width: int
    height: int


# --- jobs and batches -------------------------------------------------------------------------------


class SourceRef(Request):
    """A source by its id."""

    source_id: Annotated[str, Field(max_length=64)]


class NewJob(Request):
    """What to make: `variations` of each source. The same seed makes the same effects again."""

    sources: Annotated[list[SourceRef], Field(min_length=1, max_length=SOURCES_PER_BATCH_MAX)]
    variations: Annotated[int, Field(ge=1, le=VARIATIONS_MAX)]
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class NewBatch(NewJob):
    """As a job, over as many machines as it takes."""

    __doc__ = f"As a job, over as many machines as it takes; at most {OUTPUTS_PER_BATCH_MAX} outputs."

    max_machines: Annotated[int, Field(ge=1)] | None = None  # at once; None leaves it to us
    # the cheapest plan that is done by then, or the fastest if none is
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class SourceFacts(Request):
    """A video that was not uploaded, as a quote needs to know it."""

    name: Name = "video.mp4"
    size_bytes: Annotated[int, Field(ge=1)]
    duration_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]


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
    """What a batch will take, more or less; less surely when a source is not known yet (`estimated`)."""

    machines: int
    size: str
    makespan_s: float
    cost_usd: float
    estimated: bool
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


class OutputView(BaseModel):
    """One result."""

    output_id: str
    name: str
    variation: int
    status: str
    percent: float
    size_bytes: int | None
    duration_s: float | None
    sha256: str | None
    effects: dict[str, Any]
    error: Problem | None


class SourceView(BaseModel):
    """A source with its outputs."""

    source_id: str
    name: str
    status: str
    percent: float
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


class JobSummary(Summary):
    """A job in a list."""

    job_id: str


class JobInBatch(BaseModel):
    """A job as its batch shows it."""

    job_id: str
    status: str
    percent: float


class BatchSummary(Summary):
    """A batch in a list."""

    seed: int
    jobs: list[JobInBatch]


class Details(BaseModel):
    """What a single job or batch shows beyond its summary."""

    ticket: str
    sources: list[SourceView]
    attempts: list[AttemptView]


class JobView(JobSummary, Details):
    """A job."""


class BatchView(BatchSummary, Details):
    """A batch."""


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


class Budget(BaseModel):
    """A cap, and what is left of it."""

    cap_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float


class Budgets(BaseModel):
    """The caps of this day and this month; null without one."""

    day: Budget | None
    month: Budget | None


class Costs(BaseModel):
    """What was paid for, oldest day first and dearest batch first. `leaked_seconds` should read 0."""

    days: list[Day]
    batches: list[BatchCost]
    cost_usd: float
    leaked_seconds: float
    budget: Budgets


class MachineList(BaseModel):
    """Machines."""

    items: list[MachineView]


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None
