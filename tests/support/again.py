"""Makes an output again by nothing but what is told of it, as docs/api.md says."""

from __future__ import annotations

import shlex
import subprocess
from itertools import groupby
from pathlib import Path

from runner.kernel import find_kernel


def make_again(ffmpeg: str, words: list[str], folder: Path) -> None:
    """Run `ffmpeg_args` in a folder that holds the source as SOURCE."""
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
