"""The tables of docs/inputs.md, from runner/media.py; `python -m tests.support.inputs_page` writes them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from runner.media import (
    FRAMES_MAX,
    PICTURE_CODECS,
    SOUND_CODECS,
    SOURCE_FRAME,
    SOURCE_S_MAX,
    SOURCE_SIDE_MIN,
    STREAMS_MAX,
    Codec,
)
from runner.mp4.codecs import OTHER_OBJECT_TYPES, OTHER_PICTURES, OTHER_SOUNDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inputs.md"


def tables() -> dict[str, str]:
    """Return each table of the page by its name."""
    return {
        "pictures": _codecs(PICTURE_CODECS),
        "sound": _codecs(SOUND_CODECS),
        "limits": _limits(),
        "refused": _refused(),
    }


def written(page: str) -> str:
    """Return the page with its tables as the list has them."""
    for name, table in tables().items():
        start, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
        page = re.sub(f"{start}.*?{stop}", lambda _, t=f"{start}\n{table}\n{stop}": t, page, flags=re.DOTALL)
    return page


def _codecs(codecs: Sequence[Codec]) -> str:
    rows = ["| Codec | Sample entries | Decoders of FFmpeg | Written by |", "|---|---|---|---|"]
    for codec in codecs:
        tags = [f"`{_shown(tag)}`" for tag in codec.tags] + [f"`{each:#04x}`" for each in codec.object_types]
        names = ", ".join(f"`{name}`" for name in codec.decoders)
        rows.append(f"| {codec.name} | {' '.join(tags)} | {names} | {codec.written_by} |")
    return "\n".join(rows)


def _limits() -> str:
    return "\n".join(
        [
            "| Limit | Value |",
            "|---|---|",
            f"| Length | {SOURCE_S_MAX / 3600:.0f} hours |",
            f"| Size of the picture | each side {SOURCE_SIDE_MIN} pixels or more, at most {SOURCE_FRAME} |",
            f"| Pictures | {FRAMES_MAX:,} |",
            f"| Tracks of any kind | {STREAMS_MAX} |",
        ]
    )


def _refused() -> str:
    names = dict.fromkeys([*OTHER_PICTURES.values(), *OTHER_SOUNDS.values(), *OTHER_OBJECT_TYPES.values()])
    return textwrap.fill(", ".join(names) + ".", 118, break_on_hyphens=False)


def _shown(tag: str) -> str:
    """Return a sample entry as text; those of Microsoft's codecs end in two bytes of a number."""
    if tag.startswith("ms"):
        return "ms " + tag[2:].encode("latin-1").hex()
    return tag.strip()


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
