"""Computed ZIPs, read by the standard library and by Info-ZIP; ranges compared with the whole."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.downloads.zip_layout import FULL_16, FULL_32, Archive, Member, Segment, Slice, literal
from tests.support.programs import unpacker, unpacks

AT = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
GIB = 1 << 30

step = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\:\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda text: text not in (".", ".."))
names = st.lists(step, min_size=1, max_size=3).map("/".join)
files = st.dictionaries(names, st.tuples(st.binary(max_size=300), st.booleans()), max_size=8)


def member(name: str, content: bytes, is_stored: bool) -> Member:
    if not is_stored:
        return literal(name, content)
    return Member(name=name, size_bytes=len(content), crc32=crc32(content), source=f"key/{name}")


def archive_of(contents: dict[str, tuple[bytes, bool]]) -> Archive:
    return Archive([member(name, *content) for name, content in contents.items()], modified_at=AT)


def joined(segments: Iterable[Segment], contents: dict[str, tuple[bytes, bool]]) -> bytes:
    out = bytearray()
    for segment in segments:
        if isinstance(segment, Slice):
            assert segment.member.source == f"key/{segment.member.name}"
            segment = contents[segment.member.name][0][segment.start : segment.stop]
        assert segment
        out += segment
    return bytes(out)


class Virtual(io.RawIOBase):
    """An archive as a file to read from; the members that are not literal are zeros."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.at = archive, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.archive.size_bytes)[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        stop = self.archive.size_bytes if size < 0 else self.at + size
        found = b"".join(
            bytes(part.stop - part.start) if isinstance(part, Slice) else part
            for part in self.archive.segments(self.at, stop)
        )
        self.at += len(found)
        return found


def huge(name: str, size: int) -> Member:
    return Member(name=name, size_bytes=size, crc32=0x1234, source="somewhere")


@given(files)
def test_the_standard_library_reads_the_members_back(contents: dict[str, tuple[bytes, bool]]) -> None:
    archive = archive_of(contents)
    whole = joined(archive.segments(), contents)
    assert len(whole) == archive.size_bytes
    with zipfile.ZipFile(io.BytesIO(whole)) as unpacked:
        assert unpacked.testzip() is None
        assert unpacked.namelist() == list(contents)
        for info in unpacked.infolist():
            assert unpacked.read(info) == contents[info.filename][0]
            assert info.date_time == (2026, 11, 21, 12, 34, 56)
            assert info.external_attr >> 16 == 0o100644
            assert info.compress_type == zipfile.ZIP_STORED


@given(files, st.data())
def test_any_range_equals_that_part_of_the_whole(
    contents: dict[str, tuple[bytes, bool]], data: st.DataObject
) -> None:
    archive = archive_of(contents)
    whole = joined(archive.segments(), contents)
    start = data.draw(st.integers(0, archive.size_bytes))
    stop = data.draw(st.integers(start, archive.size_bytes + 10))
    assert joined(archive.segments(start, stop), contents) == whole[start:stop]
    assert joined(archive.segments(start), contents) == whole[start:]


def test_a_range_late_in_the_archive_names_no_earlier_member() -> None:
    archive = Archive([huge(f"{n}.mp4", GIB) for n in range(100)], modified_at=AT)
    (only,) = archive.segments(50 * GIB, 50 * GIB + 10)
    assert isinstance(only, Slice)
    assert only.member.name == "49.mp4"
    assert only.stop - only.start == 10


@pytest.mark.parametrize("size", [FULL_32 - 1, FULL_32, FULL_32 + 1, 5 * GIB])
def test_a_member_around_4_gib(size: int) -> None:
    archive = Archive([huge("a.mp4", size), literal("b.txt", b"after")], modified_at=AT)
    with zipfile.ZipFile(Virtual(archive)) as unpacked:
        first, second = unpacked.infolist()
        assert (first.file_size, first.compress_size) == (size, size)
        assert second.header_offset == archive._offsets[1]
        assert unpacked.read("b.txt") == b"after"
        assert unpacked.open("a.mp4").read(3) == b"\0\0\0"
    (header,) = archive.segments(0, 30)
    assert isinstance(header, bytes)
    version, said, extra = struct.unpack_from("<4xH12xI6xH", header)
    assert (version, extra) == ((45, 20) if size >= FULL_32 else (20, 0))
    assert said == min(size, FULL_32)


