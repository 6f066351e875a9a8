"""The files of an output and where they are stored. PURE over rows.

Most outputs are one file. An output of preset `hls` is a folder of two files: the playlist, and the media
file that it names. Both names are plain ASCII, so the playlist needs no quoting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from control.store.tables import Output

PLAYLIST_NAME = "playlist.m3u8"
MEDIA_NAME = "media.mp4"

CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".jpg": "image/jpeg",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file in the bucket that control has verified: key and ETag of the object, the rest as reported."""

    key: str
    etag: str  # without quotes
    size_bytes: int
    sha256: str
    crc32: int

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> StoredFile:
        """Return the file that a row holds as JSON. Fields that a newer control added are ignored."""
        return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name in stored})


def content_type(name: str) -> str:
    """Return the media type with which a file of this name is served."""
    return CONTENT_TYPES[PurePosixPath(name).suffix]


def files_of(output: Output) -> Mapping[str, StoredFile]:
    """Return the files of a ready output by their path in the ZIP. The media file comes last."""
    if output.playlist is None:
        return {output.name: _own_file(output)}
    playlist = StoredFile.read(output.playlist)
    return {output.name + PLAYLIST_NAME: playlist, output.name + MEDIA_NAME: _own_file(output)}


def poster_of(output: Output) -> StoredFile | None:
    """Return the poster of an output, if it has one."""
    return StoredFile.read(output.poster) if output.poster else None


def named_by(output: Output) -> Iterator[str]:
    """Yield the key of each file of the output: media, playlist, poster."""
    if output.key is not None:
        yield output.key
    for extra in (output.playlist, output.poster):
        if extra:
            yield extra["key"]


def _own_file(output: Output) -> StoredFile:
    assert output.key, "a ready output has a key"
    assert output.etag is not None, "a ready output has an ETag"
    assert output.size_bytes is not None, "a ready output has a size"
    assert output.crc32 is not None, "a ready output has a CRC"
    return StoredFile(
        key=output.key,
        etag=output.etag,
        size_bytes=output.size_bytes,
        sha256=output.sha256 or "",
        crc32=output.crc32,
    )
