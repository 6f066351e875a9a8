"""Every kind of file that people have, through the whole product: by the command and by what the page calls.

SOAK_FULL=1 takes all kinds; else a few that stand for the rest.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from math import log10
from pathlib import Path

import httpx
import pytest

from control.cli.local import LocalStack
from runner.probe import look
from runner.stop import Stop
from tests.support.cli import Cli
from tests.support.kinds import KINDS, Kind, made
from tests.support.user import User

FRAME_S = 1001 / 30000
FEW = (
    "OBS, fragmented, cut off",
    "After Effects, HAP",
    "no extension",
    "picture goes on after the sound",
    "DTS",
)
CHOSEN = list(KINDS) if os.environ.get("SOAK_FULL") else FEW
BY_COMMAND = CHOSEN if os.environ.get("SOAK_FULL") else (FEW[0], FEW[-1])
FAINT = ["rotation", "contrast", "saturation", "zoom", "noise", "speed", "mirror"]  # a little light is left
SHOWN_DB = 27.0  # a frame that is off by one is nearer than any other picture, and farther than this


@pytest.fixture(scope="module")
def files(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {name: made(ffmpeg, KINDS[name], folder) for name in CHOSEN}


def judged(
    ffmpeg: str,
    files: Mapping[str, Path],
    refused: Mapping[str, str],
    results: Mapping[str, Path],
    notes: Mapping[str, str],
    record: Callable[[str, object], None],
) -> list[str]:
    """Return what is wrong, and record a table of all kinds."""
    wrong = []
    for name, path in files.items():
        kind = KINDS[name]
        if kind.refused:
            found = [] if kind.refused in refused.get(name, "") else [f"not refused: {refused.get(name)}"]
        elif name not in results:
            found = [f"refused: {refused.get(name)}"]
        else:
            found = differences(ffmpeg, kind, path, results[name])
            if kind.noted not in notes.get(name, ""):
                found.append(f"noted: {notes.get(name)}")
        record(name, "; ".join(found) or ("refused" if kind.refused else "right"))
        wrong += [f"{name}: {each}" for each in found]
    return wrong


def differences(ffmpeg: str, kind: Kind, source: Path, output: Path) -> list[str]:
    """Return what is not right of an output."""
    found = []
    seen = look(ffmpeg, output, timeout_s=60, stop=Stop()).probe
    wanted_s = max(FRAME_S, kind.picture_s)
    if seen.picture_s is None or abs(seen.picture_s - wanted_s) > FRAME_S + 1e-3:
        found.append(f"the picture lasts {seen.picture_s}, not {wanted_s:.3f} s")
    if (seen.sound_s is None) != (kind.sound_s is None):
        found.append(f"the sound lasts {seen.sound_s}, not {kind.sound_s} s")
    elif seen.sound_s and kind.sound_s and abs(seen.sound_s - kind.sound_s) > 0.05:
        found.append(f"the sound lasts {seen.sound_s:.3f}, not {kind.sound_s} s")
    if kind.sound_s and kind.sound_s >= 1:
        there, here = loudness(ffmpeg, source, kind.loudness), loudness(ffmpeg, output, "anull")
        if abs(there - here) > 0.5:
            found.append(f"the sound has {here} LUFS, not {there}")
    if kind.reference is not None:
        for share in (0.0, 0.6, 0.95):
            frame = round(share * (kind.picture_s / FRAME_S - 1))
            right = picture(ffmpeg, source, frame, kind.reference, is_turned=kind.is_turned)
            db = psnr(right, picture(ffmpeg, output, frame, "null"))
            if db < SHOWN_DB:
                found.append(f"picture {frame} is {db:.1f} dB from that of the source")
    return found


def picture(ffmpeg: str, path: Path, frame: int, filters: str, *, is_turned: bool = False) -> bytes:
    """Return a frame of the standard rate, small."""
    steady = f"fps=30000/1001:start_time=0,tpad=stop_mode=clone:stop=400,select=eq(n\\,{frame})"
    small = f"{filters},{steady},scale=80:60:flags=area,format=rgb24"
    stored = ["-noautorotate"] if is_turned else []
    command = [ffmpeg, "-v", "error", *stored, "-i", str(path), "-map", "0:V:0", "-frames:v", "1"]
    shown = [*command, "-vf", small, "-f", "rawvideo", "-"]
    return subprocess.run(shown, check=True, capture_output=True, timeout=60).stdout


def psnr(one: bytes, other: bytes) -> float:
    squares = sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / len(one)
    return 10 * log10(255**2 / squares) if squares else 99.0


def loudness(ffmpeg: str, path: Path, filters: str) -> float:
    command = [ffmpeg, "-hide_banner", "-i", str(path), "-map", "0:a:0", "-vn"]
    measured = ["-af", f"{filters},aresample=async=1:first_pts=0,ebur128=framelog=quiet", "-f", "null", "-"]
    said = subprocess.run([*command, *measured], check=True, capture_output=True, text=True, timeout=60)
    return float(re.findall(r"I: +(-?[\d.]+) LUFS", said.stderr)[-1])


def uploaded(user: User, path: Path) -> httpx.Response:
    """Return the first answer to an upload that is no success, or that of its `complete`."""
    content = path.read_bytes()
    body = {"name": path.name, "size_bytes": len(content), "content_type": "video/mp4"}
    opened = user.http.post("/api/uploads", json=body)
    if opened.status_code != 201:
        return opened
    parts = {"parts": user.put_parts(opened.json(), content)}
    return user.http.post(f"/api/uploads/{opened.json()['upload_id']}/complete", json=parts)


def named(kinds: Mapping[str, Path], output: str) -> str:
    """Return the kind whose file an output is named after."""
    folder = output.partition("/")[0]
    return next(name for name, path in kinds.items() if path.stem == folder)


def test_every_kind_is_made_right_or_refused_by_the_command(
    ffmpeg: str,
    stack: LocalStack,
    files: Mapping[str, Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    files = {name: files[name] for name in BY_COMMAND}
    cli = Cli(tmp_path, REFRESHER_URL=stack.url, REFRESHER_PASSWORD=stack.password)
    wish = ["-n", 1, "--strength", 0.1, *(arg for name in FAINT for arg in ("--without", name))]
    done = cli.run("submit", *files.values(), *wish, "-o", tmp_path / "out")
    printed = f"{done.stdout}\n{done.stderr}"
    (tmp_path / "out").mkdir(exist_ok=True)
    results = {named(files, f"{path.parent.name}/"): path for path in (tmp_path / "out").rglob("*.mp4")}
    refused, notes = {}, {}
    for name, path in files.items():
        texts = re.findall(rf"^ *{re.escape(path.name)}: (.*)$", printed, re.MULTILINE)
        (notes if name in results else refused)[name] = " ".join(texts)
    assert judged(ffmpeg, files, refused, results, notes, record_property) == []


def test_every_kind_is_made_right_or_refused_as_the_page_asks(
    ffmpeg: str,
    user: User,
    files: Mapping[str, Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    refused, sources, notes, results = {}, {}, {}, {}
    for name, path in files.items():
        answer = uploaded(user, path)
        if answer.status_code == 200:
            sources[name] = answer.json()["source_id"]
            notes[name] = " ".join(answer.json()["notes"])
        else:
            assert answer.status_code == 422
            refused[name] = answer.json()["error"]["message"]
    batch = user.submit(*sources.values(), variations=1, without=FAINT, strength=0.1)
    ended = user.wait(batch["batch_id"])
    for source in ended["sources"]:
        for output in source["outputs"]:
            if output["error"]:
                refused[named(files, output["name"])] = f"failed: {output['error']['message']}"
    for path, content in user.unzip(batch["batch_id"]).items():
        if path.endswith(".mp4"):
            results[named(files, path)] = tmp_path / path.rpartition("/")[2]
            results[named(files, path)].write_bytes(content)
    assert judged(ffmpeg, files, refused, results, notes, record_property) == []
