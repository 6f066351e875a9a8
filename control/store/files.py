"""The files that an output consists of, and where they lie. PURE over rows.

Most outputs are one file. One of preset `hls` is a folder of two, of which the playlist names the other; the
names in it are plain, so that they need no quoting in a playlist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from control.store.tables import Output

PLAYLIST_NAME = "playlist.m3u8"
MEDIA_NAME = "media.mp4"

# by the ending of its key
CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".jpg": "image/jpeg",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file in the bucket that control has looked at: the object's key and ETag, and what was reported."""

    key: str
    etag: str  # without quotes
    size_bytes: int
    sha256: str
    crc32: int

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> StoredFile:
        """Return the file that a row holds as JSON; what a newer control wrote beside it is ignored."""
        return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name in stored})

    @property
    def content_type(self) -> str:
        """The media type by which it is to be served."""
        return CONTENT_TYPES[self.key[self.key.rindex(".") :]]


def files_of(output: Output) -> Mapping[str, StoredFile]:
    """Return the files of a ready output by their path in the ZIP; the one that plays comes last."""
    if output.playlist is None:
        return {output.name: _own_file(output)}
    playlist = StoredFile.read(output.playlist)
    return {output.name + PLAYLIST_NAME: playlist, output.name + MEDIA_NAME: _own_file(output)}


def poster_of(output: Output) -> StoredFile | None:
    """Return the poster of an output, if it has one."""
    return StoredFile.read(output.poster) if output.poster else None


def named_by(output: Output) -> Iterator[str]:
    """Yield the key of each file that the output's row names."""
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
