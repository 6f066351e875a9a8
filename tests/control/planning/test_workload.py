"""From outputs to seconds of a machine, and the calibration by finished jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.domain.effects import effects
from control.domain.encoding import Encoding
from control.planning.workload import OUTPUT_S, UNKNOWN_SOURCE, SourceInfo, Speed, machine_work_s, work_units
from runner.contract import Effects

CLIP = SourceInfo(size_bytes=20e6, duration_s=15, pixels=1920 * 1080)
PLAIN = Effects(
    rotation_rad=0, brightness=0, contrast=1, saturation=1, zoom=1, noise=0, speed=1, mirror=False
)


def variations(count: int, source: int = 0) -> list[tuple[int, Effects | None]]:
    return [(source, effects(seed=1, fingerprint=str(source), variation=n + 1)) for n in range(count)]


def learnt(*jobs: tuple[float, float]) -> Speed:
    speed = Speed()
    for work_s, wall_s in jobs:
        speed = speed.learn(work_s=work_s, wall_s=wall_s, launch_s=1.0, bytes_ratio=0.5)
    return speed


def test_four_siblings_are_one_piece_and_others_are_not():
    found = work_units(variations(10), [CLIP])
    assert [list(unit.outputs) for unit in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_sources_are_never_in_one_piece():
    found = work_units([(0, PLAIN), (1, PLAIN)], [CLIP, CLIP])
    assert [unit.source for unit in found] == [0, 1]


def test_presets_share_nothing():
    assert len(work_units([(0, None), (0, None)], [CLIP])) == 2


def test_a_sibling_takes_less_than_its_leader():
    alone, four = work_units(variations(1), [CLIP])[0], work_units(variations(4), [CLIP])[0]
    assert alone.work_s < four.work_s < 4 * alone.work_s


def test_work_rises_with_duration_pixels_and_noise():
    def work_s(source_info: SourceInfo, **change: float) -> float:
        return work_units([(0, PLAIN.model_copy(update=change))], [source_info])[0].work_s

    short = SourceInfo(size_bytes=1, duration_s=5, pixels=CLIP.pixels)
    small = SourceInfo(size_bytes=1, duration_s=15, pixels=640 * 360)
    assert max(work_s(short), work_s(small)) < work_s(CLIP) < work_s(CLIP, noise=8)
    assert work_s(CLIP, speed=1.03) < work_s(CLIP)


def test_an_output_of_a_source_that_was_not_probed_may_be_as_large_as_the_largest_that_is_taken():
    unseen = SourceInfo(size_bytes=0, duration_s=0, pixels=0, bytes_most=2 * 1024**3)
    for effects_ in (PLAIN, None):
        [unit] = work_units([(0, effects_)], [unseen])
        assert unit.bytes_max > 2 * 1024**3
        assert unit.likely_bytes < 30e6


def test_a_hundred_variations_of_a_link_have_room_in_the_usual_storage():
    unseen = SourceInfo(size_bytes=0, duration_s=0, pixels=0, bytes_most=2 * 1024**3)
    units = work_units([(0, PLAIN)] * 100, [unseen], sends=2)
    assert sum(unit.room_bytes for unit in units) < 10 * 1024**3


def test_what_goes_to_two_places_is_sent_twice_and_stored_once():
    [once], [twice] = work_units([(0, None)], [CLIP]), work_units([(0, None)], [CLIP], sends=2)
    assert (twice.bytes_max, twice.likely_bytes) == (2 * once.bytes_max, 2 * once.likely_bytes)
    assert twice.room_bytes == once.room_bytes == once.bytes_max, "and stored once"


def test_a_source_that_was_not_probed_counts_as_a_common_clip():
    assert work_units([(0, PLAIN)], [UNKNOWN_SOURCE])[0].work_s > 10
    assert not UNKNOWN_SOURCE.is_known


def test_more_cores_help_until_the_longest_piece_is_left():
    parts = work_units(variations(8), [CLIP])
    seconds = [machine_work_s(parts, cores) for cores in (1, 2, 4, 8, 16)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == seconds[-2] > parts[0].longest_s


def test_what_an_output_can_be_at_most_is_more_than_it_will_be():
    for effects_ in (PLAIN, None):
        assert CLIP.bytes_max(effects_) > CLIP.likely_bytes()


def test_the_cap_of_bytes_grows_with_quality_and_beyond_full_hd_with_the_frame_by_three_quarters():
    hd, uhd = (
        SourceInfo(size_bytes=1, duration_s=600, pixels=pixels) for pixels in (1920 * 1080, 3840 * 2160)
    )
    small = SourceInfo(size_bytes=1, duration_s=600, pixels=640 * 360)
    high = Encoding(quality="high")
    assert small.bytes_max(PLAIN) == hd.bytes_max(PLAIN)
    assert uhd.bytes_max(PLAIN) / hd.bytes_max(PLAIN) == pytest.approx(4**0.75, rel=0.1)
    assert hd.bytes_max(PLAIN, high) / hd.bytes_max(PLAIN) == pytest.approx(3, rel=0.1)
    assert hd.bytes_max(None, high) == hd.bytes_max(None), "presets have a quality of their own"
    for source_info in (small, hd, uhd):
        for encoding in (Encoding(), high, Encoding(quality="high", frame_rate="source")):
            assert source_info.likely_bytes(encoding) < source_info.bytes_max(PLAIN, encoding)


def test_more_frames_are_more_work():
    [slow] = work_units([(0, PLAIN)], [CLIP])
    [fast] = work_units([(0, PLAIN)], [CLIP], encoding=Encoding(frame_rate="source"))
    assert fast.work_s == pytest.approx(2 * slow.work_s, rel=0.05)


@pytest.mark.parametrize(
    ("rate", "frames"), [(25, 25), (59.94, 59.94), (120, 60), (5, 5), (3, 6), (0.4, 5.2)]
)
def test_the_work_of_frames_at_the_rate_of_the_source_is_known_by_it(rate: float, frames: float):
    kept = Encoding(frame_rate="source")
    assert kept.frames_per_s(rate) == pytest.approx(frames)
    assert Encoding().frames_per_s(rate) == pytest.approx(29.97, abs=0.01)
    [standard] = work_units([(0, PLAIN)], [CLIP])
    [unit] = work_units([(0, PLAIN)], [replace(CLIP, frame_rate=rate)], encoding=kept)
    assert (unit.work_s - OUTPUT_S) / (standard.work_s - OUTPUT_S) == pytest.approx(frames / 29.97, rel=0.01)


def test_jobs_on_a_line_teach_the_line():
    speed = learnt(*[(work_s, 1 + 0.5 * work_s) for work_s in (3, 10, 30, 100)] * 5)
    for work_s in (5, 50, 200):
        assert speed.seconds(work_s) == pytest.approx(1 + 0.5 * work_s, rel=0.03)


def test_one_job_is_enough_to_be_right_about_its_kind():
    assert learnt((20, 50)).seconds(20) == pytest.approx(50, rel=0.05)


def test_what_machines_do_now_counts_more_than_what_they_did():
    assert learnt(*[(20, 50)] * 30, *[(20, 25)] * 30).seconds(20) == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize("jobs", [[(10, 0.1)], [(1, 50), (100, 1)], [(0, 5)], [(5, 10), (50, 20)]])
def test_no_lesson_makes_time_run_backwards(jobs):
    setup_s, pace = learnt(*jobs).line
    assert setup_s >= 0
    assert pace >= 0


def test_launches_and_bytes_are_learnt_as_well():
    speed = learnt(*[(10, 10)] * 40)
    assert (speed.launch_s, speed.bytes_ratio) == (pytest.approx(1.0), pytest.approx(0.5))
