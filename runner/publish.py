"""Publish a rendered output: poster, checksums, uploads, report.

An output must not be reported before all of its files are in the bucket. A poster that fails must not fail
its output.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

from runner import ffmpeg, transfer
from runner.allowance import SendLimit
from runner.commands import poster_args
from runner.contract import ExtraFile, OutputFile, PutTarget
from runner.log import record
from runner.plain_files import opened, remove
from runner.render import Rendered, Renderer

POSTER_TIMEOUT_S = 30.0


def deliver(renderer: Renderer, made: Rendered) -> None:
    """Upload the files of the output, report it as ready and free its memory, also if an upload fails.

    Raises StorageUnavailable, SendLimit, Stopped.
    """
    size_bytes = made.path.stat(follow_symlinks=False).st_size
    try:
        _deliver(renderer, made)
    finally:
        remove(made.path.parent)
        renderer.memory.hold(-size_bytes)


def _deliver(renderer: Renderer, made: Rendered) -> None:
    output = made.output
    with opened(made.path) as file:
        facts = transfer.fingerprint(file)
        with renderer.progress.timed("upload_s"):
            target = PutTarget(url=output.put_url, headers=output.put_headers)
            _upload(renderer, target, file, facts)
            playlist = _extra(renderer, output.playlist, made.playlist)
            poster = _poster(renderer, made)
            undelivered = _hand_over(renderer, made, file, facts.size_bytes)
    renderer.progress.ready(
        output.output_id,
        _described(made, facts),
        playlist=playlist,
        poster=poster,
        variety=made.variety,
        delivery_error=undelivered,
    )
    record("output_ready", output_id=output.output_id, size_bytes=facts.size_bytes)


def _upload(renderer: Renderer, target: PutTarget, file: BinaryIO, facts: transfer.Fingerprint) -> None:
    transfer.upload(target, file, facts.size_bytes, stop=renderer.stop, allowance=renderer.allowance)


def _hand_over(renderer: Renderer, made: Rendered, file: BinaryIO, size_bytes: int) -> str | None:
    """PUT the output to the user's URL as well. Return why that failed, or None."""
    if made.output.deliver_url is None:
        return None
    return renderer.deliveries.deliver(made.output.deliver_url, file, size_bytes)


def _poster(renderer: Renderer, made: Rendered) -> ExtraFile | None:
    """Upload a JPEG of the middle frame, and make it first if necessary.

    Return None if it was not requested or failed.
    """
    if not made.output.poster:
        return None
    folder = Path(mkdtemp(dir=renderer.folder))  # not beside the output, whose folder must not be written
    try:
        path = made.poster or _made_poster(renderer, made, folder / "poster.jpg")
        return _extra(renderer, made.output.poster, path)
    except (ffmpeg.FfmpegFailed, transfer.StorageUnavailable, SendLimit) as failure:
        record("poster_failed", output_id=made.output.output_id, message=str(failure))
        return None
    finally:
        remove(folder)


def _made_poster(renderer: Renderer, made: Rendered, path: Path) -> Path:
    ffmpeg.run(
        [renderer.program, *poster_args(made.duration_s, source=str(made.path), output=str(path))],
        reads=[made.path],
        makes=[path],
        on_progress=lambda _: None,
        timeout_s=POSTER_TIMEOUT_S,
        stop=renderer.stop,
    )
    return path


def _extra(renderer: Renderer, target: PutTarget | None, path: Path | None) -> ExtraFile | None:
    if not target or not path:
        return None
    with opened(path) as file:
        facts = transfer.fingerprint(file)
        _upload(renderer, target, file, facts)
    return ExtraFile(size_bytes=facts.size_bytes, sha256=facts.sha256, md5=facts.md5, crc32=facts.crc32)


def _described(made: Rendered, facts: transfer.Fingerprint) -> OutputFile:
    return OutputFile(
        size_bytes=facts.size_bytes,
        sha256=facts.sha256,
        md5=facts.md5,
        crc32=facts.crc32,
        duration_s=made.duration_s,
        container=made.container,
        ffmpeg_args=made.args,
    )
