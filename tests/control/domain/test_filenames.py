"""Names given by users, made safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.domain.filenames import STEM_BYTES_MAX, content_disposition, folders, stem
from control.downloads.zip_layout import Archive, literal

HOSTILE = [
    "../../etc/passwd.mp4",
    "..\\..\\windows\\system32.mp4",
    "/absolute.mp4",
    "quo\"te's.mp4",
    "new\nline\r\n.mp4",
    "nul\0byte.mp4",
    "emoji 🎬 clip.mp4",
    "right‮to‮left.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "CON.mp4",
    "aux.mp4",
    "....mp4",
    ".mp4",
    "   .mp4",
    "trailing dot..mp4",
    "a" * 400 + ".mp4",
    "ü" * 300 + ".mp4",
    "semi;colon|pipe?star*.mp4",
    "%2e%2e%2f.mp4",
    "-rf.mp4",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_becomes_one_safe_folder(name):
    folder = stem(name)
    assert folder
    assert len(folder.encode()) <= STEM_BYTES_MAX
    assert not set(folder) & set('/\\:*?"<>|\n\r\0‮')
    assert folder not in (".", "..")
    assert folder.upper() not in ("CON", "AUX", "NUL", "PRN")
    assert folder == folder.strip(" .")


@given(st.lists(st.text(max_size=60), min_size=1, max_size=20))
def test_any_names_make_folders_that_the_archive_accepts(names):
    made = folders(names)
    assert len({folder.casefold() for folder in made}) == len(names)
    from datetime import UTC, datetime

    members = [literal(f"{folder}/{folder}_var01_000000.mp4", b"x") for folder in made]
    assert Archive(members, modified_at=datetime(2026, 1, 1, tzinfo=UTC)).size_bytes > 0


DEVICES = [
    *("CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"),
    *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"),
]
DRESSED = ["{}", "{} ", "{}. ", " {}", "{} . ", "{}\u00a0", "{}\u3000", "{}.tar", "{} .h", "{}\u200b", "{}:s"]
DRESSED += ["{}::$DATA", "./{}", "a\\{}", "{}" + " " * STEM_BYTES_MAX + "y"]


def opens_a_device(path: str) -> bool:
    """Tell as Windows does: by the name before the first dot or colon, without spaces, in any case."""
    name = path.replace(":", ".").partition(".")[0].rstrip(" \u00a0\u3000").upper()
    return name.translate(str.maketrans("¹²³", "123")) in DEVICES


@pytest.mark.parametrize("dressed", DRESSED)
@pytest.mark.parametrize("lower", [False, True])
def test_no_name_becomes_a_device_of_windows(dressed, lower):
    for device in DEVICES:
        name = dressed.format(device.lower() if lower else device) + ".mp4"
        folder = stem(name)
        assert not opens_a_device(folder), name
        assert not opens_a_device(f"{folder}_var01_000000.mp4"), name
        assert stem(f"{folder}.mp4") == folder, name  # nothing is left to be made safe
        assert len(folder.encode()) <= STEM_BYTES_MAX


def test_a_name_that_only_contains_a_device_name_is_kept():
    assert [stem(f"{name}.mp4") for name in ("CONTEST", "com10", "nul1", "a con")] == [
        "CONTEST", "com10", "nul1", "a con",
    ]  # fmt: skip


@given(st.text(max_size=120))
def test_a_safe_name_stays_as_it_is(name):
    safe = stem(name)
    assert stem(f"{safe}.mp4") == safe


def test_an_ordinary_name_stays_as_it_is():
    assert stem("Sommer Ad 01 (final).mp4") == "Sommer Ad 01 (final)"
    assert stem("Übung.mov") == "Übung"


def test_equal_names_become_different_folders_also_where_case_is_ignored():
    assert folders(["ad.mp4", "AD.mov", "ad.mp4"]) == ["ad", "AD-2", "ad-3"]


def test_no_folder_gets_the_name_of_the_manifest():
    assert folders(["Manifest.json.mp4", "manifest.mp4"]) == ["Manifest.json-2", "manifest"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_download_header_holds_any_name_safely(name):
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


def test_a_download_header_carries_the_whole_name():
    assert (
        content_disposition("ü 1.mp4") == "attachment; filename=\"_ 1.mp4\"; filename*=UTF-8''%C3%BC%201.mp4"
    )
    assert content_disposition("a.mp4", inline=True).startswith("inline;")
