"""The database tables. No behaviour: `store` changes rows, `views` turns them into what clients see.

All times are timezone-aware UTC. Only `store` writes rows, and only `store` assigns a state.

One file, since the tables refer to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, Column, Index, MetaData, UniqueConstraint
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
).naming_convention


class Row(SQLModel):
    """Base of all tables. Rows are never validated, so no validators are built: 80 ms of a start."""

    model_config = {"defer_build": True}

    def __init__(self, **columns: Any) -> None:
        """Make a row of these columns; others get their defaults. SQLModel's own takes much more CPU."""
        constants, made = _defaults(type(self))
        vars(self).update(constants)
        vars(self).update({name: make() for name, make in made.items() if name not in columns})
        vars(self).update(columns)

    if not TYPE_CHECKING:  # so that mypy knows the columns

        def __setattr__(self, name: str, value: Any) -> None:
            """Set a column. SQLAlchemy notes the change; pydantic, which validates nothing here, is not told.

            Raises AttributeError for a name that is no column.
            """
            if name not in self.__pydantic_fields__ and name != "_sa_instance_state":
                raise AttributeError(f"{type(self).__name__} has no column {name}")
            object.__setattr__(self, name, value)


@cache
def _defaults(table: type[Row]) -> tuple[Mapping[str, Any], Mapping[str, Callable[[], Any]]]:
    """Return the defaults of a table's columns: those that are constants, and those that are made anew."""
    fields = {name: field for name, field in table.model_fields.items() if not field.is_required()}
    made: dict[str, Any] = {
        name: field.default_factory for name, field in fields.items() if field.default_factory
    }
    return {name: field.default for name, field in fields.items() if name not in made}, made


class Meta(Row, table=True):
    """Values that belong to this control itself: its owner id, the generation of its tokens."""

    key: str = Field(primary_key=True)
    value: str


class Upload(Row, table=True):
    """A multipart upload of a client. When it is completed, a Source is made from it."""

    id: str = Field(primary_key=True)
    name: str
    content_type: str
    size_bytes: int = Field(sa_type=BigInteger)
    key: str
    multipart_id: str
    part_size_bytes: int
    state: str  # open, completed, refused, aborted
    source_id: str | None = None
    refusal: str | None = None
    created_at: datetime
    expires_at: datetime


class Source(Row, table=True):
    """A video: an uploaded file in the bucket, or a user's URL, which the runner fetches and control never
    stores."""

    id: str = Field(primary_key=True)
    name: str
    key: str  # "" for a URL, for a refused file, and once the file is deleted
    size_bytes: int = Field(sa_type=BigInteger)
    etag: str  # identifies the content: equal bytes, uploaded in equal parts, have equal ETags
    duration_s: float  # like width and height 0 while it is unknown, as for a URL
    width: int
    height: int
    frame_rate: float | None = None  # pictures per second, on average; None: unknown
    url: str | None = None  # given by a user; removed when its batch can no longer be retried
    refusal: str | None = None  # why this file of a form was not accepted; its outputs have failed
    notes: list[str] | None = Field(default=None, sa_column=Column(JSON))  # what could not be used of it
    created_at: datetime
    deleted_at: datetime | None = None


class Batch(Row, table=True):
    """What a user submitted."""

    __table_args__ = (Index(None, "created_at", "id"),)

    id: str = Field(primary_key=True)
    name: str | None = None  # by which its user knows it
    seed: int = Field(sa_type=BigInteger)
    variations: int  # 0 with a preset
    preset: str | None = None
    without: list[str] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False)
    )  # effects left out
    strength: float = 1.0  # of the other effects
    quality: str = "standard"
    frame_rate: str = "29.97"
    name_template: str | None = None  # by which its outputs were named
    max_cost_usd: float | None = None  # the batch's own budget, for all its attempts together
    status: str
    partial: bool = False
    created_at: datetime
    started_at: datetime | None = None
    cancelled_at: datetime | None = None  # a user asked for it
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    deleted_at: datetime | None = Field(default=None, index=True)  # hidden at once; files and rows go later
    zip_bytes: int | None = Field(default=None, sa_type=BigInteger)  # of the frozen archive, once known
    zip_tag: str | None = None  # ETag of the frozen archive
    share_sha256: str | None = Field(default=None, index=True, unique=True)  # of its share link's token


