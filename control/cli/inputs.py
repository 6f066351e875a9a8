"""What the arguments of `submit` and `quote` name: files, folders of files, links, and lists of these."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from control.cli.checks import require_files
from control.cli.lists import listed
from control.domain.filenames import of_link

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2")
SOURCES_MAX, OUTPUTS_MAX = 100, 10_000  # of a batch


@dataclass(frozen=True)
class Video:
    """A file or a link, and what its row of a list says: its name, its own number of variations, and data."""

    place: Path | str
    name: str | None = None
    variations: int | None = None
    data: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        """The name that the video is shown by."""
        return self.name or (self.place.name if isinstance(self.place, Path) else self.place)

    @property
    def file_name(self) -> str:
        """The name that control gives its source."""
        return self.title if isinstance(self.place, Path) else self.name or of_link(self.place)


@dataclass
class Inputs:
    """The videos in order. `left_out` counts files of folders that are hidden, or no MP4 or MOV."""

    videos: list[Video] = field(default_factory=list)
    left_out: int = 0

    def by_batch(
        self, variations: int | None, *, outputs_max: int = OUTPUTS_MAX
    ) -> list[tuple[int | None, list[Video]]]:
        """Return the batches to make: the variations of each, and its videos.

        A batch has one number of variations, at most 100 videos, and at most `outputs_max` outputs, unless
        one video alone has more. `variations` is for those without a number.
        """
        groups: dict[int | None, list[Video]] = {}
        for video in self.videos:
            groups.setdefault(video.variations or variations, []).append(video)
        sizes = {count: max(1, min(SOURCES_MAX, outputs_max // (count or 1))) for count in groups}
        return [
            (count, videos[start : start + sizes[count]])
            for count, videos in groups.items()
            for start in range(0, len(videos), sizes[count])
        ]


def gathered(arguments: Sequence[str], list_: Path | None = None, *, has_preset: bool = False) -> Inputs:
    """Return what the arguments and the list name, each once, the files of a folder by their paths.

    A folder is searched with all its folders; links to folders are not followed. Raises BadParameter.
    """
    inputs = Inputs()
    for argument in arguments:
        if argument.startswith(("http://", "https://")):
            inputs.videos.append(Video(argument))
        elif Path(argument).is_dir():
            _search(Path(argument), inputs)
        else:
            require_files([Path(argument)])
            inputs.videos.append(Video(Path(argument)))
    if list_:
        inputs.videos += [Video(**row) for row in listed(list_, has_preset=has_preset)]
    inputs.videos = list({_identity(video): video for video in inputs.videos}.values())
    if not inputs.videos and not arguments:
        raise typer.BadParameter("Name videos, folders or links, or a list with --from.")
    if not inputs.videos:
        raise typer.BadParameter(f"No MP4 or MOV file is in {', '.join(map(repr, arguments))}.")
    return inputs


def _identity(video: Video) -> Path | str:
    return video.place.resolve() if isinstance(video.place, Path) else video.place


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
    inputs.videos += [Video(path) for path in sorted(found)]
