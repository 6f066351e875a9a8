"""THE WIRE between control and runner: names, paths, messages, reasons. Pydantic and stdlib only.

A runner started before a deploy talks to the control of after it, so changes are additive only, unknown
fields are ignored on both sides, and `tests/contract_samples/` keeps messages of every version.
One file, so that both sides find all of it in one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum, IntFlag, StrEnum
from fractions import Fraction
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

VERSION = 1

# --- the machine's environment --------------------------------------------------------------------

ENV_CONTROL_URL = "CONTROL_URL"  # where control answers, without a trailing slash
ENV_ATTEMPT_ID = "ATTEMPT_ID"
ENV_ATTEMPT_TOKEN = "ATTEMPT_TOKEN"  # noqa: S105 - the variable's name, not its value
ENV_RUN_TIMEOUT_S = "RUN_TIMEOUT_S"  # hard wall-clock limit of the whole process
RUN_TIMEOUT_S = 3600.0  # where none is named
ENV_MACHINE_ID = "FLY_MACHINE_ID"  # set by Fly itself

ENV_JAIL = "RUNNER_JAIL"  # `off` lets FFmpeg run unconfined; anything else, or nothing, does not

CLAIM_TIMEOUT_S = 600  # the runner exits if no claim succeeds for this long

# --- memory: control chooses a machine by it, and the runner limits the processes at once by it --------

MEMORY_BASE_BYTES = 400 << 20  # the system, this program and FFmpeg's own code
PROCESS_BYTES = 150 << 20  # two FFmpegs and the kernel between them, without encoders
PROBE_BYTES = 140 << 20  # one FFmpeg that probes a source of unknown size, and the frame that it writes
FIRST_BYTES_PER_PIXEL = 220  # of an encoder with its look-ahead (docs/performance.md has the table)
OTHER_BYTES_PER_PIXEL = 90  # of an encoder that uses the analysis of another

# --- the encoder: its settings on a machine, which control plans with ----------------------------------

Quality = Literal["standard", "high"]  # "high": a lower CRF and a higher cap of the bit rate
FrameRate = Literal["29.97", "source"]


class Style(NamedTuple):
    """The choices of a user for the encoding of a variation."""

    quality: Quality = "standard"
    frame_rate: FrameRate = "29.97"


STANDARD = Style()
STANDARD_RATE = Fraction(30000, 1001)
SOURCE_RATE_MAX = Fraction(60)  # of `frame_rate` "source"
RATE_MIN = 5  # of `frame_rate` "source": a slower one is multiplied, since an output ends with a whole frame
CRF: Mapping[Quality, int] = {"standard": 23, "high": 19}
AUDIO_KBPS = 128
CAP_KBPS, CAP_PIXELS, CAP_GROWTH = 2500, 1920 * 1080, 0.75
CAP_TIMES: Mapping[Quality, int] = {"standard": 1, "high": 3}
BUFFER_S = 1.6  # the encoder's buffer: seconds at the cap
CONTAINER = 1.035  # a file has this much more than its streams


def cap_kbps(pixels: int, quality: Quality) -> int:
    """Return the highest bit rate of the picture of a variation, by the size of its frames."""
    growth: float = max(1.0, pixels / CAP_PIXELS) ** CAP_GROWTH
    return round(CAP_TIMES[quality] * CAP_KBPS * growth)


def output_bytes_per_s(pixels: int, quality: Quality) -> float:
    """Return the largest size of one second of a variation."""
    return (cap_kbps(pixels, quality) + AUDIO_KBPS) * 1000 / 8 * CONTAINER


OUTPUT_BYTES_PER_S = output_bytes_per_s(CAP_PIXELS, "standard")


# --- reasons and exit codes -----------------------------------------------------------------------


class Reason(StrEnum):
    """Why an attempt did not succeed. A closed list: clients match on it, so think before you add one."""

    # reported by the runner in `finish`
    RUNNER_CRASHED = "runner_crashed"  # something unexpected; the detail holds a trimmed trace
    STORAGE_UNAVAILABLE = "storage_unavailable"  # the bucket did not answer, or lost an output
    RUN_DEADLINE = "run_deadline"  # the run deadline came first
    JAIL_UNAVAILABLE = "jail_unavailable"  # the machine cannot confine FFmpeg, so it opens no video
    CANCELLED = "cancelled"  # control said `continue: false`, or the machine got a signal to stop
    SEND_LIMIT = "send_limit"  # the bytes that remain to be sent are more than the allowance
    OUT_OF_MEMORY = "out_of_memory"  # the kernel killed an FFmpeg, or the machine's exit event says so
    # found by control
    LAUNCH_REFUSED = "launch_refused"  # Fly will never make this machine
    BOOT_DEADLINE = "boot_deadline"  # created, but no claim came
    LEASE_EXPIRED = "lease_expired"  # heartbeats stopped
    MACHINE_ENDED = "machine_ended"  # the cloud shows it ended, without a finish
    BUDGET_EXCEEDED = "budget_exceeded"  # of a job: too little of its own money is left for another attempt


class Exit(IntEnum):
    """The runner's exit codes. Only an exit before `finish` is news for control."""

    OK = 0  # finished and reported; or superseded, which is no error of this machine
    CRASHED = 1  # could not even report
    MISCONFIGURED = 2  # the environment lacks a variable; the log names it
    NO_CLAIM = 3  # control did not answer a claim within CLAIM_TIMEOUT_S
    UNREPORTED = 4  # the work ended, but `finish` was not accepted before the wall deadline


