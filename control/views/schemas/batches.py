"""The JSON that clients send and receive (docs/api.md). Names end with their unit; times are RFC 3339 in UTC.

Long because it is one list of small models.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from control.domain.effect_names import EFFECT_NAMES, STRENGTH_MIN, EffectName
from control.domain.effects import EffectChoice
from control.domain.encoding import Encoding
from control.planning.planner import OUTPUTS_PER_BATCH_MAX, SOURCES_PER_BATCH_MAX, VARIATIONS_MAX
from infra.outbound import URL_CHARS_MAX
from runner.contract import FrameRate, Preset, Quality
from runner.media import SOURCE_S_MAX, SOURCE_SIDE_MAX

NAME_CHARS_MAX = 255
BATCH_NAME_CHARS_MAX = 100
SEED_MAX = 2**63 - 1
# Limits of numbers that quotes calculate with; without them a result could be infinite or no number.
BYTES_MAX, SECONDS_MAX, PIXELS_MAX = 2**53 - 1, 1e9, 2**16

# any text without NUL, which PostgreSQL cannot store
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^[^\x00]*$")]

BatchName = Annotated[
    str, StringConstraints(min_length=1, max_length=BATCH_NAME_CHARS_MAX, pattern=r"^[^\x00]*$")
]


def _some_are_left(without: list[EffectName]) -> list[EffectName]:
    if len(set(without)) != len(without):
        raise ValueError("name each effect once")
    if len(without) == len(EFFECT_NAMES):
        raise ValueError("leave at least one of the eight effects in")
    return without


Without = Annotated[
    list[EffectName],
    AfterValidator(_some_are_left),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "enum": list(EFFECT_NAMES)},
            "uniqueItems": True,
            "maxItems": len(EFFECT_NAMES) - 1,
        }
    ),
]
Strength = Annotated[float, Field(ge=STRENGTH_MIN, le=1, allow_inf_nan=False)]

Url = Annotated[str, StringConstraints(min_length=1, max_length=URL_CHARS_MAX)]

# RFC 9110, 8.3.1: type, subtype, parameters; or empty, which is refused later as no video
ContentType = Annotated[
    str, Field(max_length=255, pattern=r"^([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *;[ -~]*)?)?$")
]


class Request(BaseModel):
    """Base of requests. An unknown field is refused: to ignore it would hide a mistake of the client."""

    model_config = ConfigDict(extra="forbid", strict=True)


_SOURCE = {"source_id": "src_0123456789abcdef0123456789abcdef"}
_FACTS = {"name": "ad.mp4", "size_bytes": 20_971_520, "duration_s": 15.0, "width": 1080, "height": 1920}


def _like(example: dict[str, Any]) -> ConfigDict:
    """Return the configuration of a request model with this example for the OpenAPI document."""
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [example]})


# --- auth, health -----------------------------------------------------------------------------------


class Login(Request):
    """The shared password."""

    model_config = _like({"password": "correct horse battery staple"})

    password: Annotated[str, Field(max_length=1024)]


class Token(BaseModel):
    """A bearer token and the time when it expires."""

    token: str
    expires_at: datetime


class Health(BaseModel):
    """The process is alive."""

    status: str
    version: str
    active_jobs: int


class Ready(BaseModel):
    """The state of each service that control needs: `ok`, or the problem."""

    ready: bool
    parts: dict[str, str]


# --- uploads ----------------------------------------------------------------------------------------


class NewUpload(Request):
    """A file to upload."""

    model_config = _like({"name": "ad.mp4", "size_bytes": 20_971_520, "content_type": "video/mp4"})

    name: Name
    size_bytes: Annotated[int, Field(ge=0)]
    content_type: ContentType


class PartUrl(BaseModel):
    """A part: the URL to PUT it to, or, once it is stored, its ETag and size."""

    number: int
    url: str | None = None
    etag: str | None = None
    size_bytes: int | None = None


class UploadStarted(BaseModel):
    """The parts of an upload. All but the last have `part_size_bytes`. A completed upload shows none."""

    upload_id: str
    part_size_bytes: int
    parts: list[PartUrl]
    expires_at: datetime
    state: str  # open or completed
    source_id: str | None = None  # once it is completed


class PartDone(Request):
    """The ETag from the answer of the bucket to the PUT of a part, with or without quotes."""

    number: Annotated[int, Field(ge=1)]
    etag: Annotated[str, Field(min_length=1, max_length=255)]


class UploadDone(Request):
    """All parts are in the bucket."""

    model_config = _like({"parts": [{"number": 1, "etag": "9b2cf535f27731c974343645a3985328"}]})

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
    """A source: the id of an uploaded video, or the URL of a video and a name for it.

    Without a name the last part of the path of the URL is used.
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

    model_config = _like({"sources": [_SOURCE], "variations": 10, "without": ["mirror"], "name": "Spring"})

    sources: Annotated[list[SourceRef], Field(min_length=1, max_length=SOURCES_PER_BATCH_MAX)]
    variations: Annotated[int, Field(ge=1, le=VARIATIONS_MAX)] | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    output_url: Url | None = None  # only with exactly one output, which is also PUT there
    webhook_url: Url | None = None  # gets a signed request at the end
    preset: Literal["web-optimized", "hls", "copy", "default"] | None = None  # `default` is `copy`
    name: BatchName | None = None  # people find the batch by it; also the name of the ZIP
    without: Without = []  # effects that are left out
    strength: Strength = 1.0  # of the other effects: 1 is their whole range
    quality: Quality = "standard"
    frame_rate: FrameRate = "29.97"

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.variations is None) == (self.preset is None):
            raise ValueError("give either variations or a preset")
        if self.preset is not None and (self.choice, self.encoding) != (EffectChoice(), Encoding()):
            raise ValueError("without, strength, quality and frame_rate are for variations, not for a preset")
        return self

    @property
    def choice(self) -> EffectChoice:
        """The effects that are used, and their strength."""
        return EffectChoice(tuple(self.without), self.strength)

    @property
    def encoding(self) -> Encoding:
        """How variations are encoded."""
        return Encoding(quality=self.quality, frame_rate=self.frame_rate)

    @property
    def recipe(self) -> Preset | None:
        """The preset, or None for variations."""
        return Preset("copy" if self.preset == "default" else self.preset) if self.preset else None

    @property
    def outputs_count(self) -> int:
        """The number of outputs of all sources."""
        return (self.variations or 1) * len(self.sources)


