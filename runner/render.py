"""Run the FFmpeg commands that make outputs, and check what they made.

If possible, the kernel draws the effects between an FFmpeg that decodes and one that encodes. Otherwise, and
after a failure, FFmpeg's filters draw them. Must never return a file that was not checked.

One file, since all ways to make an output end in the same check.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from errno import ENOSPC
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from runner import ffmpeg, jail
from runner.allowance import Allowance
from runner.analysis import tree_of, turn
from runner.check import check_output, check_playlist, expected
from runner.commands import (
    COMPARED,
    Other,
    Target,
    compared_args,
    container_of,
    decoding_args,
    drawing_args,
    first_coding_args,
    lead_of,
    others_args,
    others_coding_args,
    preset_args,
    variation_args,
)
from runner.contract import Effects, OutputSpec, Preset, Variety
from runner.graph import Probe, even_size, output_frames
from runner.kernel import Kernel
from runner.media import Container
from runner.memory import MemoryBudget, first_bytes, others_bytes, output_bytes
from runner.plain_files import lines, remove, removed_unless_well, size_bytes, text
from runner.probe import OutputFailure
from runner.progress import Progress
from runner.recipe import is_drawable
from runner.stop import Stop
from runner.transfer import Deliveries

RENDER_S_BASE = 60.0
RENDER_S_PER_SECOND = 60.0  # far above what the slowest machine needs: it ends a process that hangs
Command = Sequence[str] | jail.Line
MILLION = 1_000_000
FRAMES_MORE = 60
PLAYLIST_MEDIA = "media.mp4"  # as FFmpeg names it; the user's name replaces it


@dataclass(frozen=True, kw_only=True)
class Source:
    """A fetched video and its facts."""

    path: Path
    probe: Probe
    variations: Sequence[Effects] = ()  # all that the batch has of it

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.path.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A finished and checked output, alone in a folder, counted as used memory. `args` hide private paths."""

    output: OutputSpec
    path: Path
    duration_s: float
    args: list[str]
    container: Container = "mp4"
    playlist: Path | None = None
    poster: Path | None = None  # beside the output, if one is there already
    variety: Variety | None = None  # if the kernel drew it


