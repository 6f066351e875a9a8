"""The rows. No behaviour: moves are in `store`, shapes for clients in `views`.

Long because it is one list of tables.
Instants are aware UTC. Only `store` writes, and only `store` assigns a state.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

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


class Meta(SQLModel, table=True):
    """Facts about this control itself: its owner id, the generation of its tokens."""

    key: str = Field(primary_key=True)
    value: str


class Upload(SQLModel, table=True):
    """A multipart upload of a client. Completed, it has become a Source."""

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


class Source(SQLModel, table=True):
    """A video: uploaded, in the bucket; or a user's URL, which the runner fetches and nobody stores."""

    id: str = Field(primary_key=True)
    name: str
    key: str  # "" of a URL, and of a file that was refused
    size_bytes: int = Field(sa_type=BigInteger)
    etag: str  # stands for the content: equal bytes, uploaded alike, have equal ETags
    duration_s: float  # 0, as width and height, while it is not known: of a URL
    width: int
    height: int
    url: str | None = None  # of a user; forgotten when its batch has ended for good
    refusal: str | None = None  # why this file of a form is no video that we take; its outputs have failed
    notes: list[str] | None = Field(default=None, sa_column=Column(JSON))  # what could not be used of it
    created_at: datetime
    deleted_at: datetime | None = None


class Batch(SQLModel, table=True):
    """What a user submitted."""

    __table_args__ = (Index(None, "created_at", "id"),)

    id: str = Field(primary_key=True)
    seed: int = Field(sa_type=BigInteger)
    variations: int  # 0 with a preset
    preset: str | None = None
    output_url: str | None = None  # the one result is PUT there too; forgotten at the end
    max_cost_usd: float | None = None  # its own cap, for all its attempts together
    status: str
    partial: bool = False
    created_at: datetime
    started_at: datetime | None = None
    cancelled_at: datetime | None = None  # a user asked for it
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    deleted_at: datetime | None = Field(default=None, index=True)  # hidden at once; files and rows follow
    zip_bytes: int | None = Field(default=None, sa_type=BigInteger)  # of the frozen archive, once laid out
    zip_tag: str | None = None  # its ETag


class Job(SQLModel, table=True):
    """The work of one machine."""

    __table_args__ = (Index(None, "created_at", "id"),)

    id: str = Field(primary_key=True)
    batch_id: str = Field(foreign_key="batch.id", index=True)
    position: int
    status: str = Field(index=True)
    partial: bool = False
    attempts_used: int = 0
    attempts_max: int  # rises when a user retries
    size: str  # guest preset of the next attempt
    estimate_s: float = 0.0  # of a machine that makes all its outputs
    estimate_usd: float = 0.0
    egress_bytes_max: float = 0.0  # what making all its outputs may send
    stored_bytes: int = Field(default=0, sa_type=BigInteger, index=True)  # what of it is in the bucket
    stray_bytes: int = Field(default=0, sa_type=BigInteger)  # what is there besides, as last listed
    not_before: datetime  # a retry waits until then
    waiting_code: str | None = None
    waiting_message: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    cancelled_at: datetime | None = None  # a user asked for it
    ended_at: datetime | None = None
    zip_bytes: int | None = Field(default=None, sa_type=BigInteger)  # of the frozen archive, once laid out
    zip_tag: str | None = None  # its ETag


class Attempt(SQLModel, table=True):
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
    machine_id: str | None = None  # as the cloud named it
    claimed_by: str | None = None  # as the first claim named it: from then on the one owner
    created_at: datetime
    launch_after: datetime  # not before then is the machine asked for (again)
    boot_from: datetime | None = None  # the first create that may have succeeded
    asked_at: datetime | None = None  # the last create whose answer is not known
    started_at: datetime | None = None  # the first claim
    lease_until: datetime | None = None
    run_until: datetime | None = None
    ended_at: datetime | None = None
    wall_s: float | None = None  # its machine ends by itself so long after its start
    reserve_usd: float = 0.0  # set aside before the create: no machine of it can cost more
    send_bytes_max: int | None = Field(default=None, sa_type=BigInteger)  # what of that is for bytes it sends
    sent_bytes: int | None = Field(default=None, sa_type=BigInteger)  # as its finish told, late or not
    seq: int = 0  # of the newest message taken in
    finish_digest: str | None = None  # of the accepted finish, to know its repeat
    machine_seconds: float = 0.0
    cost_usd: float = 0.0


