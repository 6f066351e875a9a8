"""The inputs of `submit` and `quote`: files, folders of files, and links."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer

from control.cli.checks import require_files

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov")
SOURCES_MAX = 100


@dataclass
class Inputs:
    """The videos of a batch. `left_out` counts files of folders that are hidden, or no MP4 or MOV."""

    files: list[Path] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    left_out: int = 0


def gathered(arguments: Sequence[str]) -> Inputs:
    """Return the files and links of the arguments: each file once, the files of a folder sorted by path.

    A folder is searched with all its folders; links to folders are not followed. Raises BadParameter.
    """
    inputs = Inputs()
    for argument in arguments:
        if argument.startswith(("http://", "https://")):
            inputs.urls.append(argument)
        elif Path(argument).is_dir():
            _search(Path(argument), inputs)
        else:
            require_files([Path(argument)])
            inputs.files.append(Path(argument))
    inputs.files = list({path.resolve(): path for path in inputs.files}.values())
    count = len(inputs.files) + len(inputs.urls)
    if not count:
        raise typer.BadParameter(f"No MP4 or MOV file is in {', '.join(map(repr, arguments))}.")
    if count > SOURCES_MAX:
        raise typer.BadParameter(f"A batch takes at most {SOURCES_MAX} videos; these are {count}.")
    return inputs


def _search(folder: Path, inputs: Inputs) -> None:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            is_video = not name.startswith(".") and name.lower().endswith(VIDEO_ENDINGS)
            if is_video and Path(parent, name).is_file():
                found.append(Path(parent, name))
            else:
                inputs.left_out += 1
    inputs.files += sorted(found)