class NewBatch(NewJob):
    """Like a job, on as many machines as needed."""

    __doc__ = f"Like a job, on as many machines as needed; at most {OUTPUTS_PER_BATCH_MAX} outputs."

    model_config = _like({"sources": [_SOURCE], "variations": 50, "name": "Spring", "max_cost_usd": 2.5})

    max_machines: Annotated[int, Field(ge=1)] | None = None  # at once; None: control decides
    # use the cheapest plan that meets it, or the fastest if none does
    deadline_s: Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)] | None = None


class SourceFacts(Request):
    """The facts of a video that is not uploaded, for a quote."""

    name: Name = "video.mp4"
    size_bytes: Annotated[int, Field(ge=1, le=BYTES_MAX)]
    duration_s: Annotated[float, Field(gt=0, le=SOURCE_S_MAX, allow_inf_nan=False)]
    width: Annotated[int, Field(ge=1, le=SOURCE_SIDE_MAX)]
    height: Annotated[int, Field(ge=1, le=SOURCE_SIDE_MAX)]


class NewQuote(NewBatch):
    """Like a batch. A source may also be described by its facts, so that nothing must be uploaded."""

    model_config = _like({"sources": [_FACTS], "variations": 50, "quality": "high"})

    sources: Annotated[  # type: ignore[assignment]
        list[SourceRef | SourceFacts], Field(min_length=1, max_length=SOURCES_PER_BATCH_MAX)
    ]


class CurvePoint(BaseModel):
    """Time and cost with another number of machines."""

    machines: int
    makespan_s: float
    cost_usd: float


class Quote(BaseModel):
    """The estimated time and cost of a batch. `estimated`: a source or its frame rate is still unknown.

    `fits` is false if the results may not fit into the storage now. A submit is a 507 then.
    """

    machines: int
    size: str
    makespan_s: float
    cost_usd: float
    estimated: bool
    fits: bool
    curve: list[CurvePoint]


