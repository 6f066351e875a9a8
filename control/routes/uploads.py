"""Uploads: clients send bytes to the bucket; control signs the URLs, joins the parts and checks the video."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Depends

from control.context import AppContext
from control.domain.amounts import in_words
from control.domain.errors import Code, ControlError, source_gone
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import BUCKET
from control.store import uploads as store
from control.store.rows import found
from control.store.tables import Source, Upload
from control.uploads import service
from control.views.schemas.uploads import NewUpload, PartUrl, SourceCreated, UploadDone, UploadStarted
from infra.ports import Part, StoredObject, StoredPart
from runner.mp4.movie import NotPlayable

_AGAIN = "Start a new upload."


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes under `/api/uploads`."""
    router = APIRouter(
        prefix="/api/uploads",
        dependencies=[Depends(guard)],
        tags=["uploads"],
        responses=documented(Code.UNAUTHORIZED, Code.INVALID, Code.UNAVAILABLE),
        route_class=BUCKET.route,
    )
    _add_start(router, context)
    _add_rest(router, context)
    return router


def _add_start(router: APIRouter, context: AppContext) -> None:
    @router.post(
        "",
        status_code=201,
        responses=documented(Code.TOO_LARGE, Code.NOT_A_VIDEO, Code.STORAGE_FULL),
        response_model_exclude_none=True,
    )
    def start(body: NewUpload) -> UploadStarted:
        """Open an upload and sign a URL for each of its parts."""
        _require_acceptable(body, context.settings.max_source_bytes)
        upload = service.open_upload(
            context, name=body.name, content_type=body.content_type, size_bytes=body.size_bytes
        )
        return _shown(context, upload, {})


def _add_rest(router: APIRouter, context: AppContext) -> None:
    @router.get(
        "/{upload_id}",
        responses=documented(Code.NOT_FOUND, Code.GONE, Code.SOURCE_GONE),
        response_model_exclude_none=True,
    )
    def show(upload_id: str) -> UploadStarted:
        """Return which parts are stored, and sign fresh URLs for the missing ones.

        The upload then lives as long as a new one.
        """
        return _resumed(context, _found(context, upload_id))

    @router.post("/{upload_id}/complete", responses=documented(Code.NOT_FOUND, Code.GONE, Code.SOURCE_GONE))
    def complete(upload_id: str, body: UploadDone) -> SourceCreated:
        """Join the parts and look inside. A repeated call returns the same answer."""
        upload = _found(context, upload_id)
        if upload.state == "open":
            _conclude(context, upload, service.join(context, upload, _named(upload, body)))
            upload = _found(context, upload_id)
        return _source_created(context, upload)

    @router.delete("/{upload_id}", status_code=204, responses=documented(Code.NOT_FOUND))
    def abort(upload_id: str) -> None:
        """Abort an upload and remove what it has stored. A completed one stays."""
        upload = _found(context, upload_id)
        if upload.state != "completed":
            service.discard(context, upload)


def _require_acceptable(body: NewUpload, max_bytes: int) -> None:
    # The content decides at `complete`, not the name; a client that does not know the type names video/mp4.
    if not body.content_type.lower().startswith("video/"):
        raise ControlError(
            Code.NOT_A_VIDEO,
            "Only videos can be uploaded: MP4 or MOV files. If this is one, name its type: video/mp4.",
        )
    if body.size_bytes > max_bytes:
        raise ControlError(
            Code.TOO_LARGE,
            "The file has {}; at most {} are taken.".format(*_told_apart(body.size_bytes, max_bytes)),
        )
    if body.size_bytes == 0:
        raise ControlError(Code.NOT_PLAYABLE, "The file is empty. Choose the video itself.")


def _told_apart(size_bytes: int, max_bytes: int) -> tuple[str, str]:
    words = in_words(size_bytes), in_words(max_bytes)
    return words if words[0] != words[1] else (f"{size_bytes} bytes", f"{max_bytes} bytes")


def _found(context: AppContext, upload_id: str) -> Upload:
    with context.views.session() as session:
        upload: Upload = found(session, Upload, upload_id)
        return upload


# --- what is stored, and what is missing --------------------------------------------------------------