class Output(SQLModel, table=True):
    """One result."""

    id: str = Field(primary_key=True)
    batch_id: str = Field(foreign_key="batch.id", index=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    source_id: str = Field(foreign_key="source.id", index=True)
    position: int  # within the batch
    variation: int
    name: str  # path in the ZIP
    effects: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # {} with a preset
    preset: str | None = None
    state: str
    percent: float = 0.0
    attempt_id: str | None = Field(default=None, foreign_key="attempt.id")  # that made it, or is on it
    key: str | None = None
    etag: str | None = None
    size_bytes: int | None = Field(default=None, sa_type=BigInteger)
    sha256: str | None = None
    crc32: int | None = Field(default=None, sa_type=BigInteger)
    duration_s: float | None = None
    ffmpeg_args: list[str] | None = Field(default=None, sa_column=Column(JSON))
    # further files of it, each as {key, etag, size_bytes, sha256, crc32}
    playlist: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))  # of preset `hls`
    poster: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    delivery_error: str | None = None  # why `output_url` did not get it
    error_code: str | None = None
    error_message: str | None = None
    ready_at: datetime | None = None


class Webhook(SQLModel, table=True):
    """What a user wants to be told at the end of a batch, and how far that has come."""

    batch_id: str = Field(primary_key=True, foreign_key="batch.id")
    subject: str  # what was posted: job, batch
    message_id: str  # the same on every try
    url: str | None  # forgotten at the end
    body: str | None = None  # as it was first sent, and is sent until it is delivered
    state: str  # waiting (for the batch's end), due, delivered, dead
    tries: int = 0
    due_at: datetime | None = Field(default=None, index=True)
    give_up_at: datetime | None = None
    error: str | None = None  # of the last try


class Machine(SQLModel, table=True):
    """The ledger: a machine of ours that the cloud has shown. Kept when its job is deleted."""

    app: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str
    attempt_id: str | None = Field(default=None, index=True)  # by its metadata; may name a deleted one
    batch_id: str | None = Field(default=None, index=True)  # by its metadata as well
    region: str
    size: str | None = None
    state: str  # as last seen
    created_at: datetime
    started_at: datetime | None = None
    exited_at: datetime | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    oom_killed: bool = False
    misses: int = 0  # GETs in a row that did not find it
    stop_asked_at: datetime | None = None
    destroy_asked_at: datetime | None = None
    gone_at: datetime | None = Field(default=None, index=True)  # confirmed
    reserve_usd: float = 0.0  # set aside while it is not known to be gone
    machine_seconds: float = 0.0  # billed; this and all below are final once it is gone
    leaked_seconds: float = 0.0  # of them, without a live attempt and beyond the grace for an exit
    outputs: int = 0  # that it made ready
    egress_bytes: int = Field(default=0, sa_type=BigInteger)  # that it sent, or at most can have
    cost_usd: float = 0.0


class Speed(SQLModel, table=True):
    """What finished jobs have told of a guest preset: the sums of `control.planning.workload.Speed`."""

    size: str = Field(primary_key=True)
    jobs: int
    weight: float
    work: float
    work_work: float
    wall: float
    work_wall: float
    launch_s: float
    bytes_ratio: float


class Downloads(SQLModel, table=True):
    """Bytes of archives that control has streamed on a day (UTC): counted and told, not capped."""

    day: str = Field(primary_key=True)  # YYYY-MM-DD
    size_bytes: int = Field(default=0, sa_type=BigInteger)


class Event(SQLModel, table=True):
    """One accepted or refused move. Append-only; the id only rises."""

    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    at: datetime
    batch_id: str = Field(foreign_key="batch.id", index=True)
    job_id: str | None = Field(default=None, foreign_key="job.id", index=True)
    attempt_id: str | None = Field(default=None, foreign_key="attempt.id")
    name: str
    accepted: bool = True
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class IdempotencyKey(SQLModel, table=True):
    """An Idempotency-Key and what its first request made, which may be deleted by now."""

    key: str = Field(primary_key=True)
    request_sha256: str
    batch_id: str
    created_at: datetime = Field(index=True)
