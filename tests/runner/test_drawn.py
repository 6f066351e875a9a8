"""Outputs that the kernel draws equal those of the filters: tags, size, sound, poster."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runner.allowance import Allowance
from runner.contract import Effects, OutputSpec, PutTarget, Style
from runner.kernel import find_kernel
from runner.memory import MemoryBudget
from runner.probe import probe
from runner.progress import Progress
from runner.render import Rendered, Renderer, Source
from runner.stop import Stop
from runner.transfer import Deliveries
from tests.support.clips import PLAIN, describe, make_clip
from tests.support.jails import needs_a_jail
from tests.support.making import made

TURNED = PLAIN.model_copy(update={"rotation_rad": 0.01, "zoom": 1.04, "mirror": True, "speed": 0.97})

CLIPS = {
    "plain": [],
    "odd": ["-vf", "crop=159:119:exact=1,format=yuv444p", "-pix_fmt", "yuv444p"],
    "anamorphic": ["-vf", "setsar=4/3"],
    "tagged": ["-vf", "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709"],
    "older": ["-vf", "setparams=color_primaries=smpte170m:color_trc=bt470bg:colorspace=smpte170m"],
    "full range": ["-vf", "scale=out_range=pc", "-color_range", "pc", "-pix_fmt", "yuvj420p"],
    "silent": ["-an"],
    "turned": ["-metadata:s:v:0", "rotate=90"],
    "60 fps": ["-r", "60"],
    "15 fps": ["-r", "15"],
}


@pytest.fixture
def renderer(ffmpeg: str, tmp_path: Path) -> Renderer:
    needs_a_jail()
    kernel = find_kernel()
    if not kernel:
        pytest.skip("the kernel was not built (SKIP_KERNEL)")
    stop = Stop()
    folder = tmp_path / "work"
    folder.mkdir()
    budget = MemoryBudget(1 << 30, stop)
    return Renderer(
        program=ffmpeg,
        folder=folder,
        memory=budget,
        progress=Progress(),
        stop=stop,
        kernel=kernel,
        allowance=Allowance(None),
        deliveries=Deliveries(Allowance(None), allow=[], stop=stop),
    )


def source_of(renderer: Renderer, path: Path) -> Source:
    folder = renderer.folder / "source"
    folder.mkdir()
    path = path.rename(folder / "source.mp4")
    return Source(path=path, probe=probe(renderer.program, path, stop=renderer.stop))


def output(effects: Effects = TURNED, n: int = 0) -> OutputSpec:
    target = PutTarget(url="", headers={})
    return OutputSpec(
        output_id=f"o{n}", source_id="s", effects=effects, put_url="", put_headers={}, poster=target
    )


def was_drawn(made: Rendered) -> bool:
    return "|" in made.args


ALPHA = ["-vf", "format=rgba,geq=r=200:g=80:b=40:a=X", "-c:v", "qtrle"]
UNEVEN = "setpts='if(lt(N,3),N,if(lt(N,6),3+(N-3)*2,9+(N-6)*0.2))/TB'"
SOURCES: dict[str, tuple[str, list[str]]] = {
    "1 fps": ("1", []),
    "3 s per picture": ("1/3", ["-frames:v", "3"]),
    "one picture of 1/120 s": ("120", ["-frames:v", "1"]),
    "uneven with B-frames": (
        "1",
        ["-frames:v", "12", "-vf", UNEVEN, "-fps_mode", "vfr", "-enc_time_base", "1:1000", "-bf", "3"],
    ),
    "24 fps": ("24000/1001", []),
    "alpha": ("25", ALPHA),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("style", [Style(), Style("high", "source")])
def test_a_source_of_any_rate_has_the_same_frames_by_the_kernel_as_by_the_filters(
    renderer: Renderer, ffmpeg: str, tmp_path: Path, kind: str, style: Style
) -> None:
    rate, args = SOURCES[kind]
    path = tmp_path / "clip.mov"
    lavfi = ["-f", "lavfi", "-i", f"testsrc2=s=160x120:r={rate}:d=4"]
    source = source_of(renderer, made(ffmpeg, path, *lavfi, *args))
    asked = output(PLAIN).model_copy(update=style._asdict())
    drawn, filtered = renderer.single(asked, source), renderer.alone(asked, source)
    assert was_drawn(drawn)
    assert seen(ffmpeg, drawn.path) == seen(ffmpeg, filtered.path)
    assert drawn.duration_s == filtered.duration_s
    shown = [frames(ffmpeg, file) for file in (drawn.path, filtered.path)]
    assert len(shown[0]) == len(shown[1])
    assert max(abs(a - b) for a, b in zip(*shown, strict=True)) < 1


def test_picture_and_sound_of_a_source_that_is_cut_off_are_each_drawn_to_their_own_end(
    renderer: Renderer, ffmpeg: str, tmp_path: Path
) -> None:
    path = make_clip(ffmpeg, tmp_path / "clip.mp4", "-movflags", "+faststart", seconds=4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    source = source_of(renderer, path)
    assert source.probe.duration_s < 3.5
    drawn, filtered = renderer.single(output(), source), renderer.alone(output(), source)
    assert was_drawn(drawn)
    assert seen(ffmpeg, drawn.path) == seen(ffmpeg, filtered.path)
    assert "Audio: aac" in describe(ffmpeg, drawn.path)
    assert drawn.duration_s == filtered.duration_s
    assert len(frames(ffmpeg, drawn.path)) == len(frames(ffmpeg, filtered.path))


def frames(ffmpeg: str, path: Path) -> list[float]:
    """Return the mean brightness of each frame."""
    command = [ffmpeg, "-v", "error", "-i", str(path), "-vf", "scale=1:1,format=gray", "-f", "rawvideo", "-"]
    return list(map(float, subprocess.run(command, capture_output=True, check=True, timeout=60).stdout))


def seen(ffmpeg: str, path: Path) -> list[str]:
    """Return what FFmpeg says of each stream, without its rates."""
    streams = re.findall(r"Stream #.*", describe(ffmpeg, path))
    return [re.sub(r"\d+ kb/s", "", stream) for stream in streams]


@pytest.mark.parametrize("kind", CLIPS)
def test_the_kernel_s_output_is_described_as_that_of_the_filters(
    renderer: Renderer, ffmpeg: str, tmp_path: Path, kind: str
) -> None:
    source = source_of(
        renderer, make_clip(ffmpeg, tmp_path / "clip.mp4", *CLIPS[kind], sound=kind != "silent")
    )
    drawn, filtered = renderer.single(output(), source), renderer.alone(output(), source)
    assert was_drawn(drawn)
    assert not was_drawn(filtered)
    assert seen(ffmpeg, drawn.path) == seen(ffmpeg, filtered.path)
    assert drawn.duration_s == filtered.duration_s
    assert drawn.path.stat().st_size == pytest.approx(filtered.path.stat().st_size, rel=0.03)


def test_the_poster_is_the_middle_frame(renderer: Renderer, ffmpeg: str, tmp_path: Path) -> None:
    """The picture gets brighter from black to white: the middle is grey."""
    bright = "geq=lum=16+219*T/2:cb=128:cr=128"
    source = source_of(renderer, make_clip(ffmpeg, tmp_path / "clip.mp4", "-vf", bright, seconds=2))
    poster = renderer.single(output(), source).poster
    assert poster
    assert "mjpeg" in describe(ffmpeg, poster)
    assert mean_of(ffmpeg, poster) == pytest.approx(125, abs=6)


def test_a_picture_that_ends_before_the_sound_s_middle_still_has_a_poster(
    renderer: Renderer, ffmpeg: str, tmp_path: Path
) -> None:
    short = make_clip(ffmpeg, tmp_path / "short.mp4", "-frames:v", "5", seconds=4)
    made = renderer.single(output(), source_of(renderer, short))
    assert was_drawn(made)
    assert made.poster
    assert made.poster.stat().st_size > 100


def mean_of(ffmpeg: str, picture: Path) -> float:
    command = [ffmpeg, "-v", "error", "-i", str(picture), "-vf", "format=gray", "-f", "rawvideo", "pipe:1"]
    grey = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return sum(grey) / len(grey)


def test_a_source_with_strange_tags_is_drawn_by_the_filters(
    renderer: Renderer, ffmpeg: str, tmp_path: Path
) -> None:
    strange = ["-vf", "setparams=color_primaries=smpte431:color_trc=bt709:colorspace=bt709"]
    source = source_of(renderer, make_clip(ffmpeg, tmp_path / "clip.mp4", *strange))
    assert source.probe.tags is None
    assert not was_drawn(renderer.single(output(), source))


@pytest.mark.parametrize("has_kernel", [True, False])
def test_a_group_is_made_with_and_without_the_kernel_and_leaves_nothing_but_its_outputs(
    renderer: Renderer, ffmpeg: str, tmp_path: Path, has_kernel: bool
) -> None:
    if not has_kernel:
        renderer = replace(renderer, kernel=None)
    source = source_of(renderer, make_clip(ffmpeg, tmp_path / "clip.mp4"))
    before = set(renderer.folder.iterdir())
    first, shared = renderer.first(output(), source)
    others = renderer.others(
        [output(TURNED.model_copy(update={"mirror": n > 1}), n) for n in (1, 2)], source, shared
    )
    shared.free()
    assert [was_drawn(made) for made in (first, *others)] == [has_kernel] * 3
    assert len({made.path.read_bytes() for made in (first, *others)}) == 3
    assert set(renderer.folder.iterdir()) - before == {made.path.parent for made in (first, *others)}
