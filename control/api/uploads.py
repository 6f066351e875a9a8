"""Uploads: bytes go from the client straight to the bucket; control only signs, joins and looks inside."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Depends

from control import mp4
from control.api.guard import Guard
from control.errors import Code, ControlError, documented
from control.holdings import require_space
from control.ids import new_id
from control.parts import Parts
from control.shapes import NewUpload, PartUrl, SourceCreated, UploadDone, UploadStarted
from control.store import uploads as store
from control.tables import Source, Upload
from control.views import found
from infra.ports import Part, Refusal, Refused, StoredObject

PART_BYTES = 16 * 1024**2
UPLOAD_LIFE = timedelta(hours=24)

_AGAIN = "Start a new upload."


def routes(parts: Parts, guard: Guard) -> APIRouter:
    """Return the routes under `/api/uploads`."""
    router = APIRouter(
        prefix="/api/uploads",
        dependencies=[Depends(guard)],
        tags=["uploads"],
        responses=documented(Code.UNAUTHORIZED, Code.INVALID, Code.UNAVAILABLE),
    )

    @router.post(
        "", status_code=201, responses=documented(Code.TOO_LARGE, Code.NOT_A_VIDEO, Code.STORAGE_FULL)
    )
    def start(body: NewUpload) -> UploadStarted:
        """Open an upload and sign a URL for each of its parts."""
        _require_acceptable(body, parts.settings.max_source_bytes)
        with parts.views.session() as session:
            require_space(session, parts.settings.storage_cap_bytes, more_bytes=body.size_bytes)
        upload = _open(parts, body)
        store.add(parts.store, upload)
        return _started(parts, upload)

    @router.post("/{upload_id}/complete", responses=documented(Code.NOT_FOUND, Code.GONE))
    def complete(upload_id: str, body: UploadDone) -> SourceCreated:
        """Join the parts and look inside. The same call again gives the same answer."""
        upload = _found(parts, upload_id)
        if upload.state == "open":
            _complete(parts, upload, body)
            upload = _found(parts, upload_id)
        return _source_created(parts, upload)

    @router.delete("/{upload_id}", status_code=204, responses=documented(Code.NOT_FOUND))
    def abort(upload_id: str) -> None:
        """Give an upload up; what is stored of it is removed. A completed one stays."""
        upload = _found(parts, upload_id)
        if upload.state != "completed":
            _abort(parts, upload)

    return router


def _require_acceptable(body: NewUpload, max_bytes: int) -> None:
    if not body.content_type.lower().startswith("video/"):
        raise ControlError(Code.NOT_A_VIDEO, "Only videos can be uploaded: MP4 or MOV files.")
    if body.size_bytes > max_bytes:
        raise ControlError(
            Code.TOO_LARGE, f"The file has {body.size_bytes} bytes; at most {max_bytes} are taken."
        )
    if body.size_bytes == 0:
        raise ControlError(Code.NOT_PLAYABLE, "The file is empty. Choose the video itself.")


def _open(parts: Parts, body: NewUpload) -> Upload:
    upload_id, now = new_id("upl"), parts.clock()
    key = f"{parts.store.owner_id}/sources/{upload_id}.mp4"
    return Upload(
        id=upload_id,
        name=body.name,
        content_type=body.content_type,
        size_bytes=body.size_bytes,
        key=key,
        multipart_id=parts.storage.start_multipart(key, content_type=body.content_type),
        part_size_bytes=PART_BYTES,
        state="open",
        created_at=now,
        expires_at=now + UPLOAD_LIFE,
    )


def _parts_count(upload: Upload) -> int:
    return -(-upload.size_bytes // upload.part_size_bytes)


def _started(parts: Parts, upload: Upload) -> UploadStarted:
    expires_s = int(UPLOAD_LIFE.total_seconds())
    return UploadStarted(
        upload_id=upload.id,
        part_size_bytes=upload.part_size_bytes,
        parts=[
            PartUrl(
                number=number,
                url=parts.storage.sign_part(upload.key, upload.multipart_id, number, expires_s=expires_s),
            )
            for number in range(1, _parts_count(upload) + 1)
        ],
        expires_at=upload.expires_at,
    )


def _found(parts: Parts, upload_id: str) -> Upload:
    with parts.views.session() as session:
        upload: Upload = found(session, Upload, upload_id)
        return upload


def _abort(parts: Parts, upload: Upload) -> None:
    """Close an upload and remove what it stored: the bucket first, so that a repeat mends what was cut off.

    A `complete` under way may still have joined the parts before; its object goes with the row's verdict.
    """
    parts.storage.abort_multipart(upload.key, upload.multipart_id)
    if store.abort(parts.store, upload.id) != "completed":
        parts.storage.delete(upload.key)


def _complete(parts: Parts, upload: Upload, body: UploadDone) -> None:
    """Make a source of an open upload, or close it as refused and remove what it stored.

    The bucket first, so that a repeat mends what was cut off.
    """
    stored = _join(parts, upload, body)
    try:
        if stored.size_bytes != upload.size_bytes:
            told, got = upload.size_bytes, stored.size_bytes
            raise mp4.NotPlayable(f"{told} bytes were announced but {got} arrived. {_AGAIN}")
        movie = mp4.look_into(
            lambda start, stop: parts.storage.read(upload.key, start, stop),
            size_bytes=stored.size_bytes,
        )
    except mp4.NotPlayable as refusal:
        parts.storage.delete(upload.key)
        store.refuse(parts.store, upload.id, str(refusal))
    except Refused as refused:
        if refused.status != 404:
            raise
        raise ControlError(Code.GONE, f"The uploaded file is gone. {_AGAIN}") from None
    else:
        if store.complete(parts.store, upload.id, _source(parts, upload, stored, movie)) != "completed":
            parts.storage.delete(upload.key)


def _join(parts: Parts, upload: Upload, body: UploadDone) -> StoredObject:
    wanted = set(range(1, _parts_count(upload) + 1))
    if len(body.parts) != len(wanted) or {part.number for part in body.parts} != wanted:
        raise ControlError(Code.INVALID, f"Name each of the {len(wanted)} parts exactly once.")
    done = [Part(number=part.number, etag=part.etag.strip('"')) for part in body.parts]
    try:
        parts.storage.complete_multipart(upload.key, upload.multipart_id, done)
    except Refused as refused:
        if refused.refusal is Refusal.INVALID:
            raise ControlError(Code.INVALID, refused.message) from None
        raise
    stored = parts.storage.head(upload.key)
    if stored is None:
        raise ControlError(Code.GONE, f"The uploaded file is gone. {_AGAIN}")
    return stored


def _source(parts: Parts, upload: Upload, stored: StoredObject, movie: mp4.Movie) -> Source:
    return Source(
        id=new_id("src"),
        name=upload.name,
        key=upload.key,
        size_bytes=stored.size_bytes,
        etag=stored.etag,
        duration_s=movie.duration_s,
        width=movie.width,
        height=movie.height,
        created_at=parts.clock(),
    )


def _source_created(parts: Parts, upload: Upload) -> SourceCreated:
    if upload.state == "refused":
        raise ControlError(Code.NOT_PLAYABLE, upload.refusal or "")
    if upload.state == "aborted" or upload.source_id is None:
        raise ControlError(Code.GONE, f"This upload was given up. {_AGAIN}")
    with parts.views.session() as session:
        source = session.get_one(Source, upload.source_id)
    return SourceCreated(
        source_id=source.id,
        name=source.name,
        size_bytes=source.size_bytes,
        duration_s=round(source.duration_s, 3),
        width=source.width,
        height=source.height,
    )