class SourceData(Row, table=True):
    """The caller's own data of a source in a batch: shown again, otherwise unused."""

    batch_id: str = Field(primary_key=True, foreign_key="batch.id")
    source_id: str = Field(primary_key=True, foreign_key="source.id", index=True)
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class Job(Row, table=True):
    """The work of one machine."""

    __table_args__ = (Index(None, "created_at", "id"),)

    id: str = Field(primary_key=True)
    batch_id: str = Field(foreign_key="batch.id", index=True)
    position: int
    status: str = Field(index=True)
    partial: bool = False
    attempts_used: int = 0
    attempts_max: int  # increased when a user retries
    size: str  # guest preset of the next attempt
    estimate_s: float = 0.0  # machine time to make all its outputs
    estimate_usd: float = 0.0
    egress_bytes_max: float = 0.0  # upper bound of the bytes sent to make all its outputs
    room_bytes: float | None = None  # storage reserved for its outputs; None in jobs of older versions
    stored_bytes: int = Field(default=0, sa_type=BigInteger, index=True)  # its reported files in the bucket
    stray_bytes: int = Field(default=0, sa_type=BigInteger)  # its other files there, as last listed
    not_before: datetime  # a retry starts no earlier
    waiting_code: str | None = None
    waiting_message: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    cancelled_at: datetime | None = None  # a user asked for it
    ended_at: datetime | None = None
    zip_bytes: int | None = Field(default=None, sa_type=BigInteger)  # of the frozen archive, once known
    zip_tag: str | None = None  # ETag of the frozen archive


class Attempt(Row, table=True):
    """One try of a job: one token, one machine name."""

    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: str = Field(primary_key=True)  # the job's id, "-", the number
    job_id: str = Field(foreign_key="job.id", index=True)
    number: int
    state: str = Field(index=True)
    reason: str | None = None
    detail: str = ""
    app: str
    size: str
    image: str
    region: str | None = None
    machine_id: str | None = None  # id given by the cloud
    claimed_by: str | None = None  # machine id in the first claim: the only owner from then on
    created_at: datetime
    launch_after: datetime  # the create call is sent (again) no earlier
    boot_from: datetime | None = None  # the first create that may have succeeded
    asked_at: datetime | None = Field(default=None, index=True)  # last create whose answer is unknown
    started_at: datetime | None = None  # the first claim
    lease_until: datetime | None = None
    run_until: datetime | None = None
    ended_at: datetime | None = Field(default=None, index=True)
    wall_s: float | None = None  # its machine exits at the latest this many seconds after its start
    reserve_usd: float = 0.0  # reserved before the create call: the machine cannot cost more
    send_bytes_max: int | None = Field(default=None, sa_type=BigInteger)  # bytes that the reserve covers
    sent_bytes: int | None = Field(default=None, sa_type=BigInteger)  # from its finish, even a late one
    seq: int = 0  # of the newest message that was applied
    finish_digest: str | None = None  # of the accepted finish, to recognise a repeat
    machine_seconds: float = 0.0
    cost_usd: float = 0.0


class AttemptLog(Row, table=True):
    """The last lines of the log of a runner whose attempt failed. Not in `Attempt`, which is read often."""

    attempt_id: str = Field(primary_key=True, foreign_key="attempt.id")
    tail: str


class Arguments(Row, table=True):
    """FFmpeg arguments that made outputs of a job, in the form of `control.store.arguments`."""

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    digest: str = Field(primary_key=True)
    packed: bytes


