"""Run the FFmpeg commands that make outputs, and check what they made.

Must never hand on a file that was not decoded to its end.
"""

from __future__ import annotations

import os
import shutil
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
from runner.memory import Budget, first_bytes, others_bytes, output_bytes
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
    def files(self) -> Sequence[Path]:
        """All of it; x264 writes what it knows of macroblocks beside its statistics."""
        return [self.file, self.stats, self.stats.with_name(f"{self.stats.name}.mbtree")]

    @property
    def names(self) -> Mapping[Path, str]:
        """How the paths are called where arguments are told."""
        return {self.file: _named("OUTPUT", self.output), self.stats: _named("STATS", self.output)}

    def free(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.stats.parent)


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Where rendering happens."""

    program: str
    folder: Path
    memory: Budget
    progress: Progress
    allowance: Allowance
    stop: Stop
    outbound_allow: Sequence[str] = ()  # private places that users' URLs may name

    def alone(self, output: OutputSpec, source: Source) -> Rendered:
        """Make one output in the plain way. Raises FfmpegFailed, OutputFailure(OUTPUT_INVALID), Stopped."""
        path = self._place()
        playlist = path.with_name("playlist.m3u8")
        args = _plain_args(output, source, path, playlist)
        with self._room([output], source, first_bytes(source.probe)):
            self._run(args, [output], source, writes=[path.parent])
            made = self._checked(output, source, path, args, {playlist: "PLAYLIST"})
        if output.preset is not Preset.HLS:
            return made
        _name_media(playlist, output.media_name, path)
        return replace(made, playlist=playlist)

    def first(self, output: OutputSpec, source: Source) -> tuple[Rendered, Shared]:
        """Make the first output of a group, with what the others need. Raises as `alone`."""
        assert output.effects, "a preset is made alone"
        path, stats = self._place(), self._place().with_name("stats")
        shared = Shared(output=output, file=stats.with_name("first.mp4"), stats=stats)
        args = variation_args(
            output.effects, source.probe, source=str(source.path), output=str(path), stats=str(stats)
        )
        with self._room([output], source, first_bytes(source.probe)):
            self._run(args, [output], source, writes=[path.parent, stats.parent])
            made = self._checked(output, source, path, args, shared.names)
        os.link(path, shared.file)
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
            kbps=kbps_of(shared.stats.read_text(), expected(outputs[0], source.probe).duration_s),
        )
        places = {Path(o.path): _named("OUTPUT", spec) for o, spec in zip(others, outputs, strict=True)}
        names = {**shared.names, **places}
        made = []
        with self._room(outputs, source, others_bytes(source.probe, len(outputs))):
            writes = [path.parent for path in places]
            self._run(args, outputs, source, reads=shared.files, writes=writes)
            for output, path in zip(outputs, places, strict=True):
                with suppress(OutputFailure):
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
        writes: Sequence[Path],
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
                writes=writes,
                on_progress=tell,
                timeout_s=RENDER_S_BASE + len(outputs) * RENDER_S_PER_SECOND * lasts_s,
                stop=self.stop,
            )

    def _checked(
        self, output: OutputSpec, source: Source, path: Path, args: Sequence[str], names: Mapping[Path, str]
    ) -> Rendered:
        with self.progress.timed("render_s"):
            duration_s = check_output(self.program, path, expected(output, source.probe), stop=self.stop)
        self.memory.hold(path.stat().st_size)
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
        return variation_args(output.effects, source.probe, source=str(source.path), output=str(path))
    assert output.preset, "an output has effects or a preset"
    return preset_args(
        output.preset, source.probe, source=str(source.path), output=str(path), playlist=str(playlist)
    )


def _name_media(playlist: Path, media_name: str, media: Path) -> None:
    text = playlist.read_text().replace(PLAYLIST_MEDIA, media_name)
    check_playlist(text, media_name=media_name, media_bytes=media.stat().st_size)
    playlist.write_text(text)
