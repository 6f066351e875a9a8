"""A campaign goes on where it was stopped, and adds up what all of its pieces went through."""

from __future__ import annotations

from pathlib import Path

from tests.sim.campaign import Lived, campaign, live_piece
from tests.sim.world import Report
from tests.support.ledger import Ledger


def test_a_stopped_campaign_lives_only_the_seeds_that_are_left(tmp_path: Path, capsys, database):
    path = tmp_path / "soak" / "ledger.jsonl"
    pieces = [live_piece(seed, 1, database) for seed in (1, 2, 3)]
    Lived(Ledger(path, "now")).add(pieces[1])
    Lived(Ledger(path, "before")).add(pieces[0])
    with path.open("a") as file:
        file.write('\n{"code": "now", "first": 3, "rep')  # the campaign was killed here

    campaign(None, first=1, worlds=3, piece=1, ledger=Ledger(path, "now"))
    assert "of these now: 2 worlds" in capsys.readouterr().out
    resumed, whole = Lived(Ledger(path, "now")), Report()
    for piece in pieces:
        whole.add(piece.report)
    assert resumed.done == {1, 2, 3}
    assert vars(resumed.total.report) == vars(whole)


def test_a_failure_stays_in_the_ledger_until_the_code_changes(tmp_path: Path, capsys, database):
    path = tmp_path / "ledger.jsonl"
    piece = live_piece(1, 1, database)
    piece.failures.append("Violation: seed 1")
    Lived(Ledger(path, "now")).add(piece)
    assert campaign(None, first=1, worlds=1, piece=1, ledger=Ledger(path, "now")) == 1
    assert "Violation: seed 1" in capsys.readouterr().out
    assert not Lived(Ledger(path, "later")).total.failures
