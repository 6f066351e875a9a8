"""The groups of outputs that are made together."""

from __future__ import annotations

from runner.contract import Effects, OutputSpec, Preset
from runner.groups import Group, grouped
from tests.support.clips import PLAIN


def output(name: str, effects: Effects | None = PLAIN, preset: Preset | None = None) -> OutputSpec:
    return OutputSpec(
        output_id=name, source_id="s", effects=effects, preset=preset, put_url="", put_headers={}
    )


def names(groups: list[Group]) -> list[str]:
    return ["".join(one.output_id for one in (group.first, *group.others)) for group in groups]


def test_siblings_of_one_pace_and_grain_go_together_up_to_four() -> None:
    slow, noisy = PLAIN.model_copy(update={"speed": 0.98}), PLAIN.model_copy(update={"noise": 3})
    outputs = [output("a"), output("b", slow), output("c"), output("d", noisy), output("e", slow)]
    assert names(grouped(outputs)) == ["ac", "be", "d"]
    assert names(grouped([output(name) for name in "abcdefghij"])) == ["abcd", "efgh", "ij"]


def test_outputs_of_another_quality_or_frame_rate_are_not_made_together() -> None:
    high, kept = {"quality": "high"}, {"frame_rate": "source"}
    outputs = [
        output("a"),
        output("b").model_copy(update=high),
        output("c").model_copy(update=kept),
        output("d"),
        output("e").model_copy(update=high),
    ]
    assert names(grouped(outputs)) == ["ad", "be", "c"]


def test_presets_are_made_alone() -> None:
    outputs = [output("a", None, Preset.COPY), output("b", None, Preset.HLS), output("c")]
    assert names(grouped(outputs)) == ["a", "b", "c"]


def test_an_output_too_far_from_the_first_has_an_analysis_of_its_own() -> None:
    near, far = PLAIN.model_copy(update={"zoom": 1.05}), PLAIN.model_copy(update={"zoom": 1.2})
    turned = PLAIN.model_copy(update={"rotation_rad": 0.1})
    outputs = [output("a"), output("b", near), output("c", far), output("d", turned)]
    assert names(grouped(outputs)) == ["ab", "c", "d"]