@pytest.mark.parametrize("count", [FULL_16 - 1, FULL_16, FULL_16 + 1])
def test_more_members_than_16_bits_count(count: int) -> None:
    archive = Archive([literal(f"{n}", b"") for n in range(count)], modified_at=AT)
    with zipfile.ZipFile(Virtual(archive)) as unpacked:
        assert len(unpacked.namelist()) == count


def test_many_members_past_4_gib_have_offsets_that_are_read_back() -> None:
    archive = Archive([huge(f"{n}.mp4", GIB) for n in range(12)], modified_at=AT)
    with zipfile.ZipFile(Virtual(archive)) as unpacked:
        assert [info.header_offset for info in unpacked.infolist()] == archive._offsets[:-1]


def written(archive: Archive, path: Path, contents: dict[str, tuple[bytes, bool]] | None = None) -> Path:
    """Write an archive as a sparse file: members of unknown content are zeros that take no room."""
    with path.open("wb") as file:
        for segment in archive.segments():
            if isinstance(segment, bytes):
                file.write(segment)
            elif contents:
                file.write(contents[segment.member.name][0][segment.start : segment.stop])
            else:
                file.seek(segment.stop - segment.start, io.SEEK_CUR)
    return path


each_unpacker = pytest.mark.parametrize("program", ["unzip", "7z"])


@pytest.mark.peer
@each_unpacker
def test_unpackers_accept_names_of_every_kind(tmp_path: Path, program: str) -> None:
    names = ["clip/é 漢.mp4", "my ad/my ad_hls/media.mp4", "a&b/%41'.mp4", "😀/x" + "y" * 150, "notes.json"]
    contents = {name: (name.encode() * 1000, False) for name in names}
    unpacks(written(archive_of(contents), tmp_path / "a.zip", contents), program)


@pytest.mark.peer
@each_unpacker
def test_unpackers_accept_more_members_than_16_bits_count(tmp_path: Path, program: str) -> None:
    archive = Archive([literal(f"{n}.txt", b"x") for n in range(FULL_16 + 2)], modified_at=AT)
    unpacks(written(archive, tmp_path / "many.zip"), program)


@pytest.mark.peer
@each_unpacker
def test_unpackers_accept_a_member_and_offsets_past_4_gib(tmp_path: Path, program: str) -> None:
    members = [huge("a.mp4", 5 * GIB), literal("b.txt", b"after"), literal("c.mp4", b"")]
    path = written(Archive(members, modified_at=AT), tmp_path / "big.zip")
    unpacks(path, program, "b.txt")  # to read 5 GiB of zeros takes a minute: the soak does
    command = [unpacker(program)[0], "l" if program == "7z" else "-l", path]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert str(5 * GIB) in listed
    assert "b.txt" in listed


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../b", "a\\b", "C:x", "a//b", "a/", "n\0"])
def test_a_name_that_leads_out_of_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a safe file name"):
        Archive([literal(name, b"")], modified_at=AT)


def test_a_name_used_twice_or_too_long_is_refused() -> None:
    for bad in ([literal("a", b""), literal("a", b"")], [literal("é" * 40_000, b"")]):
        with pytest.raises(ValueError, match="too long or used twice"):
            Archive(bad, modified_at=AT)


def test_years_that_a_zip_cannot_store_become_the_nearest() -> None:
    for year, said in ((1970, 1980), (2200, 2107)):
        archive = Archive([literal("a", b"")], modified_at=datetime(year, 2, 3, tzinfo=UTC))
        with zipfile.ZipFile(Virtual(archive)) as unpacked:
            assert unpacked.infolist()[0].date_time[:3] == (said, 2, 3)
