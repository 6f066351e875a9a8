"""Lists of videos: a table (CSV, with commas, semicolons or tabs) or lines of JSON.

Each row names a `source`: a file, from the folder of the list on, or a link. It may have a `name` to show
and `variations`. All other columns are the caller's own data. A list is checked whole, before anything is
sent; every problem is a sentence with the number of its line.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from control.domain.own_data import why_refused
from infra.hosts import is_http_url

ROWS_MAX = 10_000
BYTES_MAX = 64 * 1024**2
NAME_CHARS_MAX = 255
VARIATIONS_MAX = 100
PROBLEMS_SHOWN = 20
SEPARATORS = ",;\t"
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of surrogate pairs

Row = dict[str, Any]


class _Problem(Exception):
    """What is wrong with a row, as a sentence."""


def listed(path: Path, *, has_preset: bool) -> list[Row]:
    """Return for each row its `place` (a file or a link), `name`, `variations` and `data`.

    Raises BadParameter with all problems, the first 20 of them in words.
    """
    text = _text(path)
    rows = _json_rows(text) if path.suffix.lower() in (".jsonl", ".ndjson", ".json") else _table_rows(text)
    found, problems, lines = list[Row](), list[str](), dict[Path | str, int]()
    try:
        for line, row in rows:
            if len(found) + len(problems) == ROWS_MAX:
                problems.append(f"line {line}: A list has at most {ROWS_MAX} rows; split this one.")
                break
            try:
                if isinstance(row, _Problem):
                    raise row
                taken = _taken(row, path.parent, has_preset=has_preset)
                identity = taken["place"].resolve() if isinstance(taken["place"], Path) else taken["place"]
                if (earlier := lines.setdefault(identity, line)) != line:
                    raise _Problem(f"{row['source']!r} is in line {earlier} already.")
                found.append(taken)
            except _Problem as problem:
                problems.append(f"line {line}: {problem}")
    except _Problem as problem:  # of the whole list
        problems.append(str(problem))
    if not found and not problems:
        problems.append("There is no row in it.")
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        shown = problems[:PROBLEMS_SHOWN] + ([f"and {more} more lines"] if more > 0 else [])
        raise typer.BadParameter("\n".join(f"{path.name}: {each}" for each in shown) + "\nNothing was sent.")
    return found


def _text(path: Path) -> str:
    """Return the text of a list, in UTF-8 or, as spreadsheets write it too, in UTF-16 with its mark."""
    if not path.is_file():
        raise typer.BadParameter(f"There is no list {str(path)!r}.")
    if path.stat().st_size > BYTES_MAX:
        raise typer.BadParameter(f"{path.name} is larger than {BYTES_MAX // 1024**2} MiB, so it is no list.")
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise typer.BadParameter(
            f"{path.name}: line {line} is not UTF-8. Save the list as CSV in UTF-8."
        ) from None


def _json_rows(text: str) -> Iterator[tuple[int, Row | _Problem]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        is_object = isinstance(row, dict)
        yield number, row if is_object else _Problem("This is no JSON object on one line.")


def _table_rows(text: str) -> Iterator[tuple[int, Row | _Problem]]:
    header, separator = _header(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for cells in reader:
            is_header, is_empty = line == 1, not any(cell.strip() for cell in cells)
            if not is_header and not is_empty:
                yield line, _row(header, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise _Problem(f"line {line}: This is no row of a table ({error}).") from None


def _header(text: str) -> tuple[list[str], str]:
    """Return the names of the columns, and their separator: the one that the first line has most often."""
    first = io.StringIO(text, newline=None).readline().rstrip("\n")
    separator = max(SEPARATORS, key=first.count)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        names = [cell.strip() for cell in next(rows, [])]
    except csv.Error as error:
        raise _Problem(f"line 1: This is no header ({error}).") from None
    if "source" not in names:
        raise _Problem(
            "line 1: There is no column `source`. The first line names the columns: source, and if you like"
            f" name, variations and your own; this one has {', '.join(map(repr, names[:10])) or 'none'}."
        )
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise _Problem(f"line 1: The column {twice!r} is there twice.")
    return names, separator


def _row(header: list[str], cells: list[str]) -> Row | _Problem:
    """Return the cells that are not empty, by column. A row may end early."""
    extra = [cell for name, cell in zip(header, cells, strict=False) if not name and cell]
    if extra or len(cells) > len(header):
        return _Problem(
            f"It has {len(cells)} cells, but the first line names {sum(map(bool, header))} columns. "
            'Put a cell that holds the separator into "quotes".'
        )
    return {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}


def _taken(row: Mapping[str, Any], folder: Path, *, has_preset: bool) -> Row:
    data = {name: value for name, value in row.items() if name not in ("source", "name", "variations")}
    if why := why_refused(data):
        raise _Problem(f"Its own data ({', '.join(map(repr, list(data)[:5]))}) {why}.")
    return {
        "place": _place(row.get("source"), folder),
        "name": _name(row.get("name")),
        "variations": _variations(row.get("variations"), has_preset=has_preset),
        "data": data or None,
    }


def _place(source: object, folder: Path) -> Path | str:
    if not isinstance(source, str) or not source.strip():
        raise _Problem("It names no source: a file or a link.")
    if "://" in source:
        if not is_http_url(source):
            raise _Problem(f"{source!r} is no link like https://host/video.mp4.")
        return source
    path = folder / Path(source).expanduser()
    with suppress(OSError, ValueError):  # too long for a file's name, or a NUL in it
        if path.is_file():
            return path
        if path.is_dir():
            raise _Problem(f"The file {source!r} is a folder; name its files.")
    raise _Problem(f"The file {source!r} is not there.")


def _name(name: object) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS_MAX or NO_TEXT.search(name):
        raise _Problem(f"Its name must be a text of 1 to {NAME_CHARS_MAX} characters.")
    return name


def _variations(number: object, *, has_preset: bool) -> int | None:
    if number is None:
        return None
    if has_preset:
        raise _Problem("It asks for variations, and --preset makes none.")
    is_text = isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) < 10
    count = int(number) if isinstance(number, str) and is_text else number
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= VARIATIONS_MAX:
        raise _Problem(f"variations must be a number from 1 to {VARIATIONS_MAX}, not {str(number)[:40]!r}.")
    return count
