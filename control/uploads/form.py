"""Streams a form with videos to the bucket: at most one part is in memory, and nothing is on disk.

Must never leave stored parts of a form that was not accepted: `Form.close` removes them, and the pass
`abandon` removes what a crash has left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from control.context import AppContext
from control.domain.amounts import in_words
from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.planning.planner import SOURCES_PER_BATCH_MAX
from control.store.tables import Source, Upload
from control.store.uploads import grow
from control.telemetry.log import log_failure
from control.uploads.service import PART_BYTES, discard, join, look_into, open_upload
from control.views.schemas.base import NAME_CHARS_MAX
from infra.outbound import URL_CHARS_MAX
from infra.ports import OutsideError, Part
from runner.mp4 import movie

FIELDS_MAX = 32
OVERHEAD_BYTES_MAX = 2 * 1024**2  # of everything that is not a file's content


@dataclass
class Form:
    """A form, as far as it has been read."""

    context: AppContext
    fields: dict[str, str] = field(default_factory=dict)
    sources: list[Source] = field(
        default_factory=list
    )  # in order, not stored yet; refused ones have a `refusal`
    digests: list[str] = field(default_factory=list)  # sha256 of each source's content
    _uploads: list[Upload] = field(default_factory=list)
    _segment: _File | _Field = field(init=False)

    def read(self, content_type: str, chunks: Iterable[bytes]) -> None:
        """Read the whole form. Raises ControlError, OutsideError, and whatever `chunks` raises."""
        _, options = parse_options_header(content_type)
        overhead_bytes = 0
        try:
            with PushMultipartParser(options.get("boundary", ""), header_charset="utf8") as parser:
                for chunk in chunks:
                    file_bytes = sum(map(self._take, parser.parse(chunk))) if chunk else 0
                    overhead_bytes += len(chunk) - file_bytes
                    if overhead_bytes > OVERHEAD_BYTES_MAX:
                        raise ControlError(Code.TOO_LARGE, "The form has too much besides its files.")
        except MultipartError as error:
            raise ControlError(Code.INVALID, f"The form cannot be read: {error}.") from None

    def close(self) -> None:
        """Remove the stored parts of files that did not become sources."""
        for upload in self._uploads:
            self._discard(upload)

    def _take(self, event: MultipartSegment | bytes | None) -> int:
        """Handle one event of the parser, and return how many bytes of a file's content it had."""
        if isinstance(event, MultipartSegment):
            self._segment = self._begin(event)
        elif event is None:
            self._segment.end()
        else:
            self._segment.write(event)
            return len(event) if isinstance(self._segment, _File) else 0
        return 0

    def _begin(self, segment: MultipartSegment) -> _File | _Field:
        name = segment.name or ""
        if segment.filename is None:
            if name in self.fields or len(self.fields) == FIELDS_MAX:
                raise ControlError(Code.INVALID, f"{name[:50]}: The field comes twice, or is one too many.")
            return _Field(self, name)
        if name != "files":
            raise ControlError(Code.INVALID, f"{name[:50]}: Files belong into the field `files`.")
        if len(self.sources) == SOURCES_PER_BATCH_MAX:
            raise ControlError(Code.INVALID, f"A form takes at most {SOURCES_PER_BATCH_MAX} files.")
        if len(segment.filename) > NAME_CHARS_MAX or "\0" in segment.filename:
            raise ControlError(Code.INVALID, f"A file's name has at most {NAME_CHARS_MAX} characters.")
        return _File(self, segment.filename)

    def _discard(self, upload: Upload) -> None:
        with self.context.views.session() as session:
            is_open = session.get_one(Upload, upload.id).state == "open"
        try:
            if is_open:
                discard(self.context, upload)
        except OutsideError as error:  # `abandon` does it later
            log_failure("upload_not_discarded", error, upload_id=upload.id)


class _Field:
    """A field of a few characters."""

    def __init__(self, form: Form, name: str) -> None:
        self._form, self._name, self._content = form, name, b""

    def write(self, content: bytes) -> None:
        self._content += content
        if len(self._content) > URL_CHARS_MAX:
            raise ControlError(Code.INVALID, f"{self._name[:50]}: At most {URL_CHARS_MAX} characters.")

    def end(self) -> None:
        try:
            self._form.fields[self._name] = self._content.decode()
        except UnicodeError:
            raise ControlError(Code.INVALID, f"{self._name[:50]}: This is not UTF-8.") from None


class _File:
    """A file that is being stored in the bucket."""

    def __init__(self, form: Form, name: str) -> None:
        self._form, self._name = form, name
        self._upload: Upload | None = None
        self._buffer, self._done = BytesIO(), list[Part]()
        self._size_bytes, self._sha256 = 0, hashlib.sha256()

    def write(self, content: bytes) -> None:
        self._size_bytes += len(content)
        most_bytes = self._form.context.settings.max_source_bytes
        if self._size_bytes > most_bytes:
            raise ControlError(
                Code.TOO_LARGE, f"{self._name!r} has more than {in_words(most_bytes)}, which is the limit."
            )
        self._sha256.update(content)
        rest = memoryview(content)
        while rest:
            room = PART_BYTES - self._buffer.tell()
            self._buffer.write(rest[:room])
            rest = rest[room:]
            if self._buffer.tell() == PART_BYTES:
                self._flush()

    def end(self) -> None:
        """Join the stored parts and look into the file. A file that is not taken does not fail the others."""
        if not self._name and not self._size_bytes:
            return  # a browser sends this when no file was chosen
        try:
            source = self._source()
        except movie.NotPlayable as refusal:
            source = self._refused(str(refusal))
        self._form.sources.append(source)
        self._form.digests.append(self._sha256.hexdigest())

    def _flush(self) -> Upload:
        """Store the buffer as the next part."""
        context = self._form.context
        if self._upload is None:
            self._upload = open_upload(
                context, name=self._name or "video", content_type="video/mp4", size_bytes=0
            )
            self._form._uploads.append(self._upload)
        size_bytes = self._buffer.tell()
        grow(context.store, self._upload.id, size_bytes)
        self._buffer.seek(0)
        self._buffer.truncate(size_bytes)
        number = len(self._done) + 1
        upload = self._upload
        self._done.append(context.storage.put_part(upload.key, upload.multipart_id, number, self._buffer))
        self._buffer = BytesIO()
        return upload

    def _source(self) -> Source:
        if self._upload is None:  # the whole file is in the buffer, so a refused one is never stored
            movie.look_into(
                lambda start, stop: bytes(self._buffer.getbuffer()[start:stop]), size_bytes=self._size_bytes
            )
        upload = self._flush() if self._buffer.tell() or self._upload is None else self._upload
        return look_into(self._form.context, upload, join(self._form.context, upload, self._done))

    def _refused(self, refusal: str) -> Source:
        if self._upload is not None:
            self._form._discard(self._upload)
        facts: dict[str, Any] = {"key": "", "duration_s": 0, "width": 0, "height": 0}
        return Source(
            id=new_id("src"),
            name=self._name or "video",
            size_bytes=self._size_bytes,
            etag=self._sha256.hexdigest(),
            refusal=refusal,
            created_at=self._form.context.clock(),
            **facts,
        )
