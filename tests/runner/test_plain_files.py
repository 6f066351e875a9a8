"""The files that FFmpeg left: which are accepted or refused, and that nothing blocks."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import plain_files
from runner.plain_files import NotPlain, lines, opened, remove, removed_unless_well, take, text


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A file as FFmpeg leaves it, alone in its folder."""
    path = tmp_path / "left" / "media.mp4"
    path.parent.mkdir()
    path.write_bytes(b"content")
    return path


def as_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)  # the name of a socket has 107 bytes at most
        listener.bind(path.name)


REPLACED_BY: dict[str, Callable[[Path], object]] = {
    "a link to a file": lambda path: path.symlink_to("/etc/passwd"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": as_a_socket,
    "a second name of a file": lambda path: os.link(path.parent.parent / "other", path),
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("kind", REPLACED_BY)
def test_what_is_no_file_of_its_own_is_refused(
    left: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(left.parent)
    (left.parent.parent / "other").write_bytes(b"content")
    left.unlink()
    REPLACED_BY[kind](left)
    with pytest.raises(NotPlain) as caught:
        take([left])
    assert "media" not in str(caught.value)


@pytest.mark.parametrize("name", [b"another", b"\xff\x1b[2J", b"a\nb", b".hidden"])
def test_a_file_that_was_not_requested_is_refused(left: Path, name: bytes) -> None:
    Path(left.parent, os.fsdecode(name)).touch()
    with pytest.raises(NotPlain, match=r"^FFmpeg left files that it was not asked for$"):
        take([left])


def test_a_folder_that_is_a_link_is_refused(left: Path) -> None:
    link = left.parent.with_name("link")
    link.symlink_to(left.parent)
    with pytest.raises(NotPlain):
        take([link / left.name])


def test_files_and_folders_become_ours_and_lose_every_other_right(left: Path) -> None:
    if os.geteuid() == 0:
        os.chown(left, 65534, 65534)
        os.chown(left.parent, 65534, 65534)
    left.chmod(0o6777)
    left.parent.chmod(0o777)
    take([left])
    for path, mode in ((left, 0o644), (left.parent, 0o700)):
        assert path.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_files_of_several_folders_are_taken_together(left: Path, tmp_path: Path) -> None:
    beside, elsewhere = left.with_name("playlist.m3u8"), tmp_path / "other" / "stats"
    elsewhere.parent.mkdir()
    for path in (beside, elsewhere):
        path.touch()
    take([left, beside, elsewhere])
    with pytest.raises(NotPlain, match="it was not asked for"):
        take([left, elsewhere])


def test_what_is_open_stays_the_same_file_when_its_name_moves_on(left: Path) -> None:
    with opened(left) as file:
        left.unlink()
        left.symlink_to("/etc/passwd")
        assert file.read() == b"content"
    with pytest.raises(NotPlain):
        opened(left)


def test_a_text_without_end_is_read_up_to_a_bound(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(left, 1 << 33)  # sparse: it takes no room
    assert len(text(left)) == plain_files.TEXT_BYTES_MAX
    monkeypatch.setattr(plain_files, "LINES_BYTES_MAX", 1 << 20)
    found = list(lines(left))
    assert sum(map(len, found)) == 1 << 20
    assert max(map(len, found)) == plain_files.LINE_BYTES_MAX


def test_what_failed_leaves_nothing_and_what_went_well_stays(left: Path) -> None:
    with removed_unless_well(left):
        pass
    assert left.exists()
    with pytest.raises(ValueError, match="no"), removed_unless_well(left):
        raise ValueError("no")
    assert not left.parent.exists()


def test_removing_follows_no_link_and_never_fails(left: Path) -> None:
    kept = left.parent.with_name("kept")
    kept.mkdir()
    (kept / "file").touch()
    (left.parent / "link").symlink_to(kept)
    remove(left.parent)
    remove(left.parent)
    assert (kept / "file").exists()
    assert not left.parent.exists()


def test_a_place_without_room_is_full(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not plain_files.is_full(left.parent)
    assert not plain_files.is_full(left.parent / "gone")
    monkeypatch.setattr(plain_files, "ROOM_BYTES_MIN", 1 << 60)
    assert plain_files.is_full(left.parent)
