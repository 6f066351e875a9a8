"""A campaign goes on where it was stopped, and adds up what all of its pieces went through."""

from __future__ import annotations

import json
from pathlib import Path

from tests.sim.campaign import Ledger, campaign, live_piece


def test_a_stopped_campaign_lives_only_the_seeds_that_are_left(tmp_path: Path, capsys, database):
    path = tmp_path / "soak" / "ledger.jsonl"
    whole = live_piece(1, 6, database)
    Ledger(path, "now").add(live_piece(3, 2, database))
    Ledger(path, "before").add(live_piece(1, 2, database))
    with path.open("a") as file:
        file.write('\n{"code": "now", "first": 5, "rep')  # the campaign was killed here

    campaign(None, first=1, worlds=6, piece=2, ledger=Ledger(path, "now"))
    assert "of these now: 4 worlds" in capsys.readouterr().out
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    assert sorted(found["first"] for found in map(json.loads, lines) if found["code"] == "now") == [1, 3, 5]
    resumed = Ledger(path, "now")
    assert resumed.done == {1, 3, 5}
    assert vars(resumed.total.report) == vars(whole.report)


def test_a_failure_stays_in_the_ledger_until_the_code_changes(tmp_path: Path, capsys, database):
    path = tmp_path / "ledger.jsonl"
    piece = live_piece(1, 1, database)
    piece.failures.append("Violation: seed 1")
    Ledger(path, "now").add(piece)
    assert campaign(None, first=1, worlds=1, piece=1, ledger=Ledger(path, "now")) == 1
    assert "Violation: seed 1" in capsys.readouterr().out
    assert not Ledger(path, "later").total.failures
