"""Videos as the API takes them for a quote: a file by what is read of it here, without an upload."""

from __future__ import annotations

import typer

from control.cli.inputs import Inputs, Video
from runner.mp4.movie import NotPlayable, look_into
from video_refresher import SourceFacts, SourceRef

Known = list[SourceRef | SourceFacts]


def by_batch(inputs: Inputs, variations: int | None) -> tuple[list[tuple[int | None, Known]], list[str]]:
    """Return the batches to quote, each with its number of variations, and why files are left out of them.

    An upload would refuse the same files, and make the others.
    """
    batches: list[tuple[int | None, Known]] = []
    refusals: list[str] = []
    for count, videos in inputs.by_batch(variations):
        known: Known = []
        for video in videos:
            try:
                known.append(described(video))
            except typer.BadParameter as refusal:
                refusals.append(str(refusal))
        if known:
            batches.append((count, known))
    return batches, refusals


def described(video: Video) -> SourceRef | SourceFacts:
    """Return a link as it is, and a file by its facts. Raises BadParameter for what is no playable video."""
    if isinstance(video.place, str):
        return SourceRef(url=video.place, name=video.name)
    size_bytes = video.place.stat().st_size
    try:
        with video.place.open("rb") as file:

            def read(start: int, stop: int) -> bytes:
                file.seek(start)
                return file.read(stop - start)

            movie = look_into(read, size_bytes=size_bytes)
    except NotPlayable as refusal:
        raise typer.BadParameter(f"{video.title}: {refusal}") from None
    return SourceFacts(
        name=video.title,
        size_bytes=size_bytes,
        duration_s=movie.duration_s,
        width=movie.width,
        height=movie.height,
        frame_rate=min(1000.0, movie.frame_rate) or None,
    )
