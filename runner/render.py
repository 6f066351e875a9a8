"""Run the FFmpeg commands that make outputs, and check what they made.

Must never hand on a file that was not decoded to its end, nor run more processes than there are cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import BoundedSemaphore

from runner import ffmpeg
from runner.check import Expected, check_output, check_playlist, expected
from runner.commands import preset_args, variation_args
from runner.contract import OutputSpec, Preset
from runner.graph import Probe
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


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A finished and checked output, in a folder of its own. `args` are as run, without private paths."""

    output: OutputSpec
    path: Path
    playlist: Path | None
    duration_s: float
    args: list[str]


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Where rendering happens."""

    program: str
    folder: Path
    cores: BoundedSemaphore
    progress: Progress
    stop: Stop

    def alone(self, output: OutputSpec, source: Source) -> Rendered:
        """Make one output in the plain way. Raises FfmpegFailed, OutputFailure(OUTPUT_INVALID), Stopped."""
        folder = Path(mkdtemp(dir=self.folder))
        path, playlist = folder / PLAYLIST_MEDIA, folder / "playlist.m3u8"
        args = _plain_args(output, source, path, playlist)
        names = {source.path: "SOURCE", path: "OUTPUT", playlist: "PLAYLIST"}
        wanted = expected(output, source.probe)
        with self.cores, self.progress.timed("render_s"):
            self._run(args, [output], wanted)
            duration_s = check_output(self.program, path, wanted, stop=self.stop)
        if output.preset is Preset.HLS:
            _name_media(playlist, output.media_name, path)
        return Rendered(
            output=output,
            path=path,
            playlist=playlist if output.preset is Preset.HLS else None,
            duration_s=duration_s,
            args=without_paths(args, names),
        )

    def _run(self, args: Sequence[str], outputs: Sequence[OutputSpec], wanted: Expected) -> None:
        """Run FFmpeg and let its outputs, which advance together, share the progress."""

        def tell(out_time_s: float) -> None:
            for output in outputs:
                self.progress.running(output.output_id, min(99.0, 100 * out_time_s / wanted.duration_s))

        tell(0)
        ffmpeg.run(
            [self.program, *args],
            on_progress=tell,
            timeout_s=RENDER_S_BASE + len(outputs) * RENDER_S_PER_SECOND * wanted.duration_s,
            stop=self.stop,
        )


def without_paths(args: Sequence[str], names: dict[Path, str]) -> list[str]:
    """Return the arguments with a word in place of each private path."""
    said = list(args)
    for path, name in names.items():
        said = [arg.replace(str(path), name) for arg in said]
    return said


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
