"""Run the FFmpeg commands that make outputs, and check what they made.

Must never hand on a file that was not decoded to its end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

from runner import ffmpeg
from runner.allowance import Allowance
from runner.check import check_output, check_playlist, expected
from runner.commands import Other, kbps_of, others_args, preset_args, variation_args
from runner.contract import OutputSpec, Preset
from runner.graph import Probe
from runner.memory import MemoryBudget, first_bytes, others_bytes, output_bytes
from runner.plain_files import lines, remove, removed_unless_well, size_bytes, text
from runner.probe import OutputFailure
from runner.progress import Progress
from runner.stop import Stop

RENDER_S_BASE = 60.0
RENDER_S_PER_SECOND = 60.0  # far above what the slowest machine needs: it catches what hangs
PLAYLIST_MEDIA = "media.mp4"  # as FFmpeg names it; the user's name replaces it


@dataclass(frozen=True, kw_only=True)
class Source:
    """A fetched video and what it is."""

    path: Path
    probe: Probe

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.path.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A finished and checked output, alone in a folder, counted as held memory. `args` hide private paths."""

    output: OutputSpec
    path: Path
    duration_s: float
    args: list[str]
    playlist: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the first output of a group leaves for the others, in a folder of its own."""

    output: OutputSpec
    file: Path  # a second name of the first output: it outlives its upload
    stats: Path

    @property
    def analysis(self) -> Sequence[Path]:
        """Its statistics, and what x264 knows of macroblocks beside them."""
        return [self.stats, self.stats.with_name(f"{self.stats.name}.mbtree")]

    @property
    def names(self) -> Mapping[Path, str]:
        """How the paths are called where arguments are told."""
        return {self.file: _named("OUTPUT", self.output), self.stats: _named("STATS", self.output)}

    def free(self) -> None:
        """Remove it all."""
        remove(self.stats.parent)


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Where rendering happens."""

    program: str
    folder: Path
    memory: MemoryBudget
    progress: Progress
    allowance: Allowance
    stop: Stop
    outbound_allow: Sequence[str] = ()  # private places that users' URLs may name

    def alone(self, output: OutputSpec, source: Source) -> Rendered:
        """Make one output in the plain way. Raises FfmpegFailed, OutputFailure(OUTPUT_INVALID), Stopped."""
        path = self._place()
        playlist = path.with_name("playlist.m3u8")
        args = _plain_args(output, source, path, playlist)
        is_hls = output.preset is Preset.HLS
        with removed_unless_well(path), self._room([output], source, first_bytes(source.probe)):
            self._run(args, [output], source, makes=[path, playlist] if is_hls else [path])
            named = _with_named_media(playlist, output.media_name, path) if is_hls else None
            made = self._checked(output, source, path, args, {playlist: "PLAYLIST"})
        return replace(made, playlist=named)

    def first(self, output: OutputSpec, source: Source) -> tuple[Rendered, Shared]:
        """Make the first output of a group, with what the others need. Raises as `alone`."""
        assert output.effects, "a preset is made alone"
        path, stats = self._place(), self._place().with_name("stats")
        shared = Shared(output=output, file=stats.with_name("first.mp4"), stats=stats)
        args = variation_args(
            output.effects,
            source.probe,
            source=str(source.path),
            output=str(path),
            stats=str(stats),
            style=output.style,
        )
        room = self._room([output], source, first_bytes(source.probe))
        with removed_unless_well(path, stats), room:
            self._run(args, [output], source, makes=[path, *shared.analysis])
            made = self._checked(output, source, path, args, shared.names)
            os.link(path, shared.file, follow_symlinks=False)
        return made, shared

    def others(self, outputs: Sequence[OutputSpec], source: Source, shared: Shared) -> list[Rendered]:
        """Make the others of a group in one process. One that is not as it should be is left out.

        Raises FfmpegFailed, or Stopped.
        """
        others = [Other(output.effects, str(self._place())) for output in outputs if output.effects]
        args = others_args(
            others,
            source.probe,
            source=str(source.path),
            first=str(shared.file),
            stats=str(shared.stats),
            kbps=kbps_of(lines(shared.stats), expected(outputs[0], source.probe).picture_s),
            style=outputs[0].style,
        )
        places = {Path(o.path): _named("OUTPUT", spec) for o, spec in zip(others, outputs, strict=True)}
        names = {**shared.names, **places}
        made = []
        room = self._room(outputs, source, others_bytes(source.probe, len(outputs)))
        with removed_unless_well(*places), room:
            reads = [shared.file, *shared.analysis]
            self._run(args, outputs, source, reads=reads, makes=list(places))
            for output, path in zip(outputs, places, strict=True):
                with suppress(OutputFailure, ffmpeg.FfmpegFailed), removed_unless_well(path):
                    made.append(self._checked(output, source, path, args, names))
        return made

    def _place(self) -> Path:
        """Return a path in a new folder, named as FFmpeg may write it into a playlist."""
        return Path(mkdtemp(dir=self.folder)) / PLAYLIST_MEDIA

    def _room(
        self, outputs: Sequence[OutputSpec], source: Source, encoders_bytes: int
    ) -> AbstractContextManager[None]:
        """Hold memory for encoders and the files they write."""
        files_bytes = sum(output_bytes(output, source.probe, source.size_bytes) for output in outputs)
        return self.memory.lent(encoders_bytes + files_bytes)

    def _run(
        self,
        args: Sequence[str],
        outputs: Sequence[OutputSpec],
        source: Source,
        *,
        reads: Sequence[Path] = (),
        makes: Sequence[Path],
    ) -> None:
        """Run FFmpeg and let its outputs, which advance together, share the progress."""
        lasts_s = expected(outputs[0], source.probe).duration_s

        def tell(out_time_s: float) -> None:
            for output in outputs:
                self.progress.running(output.output_id, min(99.0, 100 * out_time_s / lasts_s))

        tell(0)
        with self.progress.timed("render_s"):
            ffmpeg.run(
                [self.program, *args],
                reads=[source.path, *reads],
                makes=makes,
                on_progress=tell,
                timeout_s=RENDER_S_BASE + len(outputs) * RENDER_S_PER_SECOND * lasts_s,
                stop=self.stop,
            )

    def _checked(
        self, output: OutputSpec, source: Source, path: Path, args: Sequence[str], names: Mapping[Path, str]
    ) -> Rendered:
        with self.progress.timed("render_s"):
            duration_s = check_output(self.program, path, expected(output, source.probe), stop=self.stop)
        self.memory.hold(size_bytes(path))
        said = without_paths(args, {**names, source.path: "SOURCE", path: "OUTPUT"})
        return Rendered(output=output, path=path, duration_s=duration_s, args=said)


def without_paths(args: Sequence[str], names: Mapping[Path, str]) -> list[str]:
    """Return the arguments with a word in place of each private path."""
    said = list(args)
    for path, name in names.items():
        said = [arg.replace(str(path), name) for arg in said]
    return said


def _named(what: str, output: OutputSpec) -> str:
    return f"{what}-{output.label or output.output_id}"


def _plain_args(output: OutputSpec, source: Source, path: Path, playlist: Path) -> list[str]:
    if output.effects:
        return variation_args(
            output.effects, source.probe, source=str(source.path), output=str(path), style=output.style
        )
    assert output.preset, "an output has effects or a preset"
    return preset_args(
        output.preset, source.probe, source=str(source.path), output=str(path), playlist=str(playlist)
    )


def _with_named_media(playlist: Path, media_name: str, media: Path) -> Path:
    """Write a playlist that calls the media by the user's name for it, and return its path."""
    named = playlist.with_name("named.m3u8")
    told = text(playlist).replace(PLAYLIST_MEDIA, media_name)
    check_playlist(told, media_name=media_name, media_bytes=size_bytes(media))
    with named.open("x") as file:  # a new file: never through what has the name already
        file.write(told)
    return named
