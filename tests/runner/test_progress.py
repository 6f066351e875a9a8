"""The progress that is reported to control never goes back."""

from __future__ import annotations

from runner.contract import OutputError, OutputFault
from runner.progress import Progress

ERROR = OutputError(code=OutputFault.RENDER_FAILED, message="no")


def reported(progress: Progress) -> list[tuple[str, str, float]]:
    return [(report.output_id, report.status, report.percent) for report in progress.unheard()]


def test_percent_only_rises_and_only_the_latest_is_reported() -> None:
    progress = Progress()
    for percent in (0, 30, 20, 60):
        progress.running("o1", percent)
    assert reported(progress) == [("o1", "running", 60)]


def test_what_was_answered_is_not_reported_again() -> None:
    progress = Progress()
    progress.running("o1", 10)
    progress.heard(progress.unheard())
    progress.running("o1", 10)
    assert reported(progress) == []


def test_what_changed_while_the_beat_was_under_way_is_reported_by_the_next() -> None:
    progress = Progress()
    progress.running("o1", 10)
    sent = progress.unheard()
    progress.running("o1", 20)
    progress.heard(sent)
    assert reported(progress) == [("o1", "running", 20)]


def test_an_output_that_ended_stays_ended() -> None:
    progress = Progress()
    progress.failed("o1", ERROR)
    progress.running("o1", 99)
    assert reported(progress) == [("o1", "failed", 0)]
    assert progress.news.is_set()


def test_only_outputs_that_ended_are_in_the_final_report() -> None:
    progress = Progress()
    progress.running("o1", 50)
    progress.failed("o2", ERROR)
    assert [report.output_id for report in progress.ended()] == ["o2"]


def test_time_is_counted_also_when_the_phase_fails() -> None:
    progress = Progress()
    try:
        with progress.timed("render_s"):
            raise ValueError
    except ValueError:
        pass
    assert progress.timings().render_s > 0
