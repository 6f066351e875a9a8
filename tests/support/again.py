"""Makes an output again by nothing but what is told of it, as docs/api.md says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path

from runner.kernel import find_kernel


def make_again(ffmpeg: str, words: list[str], folder: Path) -> None:
    """Run `ffmpeg_args` in a folder that holds the source as SOURCE."""
    for stats, width, height in turned_in(words):
        turn = [sys.executable, "-m", "runner.analysis", str(folder / stats), width, height]
        subprocess.run(turn, check=True, capture_output=True, timeout=60)
    parts = [list(part) for is_end, part in groupby(words, lambda word: word == "|") if not is_end]
    if len(parts) == 1:
        subprocess.run([ffmpeg, *words], cwd=folder, check=True, capture_output=True, timeout=60)
        return
    kernel = find_kernel()
    assert kernel
    decoding, (name, *drawing), coding = parts
    assert name == f"effects-{kernel.version}"
    drawn = range(4, 4 + len(drawing) - 2)  # two words are its size
    read, write = (" ".join(f"{n}{sign}pipe{n}" for n in drawn) for sign in "<>")
    script = f"""
        mkfifo {" ".join(f"pipe{n}" for n in (3, *drawn))}
        {shlex.join([ffmpeg, *decoding])} 3>pipe3 &
        {shlex.join([str(kernel.path), *drawing])} 3<pipe3 {write} &
        {shlex.join([ffmpeg, *coding])} {read}
        result=$?
        wait
        rm pipe*
        exit $result
    """
    subprocess.run(["bash", "-c", script], cwd=folder, check=True, capture_output=True, timeout=60)


def turned_in(words: list[str]) -> set[tuple[str, str, str]]:
    """Return the analyses that these arguments need turned around, with the size of the picture."""
    size = next((word.split("x") for word in words if re.fullmatch(r"\d+x\d+", word)), ["", ""])
    return {(stats, *size) for word in words for stats in re.findall(r"stats=(STATS-[^:]*)-turned", word)}
