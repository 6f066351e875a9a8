"""The tools around the code: the hooks of pre-commit, and the table of coverage."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.coverage_table import lines

ROOT = Path(__file__).parent.parent


def test_the_hooks_run_the_quick_checks_of_make_check_and_download_nothing():
    (source,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert source["repo"] == "local"
    assert {hook["language"] for hook in source["hooks"]} == {"system"}
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    for hook in source["hooks"]:
        program = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert f"$(BIN)/{program}" in check, program


def test_coverage_is_summed_by_package():
    files = [
        (Path("control/store/queue.py"), (90, 45)),
        (Path("control/store/rows.py"), (10, 5)),
        (Path("control/app.py"), (100, 100)),
        (Path("control/views/schemas/base.py"), (0, 0)),
    ]
    assert [line.split() for line in lines(files)] == [
        ["package", "statements", "run", "share"],
        ["control", "100", "100", "100%"],
        ["control.store", "100", "50", "50%"],
        ["control.views", "0", "0", "0%"],
        ["all", "200", "150", "75%"],
    ]
