"""Builds the program that draws effects with a C compiler from a wheel: `python runner/kernel/build.py`.

The same source and compiler give the same bytes. `SKIP_KERNEL=1` builds nothing; without the program the
runner draws by FFmpeg's filters. Must never use a compiler or a library of the machine.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).resolve().with_name("effects.c")
PROGRAM = SOURCE.with_suffix("")
# No library, and no fused multiply and add, so a recipe gives the same map on each machine.
PLAIN = ["-std=gnu11", "-static", "-nostdlib", "-ffreestanding", "-ffp-contract=off"]
STRICT = ["-Wall", "-Wextra", "-Werror"]
RELEASE = ("-O3", "-s")
MACHINES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def build(output: Path = PROGRAM, flags: Sequence[str] = RELEASE, machine: str = platform.machine()) -> None:
    """Write the program for Linux on this architecture.

    Raises OSError (an unknown one), CalledProcessError.
    """
    if machine not in MACHINES:
        raise OSError(f"the kernel is not made for {machine}")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{MACHINES[machine]}-linux-none"]
    with TemporaryDirectory(dir=output.parent) as folder:
        made = Path(folder, output.name)
        caches = {f"ZIG_{kind}_CACHE_DIR": folder for kind in ("GLOBAL", "LOCAL")}
        subprocess.run(
            [*command, *PLAIN, *STRICT, *flags, "-o", str(made), str(SOURCE)],
            env={**os.environ, **caches},
            check=True,
        )
        made.replace(output)  # in one step, since a runner may start at the same time


if __name__ == "__main__":
    if os.environ.get("SKIP_KERNEL") == "1":
        sys.exit(0)
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as failed:
        sys.exit(f"The kernel was not built, so rendering takes half as long again: {failed}")
