"""Prints the coverage of each package, from the data that `make coverage` has collected.

For the lines of one file: `.venv/bin/coverage report -m --include 'control/store/queue.py'`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
Counts = tuple[int, int]  # statements, and those that ran


def package_of(file: Path) -> str:
    """Return the package of a file: a folder of `control` or `infra`, or the top package itself."""
    return ".".join(file.parent.parts[:2])


def lines(files: Iterable[tuple[Path, Counts]]) -> Iterator[str]:
    """Yield a table with one row for each package, and a last row for all of them."""
    sums: dict[str, Counts] = defaultdict(lambda: (0, 0))
    for file, (statements, ran) in files:
        for name in (package_of(file), "all"):
            before = sums[name]
            sums[name] = (before[0] + statements, before[1] + ran)
    yield f"{'package':<20}{'statements':>11}{'run':>8}{'share':>8}"
    for name in sorted(sums, key=lambda name: (name == "all", name)):
        statements, ran = sums[name]
        yield f"{name:<20}{statements:>11,}{ran:>8,}{ran / max(1, statements):>8.0%}"


def measured() -> Iterator[tuple[Path, Counts]]:
    """Yield each file with its counts."""
    from coverage import Coverage

    coverage = Coverage(config_file=str(ROOT / "pyproject.toml"))
    coverage.combine()
    for name in sorted(coverage.get_data().measured_files()):
        _, statements, _, missing, _ = coverage.analysis2(name)
        yield Path(name).relative_to(ROOT), (len(statements), len(statements) - len(missing))


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines(measured()))
