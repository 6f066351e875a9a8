"""The sound of an output: as loud as the source's, not clipped, and synchronous at both ends."""

from __future__ import annotations

import array
import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from runner.contract import Preset
from runner.probe import look
from runner.stop import Stop
from tests.support.clips import PLAIN, describe
from tests.support.making import made, raw, rendered, source_of

PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=4"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
NOISE = "anoisesrc=d=4:seed={seed}:amplitude=0.2:r=48000,lowpass=f=3000,tremolo=f=3"
AROUND = (
    f"{NOISE.format(seed=1)}[a];{NOISE.format(seed=2)}[b];{NOISE.format(seed=3)},volume=1.5[c];"
    "anullsrc=d=4:r=48000:cl=mono[d];"
    f"{NOISE.format(seed=5)}[e];{NOISE.format(seed=6)}[f];"
    "[a][b][c][d][e][f]join=inputs=6:channel_layout=5.1[out0]"
)
ALIKE = f"{NOISE.format(seed=1)},pan=quad|c0=c0|c1=c0|c2=c0|c3=c0"  # a mix of them is louder than all
SOUNDS = {
    "mono": (NOISE.format(seed=1), ["-c:a", "aac", "-b:a", "192k"]),
    "stereo": (NOISE.format(seed=1), ["-c:a", "aac", "-ac", "2", "-b:a", "192k"]),
    "quad": (ALIKE, ["-c:a", "pcm_s16le"]),
    "5.1 AAC": (AROUND, ["-c:a", "aac", "-b:a", "384k"]),
    "5.1 AC-3": (AROUND, ["-c:a", "ac3", "-b:a", "448k"]),
    "8 kHz": (NOISE.format(seed=1), ["-c:a", "pcm_s16le", "-ar", "8000"]),
    "192 kHz": (NOISE.format(seed=1), ["-c:a", "pcm_s24le", "-ar", "192000"]),
}
BEEPS_S = (0.2, 3.7)
BEEPS = "aevalsrc='0.5*sin(2*PI*1000*t)*(between(t,0.2,0.3)+between(t,3.7,3.8))':s=48000:d=4"


def measured(ffmpeg: str, path: Path, fact: str) -> float:
    """Return what `ebur128` says of a file: its loudness or its true peak."""
    command = [ffmpeg, "-i", str(path), "-map", "0:a:0", "-af", "ebur128=peak=true:framelog=quiet"]
    said = subprocess.run(
        [*command, "-f", "null", "-"], check=True, capture_output=True, text=True, timeout=60
    )
    found = re.findall(rf"{fact}: +(-?[\d.]+)", said.stderr)
    return float(found[-1])


def onsets_s(ffmpeg: str, path: Path) -> list[float]:
    """Return when the sound becomes loud after a tenth of a second of silence."""
    decoded = raw(ffmpeg, path, "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", *RAW)
    samples, found, loud_at = array.array("h", decoded), [], -RATE
    for at, sample in enumerate(samples):
        if abs(sample) > 3000:
            if at - loud_at > RATE / 10:
                found.append(at / RATE)
            loud_at = at
    return found


def sound_s(ffmpeg: str, path: Path) -> float:
    """Return when the sound ends."""
    found = look(ffmpeg, path, timeout_s=60, stop=Stop()).probe.sound_s
    assert found is not None
    return found


RATE = 48000
RAW = ["-ac", "1", "-ar", str(RATE), "-f", "s16le"]


@pytest.mark.parametrize(("name", "speed"), [*product(SOUNDS, [1.03]), *product(["stereo"], [0.97, 1.0])])
def test_an_output_is_as_loud_as_its_source(ffmpeg: str, name: str, speed: float, tmp_path: Path) -> None:
    sound, coded = SOUNDS[name]
    path = made(ffmpeg, tmp_path / "source.mov", *PICTURE, "-f", "lavfi", "-i", sound, *X264, *coded)
    output = rendered(ffmpeg, source_of(ffmpeg, path), tmp_path, PLAIN.model_copy(update={"speed": speed}))
    assert measured(ffmpeg, output, "I") == pytest.approx(measured(ffmpeg, path, "I"), abs=0.5)
    assert ("mono" if name in ("mono", "8 kHz", "192 kHz") else "stereo") in describe(ffmpeg, output)


@pytest.mark.parametrize("preset", [None, Preset.WEB_OPTIMIZED])
def test_six_loud_channels_become_two_without_clipping(
    ffmpeg: str, preset: Preset | None, tmp_path: Path
) -> None:
    tone = "0.8*sin(2*PI*440*t)"
    loud = f"aevalsrc='{tone}|{tone}|{tone}|0|{tone}|{tone}':c=5.1:s=48000:d=2"
    path = made(
        ffmpeg, tmp_path / "source.mov", *PICTURE, "-f", "lavfi", "-i", loud, *X264, "-c:a", "pcm_s16le"
    )
    effects = PLAIN if preset is None else None
    output = rendered(ffmpeg, source_of(ffmpeg, path), tmp_path, effects, preset)
    assert "stereo" in describe(ffmpeg, output)
    assert measured(ffmpeg, output, "Peak") < 0


@pytest.mark.parametrize(
    ("kind", "speed"),
    [*product(["late", "gap", "44.1 kHz", "AAC"], [1.03]), *product(["whole"], [0.97, 1.0, 1.03])],
)
def test_sound_is_in_step_at_both_ends(ffmpeg: str, kind: str, speed: float, tmp_path: Path) -> None:
    coded = ["-c:a", "aac"] if kind in ("AAC", "gap") else ["-c:a", "pcm_s16le"]
    rate = ["-ar", "44100"] if kind == "44.1 kHz" else []
    cut = {"late": "atrim=start=0.15", "gap": "aselect='not(between(t,1,3))'"}.get(kind, "anull")
    sound = ["-f", "lavfi", "-i", BEEPS, "-af", cut]
    path = made(ffmpeg, tmp_path / "source.mov", *PICTURE, *sound, *X264, *coded, *rate)
    output = rendered(ffmpeg, source_of(ffmpeg, path), tmp_path, PLAIN.model_copy(update={"speed": speed}))
    assert sound_s(ffmpeg, output) == pytest.approx(4 / speed, abs=0.02)
    assert onsets_s(ffmpeg, output) == pytest.approx([at / speed for at in BEEPS_S], abs=0.02)


@pytest.mark.parametrize("preset", [None, Preset.COPY, Preset.WEB_OPTIMIZED])
def test_a_sound_track_without_a_packet_counts_as_silence(
    ffmpeg: str, tmp_path: Path, preset: Preset | None
) -> None:
    """A recording that is cut off early may announce a sound of which nothing had been written yet."""
    fragments = ["-movflags", "+empty_moov+frag_every_frame+separate_moof"]
    late = ["-itsoffset", "3", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac"]
    path = made(ffmpeg, tmp_path / "clip.mp4", *PICTURE, *late, *X264, *fragments)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "Audio: aac" in describe(ffmpeg, path)
    source = source_of(ffmpeg, path)
    assert not source.probe.has_audio
    output = rendered(ffmpeg, source, tmp_path, None if preset else PLAIN, preset)
    assert "Audio" not in describe(ffmpeg, output)
