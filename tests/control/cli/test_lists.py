"""Lists of videos: what is taken, and what is refused with the number of its line before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from control.cli import lists
from control.cli.inputs import Inputs, Video
from control.cli.lists import listed

LINK = "https://videos.example/far.mp4"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "ads").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "ads" / name).write_bytes(b"a video")
    return tmp_path


def taken(
    place: Path, content: str | bytes, name: str = "list.csv", *, has_preset: bool = False
) -> list[lists.Row]:
    (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return listed(place / name, has_preset=has_preset)


def refused(place: Path, content: str | bytes, name: str = "list.csv", *, has_preset: bool = False) -> str:
    with pytest.raises(typer.BadParameter) as refusal:
        taken(place, content, name, has_preset=has_preset)
    return refusal.value.message


TABLE = 'source,name,variations,sku,note\nads/a.mp4,Ad,7,1,"x, y"\n\n{LINK},,,2\n'.replace("{LINK}", LINK)


def separated(sign: str) -> str:
    return TABLE.replace(",", sign).replace(f"{sign} ", ", ")


JSON_LINES = "\n".join(
    [
        json.dumps({"source": "ads/a.mp4", "name": "Ad", "variations": 7, "sku": "1", "note": "x, y"}),
        json.dumps({"source": LINK, "sku": "2"}),
    ]
)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TABLE.encode(), "list.csv"),
        (
            TABLE.replace("x, y", "x; y").replace(",", ";").replace("x; y", "x, y").encode("utf-8-sig"),
            "list.csv",
        ),
        (
            TABLE.replace("x, y", "x\t y").replace(",", "\t").replace("x\t y", "x, y").encode("utf-16"),
            "list.tsv",
        ),
        (TABLE.replace("\n", "\r\n").encode(), "list.txt"),
        (JSON_LINES.encode(), "list.jsonl"),
    ],
    ids=["commas", "semicolons with a mark", "tabs in UTF-16", "lines of Windows", "lines of JSON"],
)
def test_a_list_is_taken_however_a_spreadsheet_writes_it(place: Path, content: bytes, name: str) -> None:
    ad, far = taken(place, content, name)
    assert ad == {
        "place": place / "ads" / "a.mp4",
        "name": "Ad",
        "variations": 7,
        "data": {"sku": "1", "note": "x, y"},
    }
    assert far == {"place": LINK, "name": None, "variations": None, "data": {"sku": "2"}}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("gone.mp4,,", "line 3: The file 'gone.mp4' is not there."),
        (f"{'x' * 300}.mp4,,", "xxx.mp4' is not there."),
        ("ads,,", "line 3: The file 'ads' is a folder; name its files."),
        (",Ad,", "line 3: It names no source"),
        ("https://,,", "line 3: 'https://' is no link like https://host/video.mp4."),
        ("ftp://host/a.mp4,,", "line 3: 'ftp://host/a.mp4' is no link"),
        ("./ads/../ads/a.mp4,,", "line 3: './ads/../ads/a.mp4' is in line 2 already."),
        ("ads/b.mp4,,0", "line 3: variations must be a number from 1 to 100, not '0'."),
        ("ads/b.mp4,,3.5", "line 3: variations must be a number from 1 to 100, not '3.5'."),
        ("ads/b.mp4,,١", "line 3: variations must be a number"),
        (f"ads/b.mp4,{'x' * 256},", "line 3: Its name must be a text of 1 to 255 characters."),
        ("ads/b.mp4,,,surplus", "line 3: It has 4 cells, but the first line names 3 columns."),
        ('ads/b.mp4,"open', "line 3: This is no row of a table"),
    ],
)
def test_a_bad_row_is_named_by_its_line(place: Path, row: str, said: str) -> None:
    problem = refused(place, f"source,name,variations\nads/a.mp4,,\n{row}\n")
    assert problem.startswith("list.csv: line 3: ")
    assert said in problem
    assert problem.endswith("Nothing was sent.")


def test_a_header_may_have_a_line_break_in_a_name(place: Path) -> None:
    assert [row["data"] for row in taken(place, 'source,"Art\nNo"\nads/a.mp4,7\n')] == [{"Art\nNo": "7"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1: There is no column `source`."),
        ("file,name\nads/a.mp4,x\n", "this one has 'file', 'name'."),
        ("source,sku,sku\nads/a.mp4,1,2\n", "line 1: The column 'sku' is there twice."),
        ("source,name\n", "There is no row in it."),
        (b"source,name\nads/a.mp4,\xe4\n", "line 2 is not UTF-8. Save the list as CSV in UTF-8."),
        (f"source,big\nads/a.mp4,{'x' * 4096}\n", "line 2: Its own data ('big') has 4106 bytes as JSON"),
    ],
)
def test_a_bad_table_says_what_to_do(place: Path, content: str | bytes, said: str) -> None:
    assert said in refused(place, content)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "line 2: This is no JSON object on one line."),
        ('{"source": "ads/b.mp4",', "line 2: This is no JSON object on one line."),
        ("[" * 100_000, "line 2: This is no JSON object on one line."),
        ('{"source": 7}', "line 2: It names no source"),
        ('{"source": "ads/b.mp4", "name": 7}', "line 2: Its name must be a text"),
        ('{"source": "ads/b.mp4", "name": "\\ud800"}', "line 2: Its name must be a text"),
        ('{"source": "ads/b.mp4", "variations": true}', "line 2: variations must be a number"),
        (
            '{"source": "ads/b.mp4", "x": NaN}',
            "line 2: Its own data ('x') holds a value that JSON does not have",
        ),
        ('{"source": "ads/b.mp4", "x": ' + "[" * 40 + "]" * 40 + "}", "is nested more than 16 levels deep"),
    ],
    ids=range(9),
)
def test_a_bad_line_of_json_is_named(place: Path, line: str, said: str) -> None:
    assert said in refused(place, f'{{"source": "ads/a.mp4"}}\n{line}\n', "list.jsonl")


def test_100_000_lines_are_refused_at_once_and_many_problems_are_counted(place: Path) -> None:
    rows = [f"https://videos.example/{number}.mp4" for number in range(100_000)]
    problem = refused(place, "\n".join(["source", *rows]))
    assert problem.startswith("list.csv: line 10002: A list has at most 10000 rows; split this one.")
    bad = refused(place, "\n".join(["source", *(f"gone{number}.mp4" for number in range(50))]))
    assert (bad.count("is not there"), "and 30 more lines" in bad) == (20, True)


def test_variations_of_a_row_and_a_preset_exclude_each_other(place: Path) -> None:
    said = refused(place, "source,variations\nads/a.mp4,3\n", has_preset=True)
    assert "line 2: It asks for variations, and --preset makes none." in said


def test_batches_have_one_number_of_variations_and_at_most_100_videos() -> None:
    videos = [Video(f"https://v.example/{n}", variations=5 if n % 3 == 0 else None) for n in range(301)]
    batches = Inputs(videos).by_batch(2)
    assert [(count, len(group)) for count, group in batches] == [(5, 100), (5, 1), (2, 100), (2, 100)]
    assert [group[0].place for _, group in batches] == [f"https://v.example/{n}" for n in (0, 300, 1, 151)]
    assert Inputs(videos[:1]).by_batch(None) == [(5, videos[:1])]
