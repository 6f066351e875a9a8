"""The three calls of a runner: claim, heartbeat, finish (the wire: runner/contract.py).

One file, since what a claim returns and what a report names are objects under the same keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Executable, bindparam
from sqlmodel import col, select

from control.context import AppContext
from control.domain.encoding import Encoding
from control.domain.errors import Code, ControlError
from control.domain.states import AttemptState
from control.http.errors import documented
from control.http.threads import REPORTS, RUNNER, Busy
from control.passes.retention import outputs_prefix
from control.settings import URL_MARGIN_S
from control.store import leases, reports
from control.store.arguments import label_of
from control.store.attempts import FINAL
from control.store.calibration import source_info
from control.store.files import MEDIA_NAME, StoredFile
from control.store.prepared import Moment, Prepared, Row
from control.store.recipe import encoding_of, recipe_of
from control.store.tables import Attempt, Batch, Delivery, Job, Output, Source
from control.telemetry.log import log_failure
from control.views.batches import Rows
from infra.ports import OutsideError, Storage, StoredObject
from runner.contract import (
    ATTEMPTS_PATH,
    Claim,
    Effects,
    ExtraFile,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    JobSpec,
    Message,
    OutputFile,
    OutputReport,
    OutputSpec,
    Preset,
    PutTarget,
    SourceSpec,
)

# An output larger than both is refused. The bound of the planner alone is too small for some presets.
OUTPUT_SLACK, OUTPUT_BYTES_ANYWAY = 4, 64 * 1024**2

FILE, PLAYLIST, POSTER = ".mp4", ".m3u8", ".jpg"  # the endings of an output's keys

_MD5 = re.compile("[0-9a-f]{32}")
_bearer = HTTPBearer(auto_error=False, scheme_name="attempt token")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def routes(context: AppContext) -> APIRouter:
    """Return the routes under `/runner/attempts`."""

    async def authorize(attempt_id: str, credentials: _Credentials) -> None:
        if credentials is None or not context.signer.is_attempt_token(credentials.credentials, attempt_id):
            raise ControlError(Code.UNAUTHORIZED, "This needs the token of the attempt.")

    router = APIRouter(
        prefix=f"{ATTEMPTS_PATH}/{{attempt_id}}",
        dependencies=[Depends(authorize)],
        route_class=RUNNER.route,
        tags=["runner"],
        responses=documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.SUPERSEDED, Code.INVALID),
    )

    @router.post("/claim")
    def claim(attempt_id: str, body: Claim) -> JobSpec:
        """Give the attempt to the first machine that calls, and return its whole work."""
        return take_claim(context, attempt_id, body)

    # Calls that wait for the bucket have threads of their own, so a slow bucket delays no claim and no beat
    # without news.

    @router.post("/heartbeat")
    async def heartbeat(attempt_id: str, body: Heartbeat) -> HeartbeatAnswer:
        """Extend the lease of the attempt, store its progress, and return whether to continue."""
        verified: reports.Verified = {}
        if is_any_ready(body.outputs):
            await RUNNER.run(hear, context, attempt_id, body)
            verified = await _verified_in_time(context, attempt_id, body)
        return await RUNNER.run(take_heartbeat, context, attempt_id, body, verified)

    @router.post("/finish", responses=documented(Code.UNAVAILABLE))
    async def finish(attempt_id: str, body: Finish) -> Message:
        """Store the last report of the attempt, which ends it."""
        verified: reports.Verified = {}
        if is_any_ready(body.outputs):
            await RUNNER.run(hear, context, attempt_id, body)
            verified = await REPORTS.run(seen_as_reported, context, attempt_id, body)
        await RUNNER.run(take_finish, context, attempt_id, body, verified)
        return Message()

    return router


def take_claim(context: AppContext, attempt_id: str, claim: Claim) -> JobSpec:
    """Give the attempt to the machine if it is the first to call. Raises ControlError, OutsideError."""
    reports.claim(context.store, attempt_id, claim.machine_id)
    return job_spec(context, attempt_id)


async def _verified_in_time(context: AppContext, attempt_id: str, beat: Heartbeat) -> reports.Verified:
    try:
        return await REPORTS.run(seen_so_far, context, attempt_id, beat)
    except Busy as busy:
        log_failure("outputs_not_checked", busy, attempt_id=attempt_id)
        return {}


def is_any_ready(outputs: Sequence[OutputReport]) -> bool:
    """Return whether something has to be looked for in the bucket."""
    return any(report.status == "ready" for report in outputs)


def hear(context: AppContext, attempt_id: str, message: Heartbeat | Finish) -> None:
    """Extend the lease of the attempt if its owner calls: the bucket, which is asked next, may not answer."""
    reports.hear(context.store, attempt_id, message, next_beat_s=_pace_s(context))


def _pace_s(context: AppContext) -> float:
    return leases.next_beat_s(context.settings, len(context.store.leases))


def take_heartbeat(
    context: AppContext, attempt_id: str, beat: Heartbeat, verified: reports.Verified
) -> HeartbeatAnswer:
    """Store a beat whose outputs were `verified` in the bucket; return when the next is due.

    Makes no outside call. Raises ControlError.
    """
    pace_s = _pace_s(context)
    proceed = reports.heartbeat(context.store, attempt_id, beat, verified, next_beat_s=pace_s)
    return HeartbeatAnswer(proceed=proceed, next_beat_s=pace_s)


def take_finish(context: AppContext, attempt_id: str, finish: Finish, verified: reports.Verified) -> None:
    """Store the last report, whose outputs were `verified` in the bucket. Raises ControlError."""
    reports.finish(context.store, attempt_id, finish, verified)
    context.wake()


def job_spec(context: AppContext, attempt_id: str) -> JobSpec:
    """Return the remaining work of the job of the attempt, with fresh signed URLs."""
    with context.views.reading() as rows:
        [attempt] = rows(_attempt, attempt_id=attempt_id)
        wall_s = attempt.wall_s
        todo = rows(_todo, job_id=attempt.job_id)
        needed = list(dict.fromkeys(output.source_id for output in todo))
        found = {source.id: source for source in rows(_with_ids, ids=needed)}
        sources = [found[id_] for id_ in needed]  # as the user named them: the first is ready first
        [batch] = rows(_batch, job_id=attempt.job_id)
        variations = _variations(rows, batch, needed)
        deliveries = dict(rows(_deliveries, ids=[output.id for output in todo]))
    expires_s = int(context.settings.run_timeout_s) + URL_MARGIN_S
    return JobSpec(
        attempt_id=attempt_id,
        sources=[_source_spec(context, source, variations[source.id], expires_s) for source in sources],
        outputs=[
            _output_spec(context, attempt_id, batch, output, deliveries.get(output.id), expires_s)
            for output in todo
        ],
        run_timeout_s=min(context.settings.run_timeout_s, math.inf if wall_s is None else wall_s),
        next_beat_s=context.settings.heartbeat_s,
        outbound_allow=list(context.settings.outbound_allow),
        send_bytes_max=attempt.send_bytes_max,
    )


@Prepared
def _attempt(_: Moment) -> Executable:
    return select(Attempt).where(col(Attempt.id) == bindparam("attempt_id"))


@Prepared
def _todo(_: Moment) -> Executable:
    mine = select(Output).where(col(Output.job_id) == bindparam("job_id"))
    return mine.where(col(Output.state).not_in(FINAL)).order_by(col(Output.position))


@Prepared
def _with_ids(_: Moment) -> Executable:
    return select(Source).where(col(Source.id).in_(bindparam("ids", expanding=True)))


@Prepared
def _batch(_: Moment) -> Executable:
    return select(Batch).join(Job).where(col(Job.id) == bindparam("job_id"))


@Prepared
def _deliveries(_: Moment) -> Executable:
    mine = col(Delivery.output_id).in_(bindparam("ids", expanding=True))
    return select(Delivery.output_id, Delivery.url).where(mine)


@Prepared
def _effects(_: Moment) -> Executable:
    mine = select(Output.source_id, Output.effects).where(col(Output.batch_id) == bindparam("batch_id"))
    among = col(Output.source_id).in_(bindparam("ids", expanding=True))
    return mine.where(among).order_by(col(Output.position))


def _variations(rows: Rows, batch: Row, sources: Sequence[str]) -> dict[str, list[Effects]]:
    """Return all variations of each source in the batch, whichever job makes them."""
    found: dict[str, list[Effects]] = {source_id: [] for source_id in sources}
    made = rows(_effects, batch_id=batch.id, ids=sources) if batch.variations > 1 else ()
    for source_id, effects in made:
        found[source_id].append(Effects.model_validate(effects))
    return found


def _source_spec(context: AppContext, source: Row, variations: list[Effects], expires_s: int) -> SourceSpec:
    if source.url is not None:
        most_bytes = context.settings.max_source_bytes
        return SourceSpec(
            source_id=source.id,
            get_url=source.url,
            size_bytes=most_bytes,
            is_foreign=True,
            variations=variations,
        )
    return SourceSpec(
        source_id=source.id,
        get_url=context.storage.sign_get(source.key, expires_s=expires_s),
        size_bytes=source.size_bytes,
        variations=variations,
    )


def _output_spec(
    context: AppContext,
    attempt_id: str,
    batch: Row,
    output: Row,
    deliver_url: str | None,
    expires_s: int,
) -> OutputSpec:
    def target(ending: str) -> PutTarget:
        key = output_key(context, attempt_id, output.id, ending)
        url, headers = context.storage.sign_put(key, expires_s=expires_s)
        return PutTarget(url=url, headers=headers)

    file, is_hls, encoding = target(FILE), output.preset == Preset.HLS, encoding_of(batch)
    return OutputSpec(
        output_id=output.id,
        source_id=output.source_id,
        label=label_of(output),
        effects=recipe_of(output),
        preset=Preset(output.preset) if output.preset else None,
        quality=encoding.quality,
        frame_rate=encoding.frame_rate,
        put_url=file.url,
        put_headers=file.headers,
        playlist=target(PLAYLIST) if is_hls else None,
        media_name=MEDIA_NAME if is_hls else "",
        poster=target(POSTER),
        deliver_url=deliver_url,
    )


def output_key(context: AppContext, attempt_id: str, output_id: str, ending: str = FILE) -> str:
    """Return the key under which an attempt stores a file of an output.

    Each attempt has its own keys, so no other attempt can overwrite its files.
    """
    return f"{outputs_prefix(context.store.owner_id)}{attempt_id}/{output_id}{ending}"


def seen_as_reported(context: AppContext, attempt_id: str, message: Finish | Heartbeat) -> reports.Verified:
    """Check each object that is newly reported ready; return those that match. Raises OutsideError."""
    reported = {report.output_id: report for report in message.outputs if report.status == "ready"}
    bucket = _Bucket(context.storage, is_patient=isinstance(message, Finish))
    looked = {
        output.id: (_look(context, bucket, attempt_id, output, reported[output.id]), most_bytes)
        for output, most_bytes in _unfinished(context, attempt_id, reported)
    }
    return {
        id_: seen for id_, (seen, most_bytes) in looked.items() if seen and seen.stored_bytes <= most_bytes
    }


class _Bucket:
    """Looks for files that a runner has stored. For the last report the first that is not seen is waited for.

    A bucket may show a new object late, and what a finish does not show to be ready is made again. A beat
    does not wait: its runner would repeat it.
    """

    def __init__(self, storage: Storage, *, is_patient: bool) -> None:
        self._storage, self._is_patient = storage, is_patient

    def head(self, key: str) -> StoredObject | None:
        stored = self._storage.head(key, is_fresh=self._is_patient)
        self._is_patient &= stored is not None  # by then all others had as much time
        return stored


def _look(
    context: AppContext, bucket: _Bucket, attempt_id: str, output: Row, report: OutputReport
) -> reports.Seen | None:
    """Return the files of an output that match the report, or None unless it is complete.

    A poster that does not match is left out. The output is accepted all the same.
    """

    def seen(ending: str, reported: OutputFile | ExtraFile | None) -> StoredFile | None:
        return _seen(bucket, output_key(context, attempt_id, output.id, ending), reported)

    if (file := seen(FILE, report.file)) is None:
        return None
    playlist = seen(PLAYLIST, report.playlist) if output.preset == Preset.HLS else None
    if output.preset == Preset.HLS and playlist is None:
        return None
    return reports.Seen(file=file, playlist=playlist, poster=seen(POSTER, report.poster))


def _seen(bucket: _Bucket, key: str, reported: OutputFile | ExtraFile | None) -> StoredFile | None:
    """Return the file under `key` if it matches the report."""
    stored = bucket.head(key) if reported else None
    if reported is None or stored is None or not _is_as_reported(stored, reported):
        return None
    return StoredFile(
        key=key,
        etag=stored.etag,
        size_bytes=stored.size_bytes,
        sha256=reported.sha256,
        crc32=reported.crc32,
    )


def seen_so_far(context: AppContext, attempt_id: str, beat: Heartbeat) -> reports.Verified:
    """Do the same for a beat. Return nothing if the bucket does not answer: the lease is extended anyway.

    The runner takes the report as accepted. Nothing is lost, since its finish reports every output again.
    """
    try:
        return seen_as_reported(context, attempt_id, beat)
    except OutsideError as error:
        log_failure("outputs_not_checked", error, attempt_id=attempt_id)
        return {}


def _unfinished(context: AppContext, attempt_id: str, among: Collection[str]) -> Sequence[tuple[Row, float]]:
    """Return those of the outputs that are not final yet, each with its largest allowed size."""
    if not among:
        return ()
    with context.views.reading() as rows:
        outputs = [output for output in rows(_not_final, attempt_id=attempt_id) if output.id in among]
        if not outputs:
            return ()
        needed = sorted({output.source_id for output in outputs})
        sources = {source.id: source for source in rows(_with_ids, ids=needed)}
        [batch] = rows(_batch, job_id=outputs[0].job_id)
    encoding = encoding_of(batch)
    return [(output, _most_bytes(output, sources[output.source_id], encoding)) for output in outputs]


@Prepared
def _not_final(_: Moment) -> Executable:
    mine = select(Output).join(Attempt, col(Attempt.job_id) == col(Output.job_id))
    return mine.where(
        col(Attempt.id) == bindparam("attempt_id"),
        col(Attempt.state) == AttemptState.RUNNING,  # else its reports are ignored
        col(Output.state).not_in(FINAL),
    )


def _most_bytes(output: Row, source: Row, encoding: Encoding) -> float:
    """Return the largest believable size of an output; infinite if control does not know the source."""
    seen = source_info(source)
    if not seen.is_known:
        return math.inf
    return max(OUTPUT_BYTES_ANYWAY, OUTPUT_SLACK * seen.bytes_max(recipe_of(output), encoding))


def _is_as_reported(stored: StoredObject, file: OutputFile | ExtraFile) -> bool:
    if stored.size_bytes != file.size_bytes:
        return False
    return not _MD5.fullmatch(stored.etag) or stored.etag == file.md5