class SelfTest(IntFlag):
    """What a machine of `refresher doctor` found wrong: its exit code is SELF_TEST_FAILED + this, else 0."""

    JAIL = 1  # FFmpeg cannot be confined there
    CONTROL = 2  # control does not answer
    BUCKET = 4  # the bucket does not answer


SELF_TEST_FAILED = 64


class OutputFault(StrEnum):
    """Why one output failed for good. Its siblings are not affected, and control does not retry it."""

    SOURCE_GONE = "source_gone"  # the bucket no longer has the source
    SOURCE_UNREACHABLE = "source_unreachable"  # a user's URL does not return the video, or must not be called
    SOURCE_TOO_LARGE = "source_too_large"  # more bytes, pixels, frames, streams or seconds than we take
    SOURCE_UNPLAYABLE = "source_unplayable"  # FFmpeg finds no video that it can decode
    RENDER_FAILED = "render_failed"  # FFmpeg ended with an error or was killed
    RENDER_TIMEOUT = "render_timeout"  # FFmpeg did not end in time
    OUTPUT_INVALID = "output_invalid"  # FFmpeg's output is not as requested


# --- what a runner may say ------------------------------------------------------------------------
# It opens files of unknown people, so control accepts only bounded values. If a number or an id is out of
# bounds, the whole message is refused. Texts are cleaned and cut, since they can come from any program.

FILE_BYTES_MAX = 5 << 30  # the limit of a single PUT
WORK_S_MAX = 1e7  # the longest run on the largest machine, summed over its workers
OUTPUTS_MAX = 200  # of one job
NOTES_MAX = 5  # of one source
ARGS_CHARS_MAX = 16_000  # of one output; the longest of ours have some 2,500


def _plain(text: object) -> object:
    """Return the text; each character that is no letter, sign, space or line feed is replaced."""
    if not isinstance(text, str) or text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _cleaned(text: object) -> object:
    return _plain(text[:WORDS_CHARS_MAX] if isinstance(text, str) else text)


def _few(args: list[str]) -> list[str]:
    if sum(map(len, args)) > ARGS_CHARS_MAX:
        raise ValueError(f"has more than {ARGS_CHARS_MAX} characters in all")
    return args


def _ending(text: object) -> object:
    return _plain(text[-LOG_CHARS_MAX:] if isinstance(text, str) else text)


