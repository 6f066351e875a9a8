"""Every reason has a meaning."""

from __future__ import annotations

from control.domain.reasons import REASONS
from runner.contract import Reason


def test_every_reason_has_a_retry_rule_and_a_text_of_its_own() -> None:
    assert set(REASONS) == set(Reason)
    assert len({meaning.text for meaning in REASONS.values()}) == len(Reason)
