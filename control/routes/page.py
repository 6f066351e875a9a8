"""The page: the built files of `control/web`, with headers that let it load only what it needs.

The files are kept in memory, plain and gzipped. They are few and small, and a name from a request is never
used as a path on disk.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from control.context import AppContext
from control.domain.errors import Code, ControlError

BUILT = Path(__file__).parents[1] / "web" / "dist"
FOR_EVER = "public, max-age=31536000, immutable"  # an asset's name holds a hash of its content


@dataclass(frozen=True)
class _File:
    """One file of the page, ready to send."""

    plain: bytes
    gzipped: bytes
    media_type: str
    etag: str


def routes(context: AppContext) -> APIRouter:
    """Return the routes of the files of the page. None needs a token."""
    router = APIRouter(include_in_schema=False)
    assets = {path.name: _load(path) for path in (BUILT / "assets").glob("*")}
    index = _load(BUILT / "index.html") if assets else None

    @cache
    def policy() -> str:
        return _content_security_policy(_bucket_origin(context))

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        if index is None:
            raise ControlError(
                Code.NOT_FOUND, "The page is not built here: run `make setup` and start again."
            )
        return _answer(request, index, {"Cache-Control": "no-cache", "Content-Security-Policy": policy()})

    @router.api_route("/assets/{name}", methods=["GET", "HEAD"])
    async def asset(request: Request, name: str) -> Response:
        if name not in assets:
            raise ControlError(Code.NOT_FOUND, "There is no such file; reload the page.")
        return _answer(request, assets[name], {"Cache-Control": FOR_EVER})

    return router


def _load(path: Path) -> _File:
    plain = path.read_bytes()
    media_type, _ = mimetypes.guess_type(path.name)
    etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
    return _File(plain, gzip.compress(plain, mtime=0), media_type or "application/octet-stream", etag)


def _answer(request: Request, file: _File, headers: dict[str, str]) -> Response:
    headers |= {
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.plain, headers=headers, media_type=file.media_type)
    return Response(file.gzipped, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)


def _bucket_origin(context: AppContext) -> str:
    """Return the origin of the bucket for browsers: that of signed URLs."""
    signed = urlsplit(
        context.storage.sign_download("-", expires_s=1, disposition="inline", content_type="video/mp4")
    )
    return f"{signed.scheme}://{signed.netloc}"


def _content_security_policy(bucket: str) -> str:
    """Return the policy of what the page may load: its own files, and videos and posters of the bucket.

    `data:` and `blob:` are for first frames and files from the disk of the user.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' data: {bucket}",
            f"media-src 'self' blob: {bucket}",
            f"connect-src 'self' {bucket}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    )