WORDS_CHARS_MAX = 2000
LOG_CHARS_MAX = 8000
Words = Annotated[str, BeforeValidator(_cleaned)]
LogTail = Annotated[str, BeforeValidator(_ending)]
Args = Annotated[list[Annotated[str, BeforeValidator(_plain)]], Field(max_length=500), AfterValidator(_few)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
Seq = Annotated[int, Field(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Field(ge=0, le=FILE_BYTES_MAX)]
Crc32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Seconds = Annotated[float, Field(ge=0, le=WORK_S_MAX, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

# --- messages -------------------------------------------------------------------------------------


class Message(BaseModel):
    """Base of all messages: unknown fields are ignored, so both sides may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Effects(Message):
    """The recipe of one variation. `noise` and `speed` are equal among up to four siblings.

    Each field has its neutral value as its default: rows that were stored before a field was added, and
    messages of a control that does not know it, ask for a video without that effect.
    """

    rotation_rad: float = 0.0
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    zoom: float = 1.0
    noise: int = 0
    speed: float = 1.0
    mirror: bool = False
    shift_x: float = 0.0  # -1..1: the position of the picture within the margin that zoom and rotation leave
    shift_y: float = 0.0


class Preset(StrEnum):
    """A named transcode instead of random effects."""

    WEB_OPTIMIZED = "web-optimized"
    HLS = "hls"  # two files: a playlist and one fragmented MP4 that it names
    COPY = "copy"


class SourceSpec(Message):
    """One video to fetch. The URL is signed and outlives the attempt, or a user's (`is_foreign`)."""

    source_id: str
    get_url: str
    size_bytes: int  # of a foreign source: the most that is taken
    is_foreign: bool = False  # fetched by the rules of `infra.outbound`
    variations: list[Effects] = []  # all of the batch, made or not, with which `Variety` compares


class PutTarget(Message):
    """Where to PUT a file. `headers` are part of the signature and must be sent as they are."""

    url: str
    headers: dict[str, str]


class OutputSpec(Message):
    """One output to render and PUT. `put_headers` are part of the signature and must be sent as they are.

    Either `effects` or `preset` is given. Of preset `hls` the `put_url` takes the media file.
    """

    output_id: str
    source_id: str
    label: str = ""  # its name in `ffmpeg_args`, equal in each attempt, unlike the id; empty: the id is used
    effects: Effects | None = None
    preset: Preset | None = None
    quality: Quality = "standard"  # of a variation
    frame_rate: FrameRate = "29.97"  # of a variation; "source": that of the source, up to SOURCE_RATE_MAX
    put_url: str
    put_headers: dict[str, str]
    playlist: PutTarget | None = None  # of preset `hls`
    media_name: str = ""  # of preset `hls`: the name of the media file in the playlist
    poster: PutTarget | None = None  # a JPEG of the middle frame
    deliver_url: str | None = None  # a user's: PUT the file there too, by the rules of `infra.outbound`

    @property
    def style(self) -> Style:
        """The user's choices for its encoding."""
        return Style(self.quality, self.frame_rate)


class JobSpec(Message):
    """Answer to a claim: all the work of this machine. Deadlines are durations, since clocks differ."""

    version: int = VERSION
    attempt_id: str
    sources: list[SourceSpec]
    outputs: list[OutputSpec]
    run_timeout_s: float  # from now: everything must be reported by then
    next_beat_s: float
    send_bytes_max: int | None = None  # of all uploads and deliveries, retries included; None: no limit
    outbound_allow: list[str] = []  # `host:port` that users' URLs may reach although it is private


class Claim(Message):
    """First call of a machine. The same machine may repeat it; another one is answered 409."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)] = VERSION
    machine_id: Id


class OutputFile(Message):
    """A finished file, already in the bucket."""

    size_bytes: Bytes
    sha256: Sha256
    md5: Md5  # what the bucket shows as the ETag of a single PUT
    crc32: Crc32
    duration_s: Seconds
    container: Literal["mp4", "mov"] = "mp4"  # "mov": a copy of what an MP4 cannot hold
    ffmpeg_args: Args  # as run; `SOURCE`, `OUTPUT`, `OUTPUT-label`, `STATS-label` for private paths


class ExtraFile(Message):
    """A file beside the output's own, already in the bucket: a playlist or a poster."""

    size_bytes: Bytes
    sha256: Sha256
    md5: Md5
    crc32: Crc32


class Variety(Message):
    """How far a variation lies from its source and from the nearest other variation of it in the batch.

    The mean difference of small grey pictures: 0 is equal, 1 is black against white. Speed and noise do not
    count. It follows from the source and the effects, so an output made again has the same numbers.
    """

    source: Share
    sibling: Share | None = None  # None: there is no other


class OutputError(Message):
    """Why an output failed, in words for the user."""

    code: OutputFault
    message: Words


class OutputReport(Message):
    """The progress of one output. A repeated report changes nothing."""

    output_id: Id
    status: Literal["running", "ready", "failed"]
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    file: OutputFile | None = None  # with `ready`
    playlist: ExtraFile | None = None  # with `ready`, of preset `hls`
    poster: ExtraFile | None = None  # with `ready`, if one could be made
    variety: Variety | None = None  # with `ready`, if the kernel drew it
    delivery_error: Words | None = None  # with `ready`: why the PUT to `deliver_url` failed, in words
    error: OutputError | None = None  # with `failed`


class SourceReport(Message):
    """What the machine found out about a source that its user should know, in sentences."""

    source_id: Id
    notes: Annotated[list[Words], Field(max_length=NOTES_MAX)]


class Timings(Message):
    """Seconds of work so far per phase, summed over parallel workers."""

    fetch_s: Seconds = 0.0
    probe_s: Seconds = 0.0
    render_s: Seconds = 0.0
    upload_s: Seconds = 0.0


class Heartbeat(Message):
    """The runner is alive, and this has changed since the last beat that control answered."""

    seq: Seq
    outputs: Annotated[list[OutputReport], Field(max_length=OUTPUTS_MAX)]
    timings: Timings = Field(default_factory=Timings)
    machine_id: Id | Literal[""] = ""  # as in the claim; empty from a runner that does not know this field


class HeartbeatAnswer(Message):
    """Whether to continue, and when to send the next beat. Control sets the interval to limit its load."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    proceed: Annotated[bool, Field(alias="continue")]
    next_beat_s: float


class Usage(Message):
    """What the attempt consumed."""

    wall_s: Seconds
    cpu_s: Seconds
    timings: Timings
    sent_bytes: Annotated[int, Field(ge=0, le=2**53)] | None = None  # None: from an older runner


class Finish(Message):
    """Last call: the final report of every output that ended, also if a beat has reported it before."""

    seq: Seq
    outcome: Literal["ok", "error", "cancelled"]
    reason: Reason | None = None  # with `error` and `cancelled`
    detail: Words = ""
    outputs: Annotated[list[OutputReport], Field(max_length=OUTPUTS_MAX)]
    usage: Usage
    sources: Annotated[list[SourceReport], Field(max_length=OUTPUTS_MAX)] = []  # those with notes
    machine_id: Id | Literal[""] = ""  # as in the claim; empty from a runner that does not know this field
    log_tail: LogTail = ""  # with `error`: the end of the runner's log, without signed URLs and its token


ATTEMPTS_PATH = "/runner/attempts"


def attempt_path(attempt_id: str, call: Literal["claim", "heartbeat", "finish"]) -> str:
    """Return the path of one of the three calls; each is a POST with the attempt token as bearer."""
    return f"{ATTEMPTS_PATH}/{attempt_id}/{call}"


def without_queries(text: str) -> str:
    """Return the text without URLs and paths that have a query, since one of them may be a signed URL.

    In linear time, since the text may be a hostile one: a path without a query is matched as well.
    """
    path = r"(?:https?:/)?/[^\s'\"?]*(\?[^\s'\"]*)?"
    return re.sub(path, lambda found: found[0] if found[1] is None else "URL", text)