def _resumed(context: AppContext, upload: Upload) -> UploadStarted:
    stored = {part.number: part for part in _stored(context, upload)}
    joined = context.storage.head(upload.key) if upload.state == "open" and not stored else None
    if joined is not None:  # an earlier `complete` was interrupted after it had joined the parts
        _conclude(context, upload, joined)
        upload = _found(context, upload.id)
    _require_not_closed(upload)
    if upload.state == "completed":
        _source_of(context, upload)
    upload = store.renew(context.store, upload.id, service.UPLOAD_LIFE)
    return _shown(context, upload, stored)


def _stored(context: AppContext, upload: Upload) -> list[StoredPart]:
    """Return the stored parts of an open upload that have the right size."""
    if upload.state != "open":
        return []
    sizes = _part_sizes(upload)
    found = context.storage.list_parts(upload.key, upload.multipart_id)
    return [part for part in found if sizes.get(part.number) == part.size_bytes]


def _part_sizes(upload: Upload) -> Mapping[int, int]:
    size, each = upload.size_bytes, upload.part_size_bytes
    return {start // each + 1: min(each, size - start) for start in range(0, size, each)}


def _shown(context: AppContext, upload: Upload, stored: Mapping[int, StoredPart]) -> UploadStarted:
    sizes = _part_sizes(upload) if upload.state == "open" else {}
    return UploadStarted(
        upload_id=upload.id,
        part_size_bytes=upload.part_size_bytes,
        parts=[_part(context, upload, number, size, stored.get(number)) for number, size in sizes.items()],
        expires_at=upload.expires_at,
        state=upload.state,
        source_id=upload.source_id,
    )


def _part(
    context: AppContext, upload: Upload, number: int, size_bytes: int, stored: StoredPart | None
) -> PartUrl:
    if stored is not None:
        return PartUrl(number=number, etag=stored.etag, size_bytes=stored.size_bytes)
    expires_s = int((upload.expires_at - context.clock()).total_seconds())
    url = context.storage.sign_part(
        upload.key, upload.multipart_id, number, size_bytes=size_bytes, expires_s=expires_s
    )
    return PartUrl(number=number, url=url)


# --- the end of an upload -----------------------------------------------------------------------------


def _named(upload: Upload, body: UploadDone) -> list[Part]:
    wanted = _part_sizes(upload).keys()
    if len(body.parts) != len(wanted) or {part.number for part in body.parts} != wanted:
        raise ControlError(Code.INVALID, f"Name each of the {len(wanted)} parts exactly once.")
    return [Part(number=part.number, etag=part.etag.strip('"')) for part in body.parts]


def _conclude(context: AppContext, upload: Upload, stored: StoredObject) -> None:
    """Make a source of a joined upload, or close it as refused and remove its object."""
    try:
        if stored.size_bytes != upload.size_bytes:
            announced, got = upload.size_bytes, stored.size_bytes
            raise NotPlayable(f"{announced} bytes were announced, but {got} arrived. {_AGAIN}")
        source = service.look_into(context, upload, stored)
    except NotPlayable as refusal:
        context.storage.delete(upload.key)
        store.refuse(context.store, upload.id, str(refusal))
    else:
        if store.complete(context.store, upload.id, source) != "completed":
            context.storage.delete(upload.key)


def _require_not_closed(upload: Upload) -> None:
    if upload.state == "refused":
        raise ControlError(Code.NOT_PLAYABLE, upload.refusal or "")
    if upload.state == "aborted":
        raise ControlError(Code.GONE, f"This upload was aborted. {_AGAIN}")


def _source_of(context: AppContext, upload: Upload) -> Source:
    """Return the source of a completed upload. Raises ControlError source_gone once it is deleted."""
    with context.views.session() as session:
        source = session.get(Source, upload.source_id)
    if source is None or source.deleted_at is not None:
        raise source_gone(upload.source_id or "")
    return source


def _source_created(context: AppContext, upload: Upload) -> SourceCreated:
    _require_not_closed(upload)
    source = _source_of(context, upload)
    return SourceCreated(
        source_id=source.id,
        name=source.name,
        size_bytes=source.size_bytes,
        duration_s=round(source.duration_s, 3),
        width=source.width,
        height=source.height,
        notes=source.notes or [],
    )