class Output(Row, table=True):
    """One result."""

    __table_args__ = (Index(None, "batch_id", "source_id"),)  # the sources of live batches are often summed

    id: str = Field(primary_key=True)
    batch_id: str = Field(foreign_key="batch.id")
    job_id: str = Field(foreign_key="job.id", index=True)
    source_id: str = Field(foreign_key="source.id", index=True)
    position: int  # within the batch
    variation: int
    name: str  # path in the ZIP
    effects: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # {} with a preset
    preset: str | None = None
    state: str
    percent: float = 0.0
    attempt_id: str | None = Field(
        default=None, foreign_key="attempt.id", index=True
    )  # made it, or works on it
    key: str | None = None
    etag: str | None = None
    size_bytes: int | None = Field(default=None, sa_type=BigInteger)
    sha256: str | None = None
    crc32: int | None = Field(default=None, sa_type=BigInteger)
    duration_s: float | None = None
    arguments: str | None = None  # the digest of its `Arguments`
    # its arguments themselves, where `Arguments` cannot hold them: rows of before it, unusual names of files
    ffmpeg_args: list[str] | None = Field(default=None, sa_column=Column(JSON))
    # more files of the output, each as {key, etag, size_bytes, sha256, crc32}
    playlist: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))  # of preset `hls`
    poster: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    delivered: bool | None = None  # whether it was PUT to the URL of its user; None: there was none
    delivery_error: str | None = None  # why that failed
    variety_source: float | None = None  # `runner.contract.Variety`; None: unknown
    variety_sibling: float | None = None  # None: unknown, or there is no sibling
    error_code: str | None = None
    error_message: str | None = None
    ready_at: datetime | None = None


class Delivery(Row, table=True):
    """A user's URL to which an output is also PUT. It may be a key, so it goes when the output is ready, or
    when nothing can make it any more."""

    output_id: str = Field(primary_key=True, foreign_key="output.id")
    batch_id: str = Field(foreign_key="batch.id", index=True)
    url: str


class Webhook(Row, table=True):
    """The webhook that announces the end of a batch, and the state of its delivery."""

    batch_id: str = Field(primary_key=True, foreign_key="batch.id")
    subject: str  # what the user posted: job or batch
    message_id: str  # the same in every try
    url: str | None  # removed when delivery has ended
    body: str | None = None  # set by the first try; every later try sends the same bytes
    state: str  # waiting (for the batch's end), due, delivered, dead
    tries: int = 0
    due_at: datetime | None = Field(default=None, index=True)
    give_up_at: datetime | None = None
    error: str | None = None  # of the last try


class Machine(Row, table=True):
    """The ledger: one of our machines, as the cloud has shown it. Kept when its job is deleted."""

    app: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str
    attempt_id: str | None = Field(default=None, index=True)  # from its metadata; may be deleted by now
    batch_id: str | None = Field(default=None, index=True)  # from its metadata as well
    region: str
    size: str | None = None
    state: str  # as last seen
    created_at: datetime
    started_at: datetime | None = None
    exited_at: datetime | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    oom_killed: bool = False
    misses: int = 0  # consecutive GETs that did not find it
    stop_asked_at: datetime | None = None
    destroy_asked_at: datetime | None = None
    gone_at: datetime | None = Field(default=None, index=True)  # when it was confirmed to be gone
    reserve_usd: float = 0.0  # reserved until it is known to be gone
    machine_seconds: float = 0.0  # billed; this and all below are final once it is gone
    leaked_seconds: float = 0.0  # the part without a live attempt, beyond the grace period for an exit
    outputs: int = 0  # that it made ready
    egress_bytes: int = Field(default=0, sa_type=BigInteger)  # that it sent, or an upper bound of them
    cost_usd: float = 0.0


class SpeedRow(Row, table=True):
    """Measurements of finished jobs on a guest preset: the sums of `control.planning.workload.Speed`."""

    __tablename__ = "speed"

    size: str = Field(primary_key=True)
    jobs: int
    weight: float
    work: float
    work_work: float
    wall: float
    work_wall: float
    launch_s: float
    bytes_ratio: float


class Downloads(Row, table=True):
    """Bytes of archives that control has streamed on a day (UTC): counted and reported, not limited."""

    day: str = Field(primary_key=True)  # YYYY-MM-DD
    size_bytes: int = Field(default=0, sa_type=BigInteger)


class Event(Row, table=True):
    """One accepted or refused state change. Append-only; ids only increase."""

    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    at: datetime
    batch_id: str = Field(foreign_key="batch.id", index=True)
    job_id: str | None = Field(default=None, foreign_key="job.id", index=True)
    attempt_id: str | None = Field(default=None, foreign_key="attempt.id", index=True)
    name: str
    accepted: bool = True
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class IdempotencyKey(Row, table=True):
    """An Idempotency-Key and the batch that its first request made, which may be deleted by now."""

    key: str = Field(primary_key=True)
    request_sha256: str
    batch_id: str
    created_at: datetime = Field(index=True)