@dataclass(frozen=True, kw_only=True)
class Place:
    """The folder in which one output is made. Outputs that the kernel draws have more files in it."""

    output: OutputSpec
    path: Path
    packets: Path | None = None
    poster: Path | None = None

    @property
    def effects(self) -> Effects:
        """The effects of the output. Only for a variation."""
        assert self.output.effects, "a preset has no effects"
        return self.output.effects

    @property
    def files(self) -> list[Path]:
        """All files that are made in the folder."""
        return [path for path in (self.path, self.packets, self.poster) if path]

    @property
    def names(self) -> Mapping[Path, str]:
        """The names of the paths in reported arguments."""
        kinds = {self.path: "OUTPUT", self.packets: "PACKETS", self.poster: "POSTER"}
        return {path: _named(kind, self.output) for path, kind in kinds.items() if path}

    @property
    def target(self) -> Target:
        """The same for the arguments."""
        poster = str(self.poster) if self.poster else None
        return Target(effects=self.effects, path=str(self.path), packets=str(self.packets), poster=poster)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The files that the others of a group need from its first output, in a folder of their own."""

    output: OutputSpec
    file: Path  # a second name of the first output, which exists longer than its upload
    stats: Path

    @property
    def analysis(self) -> Sequence[Path]:
        """The statistics of the first output, and x264's data about macroblocks."""
        return [self.stats, tree_of(self.stats)]

    def by_mirror(self, outputs: Sequence[OutputSpec], probe: Probe) -> Mapping[bool, Path]:
        """Return the statistics for outputs that are mirrored (True) and that are not.

        They are turned around if one of these outputs needs that. Raises NotPlain.
        """
        assert self.output.effects
        mirror = self.output.effects.mirror
        if all(each.effects and each.effects.mirror == mirror for each in outputs):
            return {mirror: self.stats}
        width, height = even_size(probe)
        promised = output_frames(self.output.effects, probe, self.output.frame_rate)
        frames = 2 * promised + FRAMES_MORE  # a file that is so much longer has not passed its check
        return {mirror: self.stats, not mirror: turn(self.stats, width=width, height=height, frames=frames)}

    @property
    def names(self) -> Mapping[Path, str]:
        """The names of the paths in reported arguments."""
        return {self.file: _named("OUTPUT", self.output), self.stats: _named("STATS", self.output)}

    def free(self) -> None:
        """Remove it all."""
        remove(self.stats.parent)


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Renders outputs in a folder."""

    program: str
    folder: Path
    memory: MemoryBudget
    progress: Progress
    allowance: Allowance
    deliveries: Deliveries
    stop: Stop
    kernel: Kernel | None = None

    def alone(self, output: OutputSpec, source: Source) -> Rendered:
        """Make one output in the plain way. Raises FfmpegFailed, OutputFailure(OUTPUT_INVALID), Stopped."""
        place = self._plain_place(output)
        playlist = place.path.with_name("playlist.m3u8")
        command = [self.program, *_plain_args(output, source, place.path, playlist)]
        is_hls = output.preset is Preset.HLS
        with self._made([place], source, command, makes=[playlist] if is_hls else []):
            named = _with_named_media(playlist, output.media_name, place.path) if is_hls else None
            made = self._checked(place, source, command, {playlist: "PLAYLIST"})
        return replace(made, playlist=named)

    def single(self, output: OutputSpec, source: Source) -> Rendered:
        """Make one output that shares nothing. Raises as `alone`."""
        if not self._can_draw([output], source):
            return self.alone(output, source)
        place = self._drawn_place(output)
        coding = first_coding_args(place.target, source.probe, source=str(source.path), style=output.style)
        line = self._line([place], source, coding)
        with self._made([place], source, line) as told:
            return self._checked(place, source, line, {}, told.of(0))

    def first(self, output: OutputSpec, source: Source) -> tuple[Rendered, Shared]:
        """Make the first output of a group, and the files that the others need. Raises as `alone`."""
        stats = Path(mkdtemp(dir=self.folder)) / "stats"
        shared = Shared(output=output, file=stats.with_name("first.mp4"), stats=stats)
        place, command = self._first(output, source, shared)
        making = self._made([place], source, command, makes=shared.analysis)
        with removed_unless_well(stats), making as told:
            made = self._checked(place, source, command, shared.names, told.of(0))
            os.link(place.path, shared.file, follow_symlinks=False)
        return made, shared

    def _first(self, output: OutputSpec, source: Source, shared: Shared) -> tuple[Place, Command]:
        read, stats = str(source.path), str(shared.stats)
        if self._can_draw([output], source):
            place = self._drawn_place(output)
            coding = first_coding_args(
                place.target, source.probe, source=read, stats=stats, style=output.style
            )
            return place, self._line([place], source, coding)
        place = self._plain_place(output)
        args = variation_args(
            place.effects,
            source.probe,
            source=read,
            output=str(place.path),
            stats=stats,
            style=output.style,
        )
        return place, [self.program, *args]

    def others(self, outputs: Sequence[OutputSpec], source: Source, shared: Shared) -> list[Rendered]:
        """Make the others of a group together. One that fails the check is left out.

        Raises FfmpegFailed, NotPlain, or Stopped.
        """
        try:
            by_mirror = shared.by_mirror(outputs, source.probe)
        except OSError as trouble:
            if trouble.errno != ENOSPC:
                raise
            raise ffmpeg.OutOfMemory("there is no room for the analysis") from trouble
        places, command = self._others(outputs, source, shared, by_mirror)
        names = {**shared.names, **{path: name for place in places for path, name in place.names.items()}}
        analyses = [path for stats in by_mirror.values() for path in (stats, tree_of(stats))]
        reads = [shared.file, *analyses]
        made = []
        with self._made(places, source, command, reads=reads, is_led=True) as told:
            for n, place in enumerate(places):
                with suppress(OutputFailure, ffmpeg.FfmpegFailed), removed_unless_well(place.path):
                    made.append(self._checked(place, source, command, names, told.of(n)))
        return made

    def _others(
        self,
        outputs: Sequence[OutputSpec],
        source: Source,
        shared: Shared,
        by_mirror: Mapping[bool, Path],
    ) -> tuple[Sequence[Place], Command]:
        lead = lead_of(lines(shared.stats), expected(outputs[0], source.probe).picture_s)
        first, stats = str(shared.file), {mirror: str(path) for mirror, path in by_mirror.items()}
        if self._can_draw(outputs, source):
            places = [self._drawn_place(output) for output in outputs]
            targets = [place.target for place in places]
            coding = others_coding_args(
                targets, source.probe, first=first, stats=stats, lead=lead, style=outputs[0].style
            )
            return places, self._line(places, source, coding)
        places = [self._plain_place(output) for output in outputs]
        others = [Other(place.effects, str(place.path)) for place in places]
        args = others_args(
            others,
            source.probe,
            source=str(source.path),
            first=first,
            stats=stats,
            lead=lead,
            style=outputs[0].style,
        )
        return places, [self.program, *args]

    def _can_draw(self, outputs: Sequence[OutputSpec], source: Source) -> bool:
        """Return whether the kernel and the jail are available and can make all of these outputs."""
        width, height = even_size(source.probe)
        return (
            self.kernel is not None
            and not jail.is_off()
            and source.probe.tags is not None
            and all(o.effects and is_drawable(o.effects, width=width, height=height) for o in outputs)
        )

    def _line(self, places: Sequence[Place], source: Source, coding: Sequence[str]) -> jail.Line:
        """Return the line that decodes once, draws these outputs, and encodes them with these arguments."""
        assert self.kernel
        each = [place.effects for place in places]
        decoding = decoding_args(each[0], source.probe, source=str(source.path), style=places[0].output.style)
        rate = places[0].output.style.frame_rate
        drawing = [
            *drawing_args(each, source.probe),
            *compared_args(each, source.variations, source.probe, rate),
        ]
        commands = [[self.program, *decoding], [str(self.kernel.path), *drawing], [self.program, *coding]]
        return jail.Line(commands, [1, len(places)])

    def _plain_place(self, output: OutputSpec) -> Place:
        """Return a place in a new folder, named as FFmpeg may write it into a playlist."""
        return Place(output=output, path=Path(mkdtemp(dir=self.folder)) / PLAYLIST_MEDIA)

    def _drawn_place(self, output: OutputSpec) -> Place:
        place = self._plain_place(output)
        poster = place.path.with_name("poster.jpg") if output.poster else None
        return replace(place, packets=place.path.with_name("packets"), poster=poster)

    @contextmanager
    def _made(
        self,
        places: Sequence[Place],
        source: Source,
        command: Command,
        *,
        reads: Sequence[Path] = (),
        makes: Sequence[Path] = (),
        is_led: bool = False,
    ) -> Iterator[Distances]:
        """Run the command, and reserve memory for it and what it reads until the block ends.

        Yields what the kernel said. On failure all its files are removed.
        """
        outputs = [place.output for place in places]
        taken = others_bytes(source.probe, len(places)) if is_led else first_bytes(source.probe)
        taken += sum(size_bytes(path) for path in reads)
        files = [*(path for place in places for path in place.files), *makes]
        with removed_unless_well(*(place.path for place in places)), self._room(outputs, source, taken):
            yield self._run(command, outputs, source, reads=reads, makes=files)

    def _room(
        self, outputs: Sequence[OutputSpec], source: Source, encoders_bytes: int
    ) -> AbstractContextManager[None]:
        """Reserve memory for encoders and the files they write."""
        files_bytes = sum(output_bytes(output, source.probe, source.size_bytes) for output in outputs)
        return self.memory.lent(encoders_bytes + files_bytes)

    def _run(
        self,
        command: Command,
        outputs: Sequence[OutputSpec],
        source: Source,
        *,
        reads: Sequence[Path] = (),
        makes: Sequence[Path],
    ) -> Distances:
        """Run FFmpeg and report the same progress for all of its outputs, which advance together."""
        told = Distances(len(outputs))
        lasts_s = expected(outputs[0], source.probe).duration_s

        def tell(out_time_s: float) -> None:
            for output in outputs:
                self.progress.running(output.output_id, min(99.0, 100 * out_time_s / lasts_s))

        tell(0)
        with self.progress.timed("render_s"):
            ffmpeg.run(
                command,
                reads=[source.path, *reads],
                makes=makes,
                on_progress=tell,
                on_numbers=told.readers,
                timeout_s=RENDER_S_BASE + len(outputs) * RENDER_S_PER_SECOND * lasts_s,
                stop=self.stop,
            )
        return told

    def _checked(
        self,
        place: Place,
        source: Source,
        command: Command,
        names: Mapping[Path, str],
        variety: Variety | None = None,
    ) -> Rendered:
        wanted = expected(place.output, source.probe)
        with self.progress.timed("render_s"):
            duration_s = check_output(self.program, place.path, wanted, packets=place.packets, stop=self.stop)
        self.memory.hold(size_bytes(place.path))
        own = {place.path: "OUTPUT", place.packets: "PACKETS", place.poster: "POSTER"}
        named = {**names, source.path: "SOURCE", **{path: name for path, name in own.items() if path}}
        said = without_paths(self._shown(command), named)
        return Rendered(
            output=place.output,
            path=place.path,
            duration_s=duration_s,
            args=said,
            container=container_of(place.output.preset, source.probe),
            poster=place.poster,
            variety=variety,
        )

    def _shown(self, command: Command) -> list[str]:
        """Return the arguments of FFmpeg, or of all programs of a line with `|` between them."""
        if not isinstance(command, jail.Line):
            return list(command[1:])
        assert self.kernel
        decoding, drawing, coding = command.commands
        kernel = f"effects-{self.kernel.version}"
        drawn = drawing[1 : drawing.index(COMPARED)]  # the rest changes no frame
        return [*decoding[1:], "|", kernel, *drawn, "|", *coding[1:]]


class Distances:
    """What the kernel says of the outputs that it draws, as their number in its arguments (effects.c).

    Anything may come: a video may have taken over FFmpeg, which writes into the same pipe.
    """

    def __init__(self, count: int) -> None:
        self._millionths: dict[str, int] = {}
        names = [f"{what}_{n}" for n in range(count) for what in ("source", "sibling")]
        self.readers = {name: partial(self._millionths.__setitem__, name) for name in names}

    def of(self, n: int) -> Variety | None:
        """Return the variety of an output, or None if it was not measured."""
        source, sibling = (self._share(f"{what}_{n}") for what in ("source", "sibling"))
        return None if source is None else Variety(source=source, sibling=sibling)

    def _share(self, name: str) -> float | None:
        value = self._millionths.get(name)
        return None if value is None or value > MILLION else value / MILLION


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
    """Write a playlist that has the user's name of the media file, and return its path."""
    named = playlist.with_name("named.m3u8")
    content = text(playlist).replace(PLAYLIST_MEDIA, media_name)
    check_playlist(content, media_name=media_name, media_bytes=size_bytes(media))
    with named.open("x") as file:  # a new file: it must not be an existing one that FFmpeg made
        file.write(content)
    return named