class Progress(BaseModel):
    """Counts are numbers of outputs. `eta_s` is null until there is enough progress to estimate it."""

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
    files: list[FileView] | None  # of a ready `hls` output, which is a folder with two files
    poster: bool  # whether there is one at `/api/outputs/{output_id}/poster`
    error: Problem | None
    delivery_error: str | None = None  # why the PUT to `output_url` failed


class LinkWanted(Request):
    """The outputs of a download link; without `output_ids` all."""

    model_config = _like({"output_ids": ["out_0123456789abcdef0123456789abcdef"]})

    output_ids: (
        Annotated[
            list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=OUTPUTS_PER_BATCH_MAX)
        ]
        | None
    ) = None


class DownloadLink(BaseModel):
    """A URL of the ZIP that needs no header, and when it expires."""

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
    """One try on one machine. `machine_seconds` grows while it is live."""

    attempt_id: str
    number: int
    state: str
    reason: str | None
    reason_text: str | None  # for people
    machine_id: str | None
    app: str
    region: str | None
    size: str
    started_at: datetime | None
    ended_at: datetime | None
    machine_seconds: float
    cost_usd: float


class Summary(BaseModel):
    """The common fields of jobs and batches, as in lists. `name` is that of the batch."""

    batch_id: str
    name: str | None
    source_names: list[str]  # the first three
    sources_count: int
    poster_output_id: str | None  # the first output that has a poster
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
    """The id of a job."""

    job_id: str


class JobSummary(Summary, Named):
    """A job in a list."""


class JobInBatch(BaseModel):
    """A job in its batch."""

    job_id: str
    status: str
    percent: float


class BatchSummary(Summary):
    """A batch in a list."""

    seed: int
    jobs: list[JobInBatch]


class WebhookView(BaseModel):
    """The state of the webhook: waiting (for the end), due, delivered, or dead (given up)."""

    state: str
    tries: int
    error: str | None


class Details(BaseModel):
    """The fields of a single job or batch that lists do not have: its settings and contents."""

    variations: int  # of each source; 0 with a preset
    preset: str | None
    without: list[EffectName]
    strength: float
    quality: Quality
    frame_rate: FrameRate
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
    """`state`, and at the end `end`: the new status of a job or, without `job_id`, of a batch."""

    batch_id: str
    job_id: str | None
    status: str
    partial: bool
    attempt_id: str | None
    at: datetime


class SourceProgress(BaseModel):
    """The progress of a source."""

    source_id: str
    status: str
    percent: float


class ProgressEvent(Progress):
    """`progress`: the current progress, and the reason if nothing moves."""

    batch_id: str
    job_id: str | None
    status: str
    waiting: Problem | None
    jobs: list[JobInBatch]
    sources: list[SourceProgress]


# --- machines, storage, lists -----------------------------------------------------------------------


class StorageView(BaseModel):
    """The used storage and its cap."""

    used_bytes: int
    cap_bytes: int
    percent: float


class MachineView(BaseModel):
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


class Day(BaseModel):
    """The cost of the machines that ended on a day (UTC). Live machines count today."""

    date: date
    machines: int
    machine_seconds: float
    leaked_seconds: float
    egress_bytes: int
    download_bytes: int
    outputs: int
    cost_usd: float


class BatchCost(BaseModel):
    """The cost of a batch in these days. The batch may be deleted."""

    batch_id: str
    machines: int
    outputs: int
    cost_usd: float
    usd_per_output: float | None


class BudgetView(BaseModel):
    """A cap and the rest of it."""

    cap_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float


class BudgetsView(BaseModel):
    """The caps of this day and this month; null without one."""

    day: BudgetView | None
    month: BudgetView | None


class Costs(BaseModel):
    """Costs: the oldest day first, the most expensive batch first. `leaked_seconds` should be 0."""

    days: list[Day]
    batches: list[BatchCost]
    cost_usd: float
    leaked_seconds: float
    budget: BudgetsView


class MachineList(BaseModel):
    """Machines as Fly last showed them. `observed_at` is null before its first answer."""

    items: list[MachineView]
    observed_at: datetime | None


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None
