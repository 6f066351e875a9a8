"""From a seed to effects."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from statistics import correlation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.domain.effect_names import EFFECT_NAMES
from control.domain.effects import SIBLINGS, EffectChoice, effects, tag
from runner.contract import Effects

SEEDS = st.integers(0, 2**63 - 1)
RANGES = {
    "brightness": (-0.05, 0.05),
    "contrast": (0.95, 1.05),
    "saturation": (0.95, 1.05),
    "zoom": (1.0, 1.05),
    "noise": (0, 8),
    "speed": (0.97, 1.03),
    "shift_x": (-1.0, 1.0),
    "shift_y": (-1.0, 1.0),
}
FIELDS = {"rotation": ("rotation_rad",), "zoom": ("zoom", "shift_x", "shift_y")}
CHOICES = st.sets(st.sampled_from(EFFECT_NAMES), max_size=len(EFFECT_NAMES) - 1)
NEUTRAL = Effects().model_dump()


def some(count: int, seed: int, fingerprint: str = "f", **how):
    return [effects(seed=seed, fingerprint=fingerprint, variation=n, **how) for n in range(1, count + 1)]


def hundred(seed: int, fingerprint: str = "f", **how):
    return some(100, seed, fingerprint, **how)


def only(*names: str, strength: float = 1.0) -> EffectChoice:
    return EffectChoice(tuple(name for name in EFFECT_NAMES if name not in names), strength)


def fields(effect: str) -> tuple[str, ...]:
    return FIELDS.get(effect, (effect,))


@given(SEEDS, st.text())
def test_every_effect_is_in_its_documented_range(seed, fingerprint):
    for recipe in hundred(seed, fingerprint)[:12]:
        for name, (low, high) in RANGES.items():
            assert low <= getattr(recipe, name) <= high
        assert 0.001 <= abs(recipe.rotation_rad) <= 0.01


@given(SEEDS)
def test_every_variation_of_a_source_differs_from_every_other(seed):
    recipes = [recipe.model_dump_json() for recipe in hundred(seed)]
    assert len(set(recipes)) == 100


def test_the_same_seed_and_source_give_the_same_effects_for_any_number():
    assert hundred(5)[:3] == [effects(seed=5, fingerprint="f", variation=n) for n in (1, 2, 3)]


def test_another_seed_or_source_gives_other_effects():
    assert hundred(5)[0] != hundred(6)[0]
    assert hundred(5, "f")[0] != hundred(5, "g")[0]


def test_noise_and_speed_are_shared_by_four_siblings_and_no_more():
    recipes = hundred(5)
    for start in range(0, 100, SIBLINGS):
        group = recipes[start : start + SIBLINGS]
        assert len({(recipe.noise, recipe.speed) for recipe in group}) == 1
    assert len({recipe.speed for recipe in recipes}) == 100 // SIBLINGS


def test_the_effects_of_a_seed_never_change():
    first = effects(seed=1, fingerprint="a", variation=1)
    assert first.model_dump() == FROZEN


def test_draws_are_uniform_enough():
    recipes = [recipe for seed in range(20) for recipe in hundred(seed)]
    for name, (low, high) in RANGES.items():
        mean = sum(getattr(recipe, name) for recipe in recipes) / len(recipes)
        assert mean == pytest.approx((low + high) / 2, abs=(high - low) * 0.05)
    assert 0.45 < sum(recipe.mirror for recipe in recipes) / len(recipes) < 0.55
    assert {recipe.noise for recipe in recipes} == set(range(9))


# --- the sequence ---------------------------------------------------------------------------------------


@given(SEEDS)
def test_siblings_are_in_different_quarters_of_each_range(seed):
    siblings = some(SIBLINGS, seed)
    for name in ("brightness", "contrast", "saturation", "zoom", "shift_x", "shift_y"):
        low, high = RANGES[name]
        places = sorted((getattr(one, name) - low) / (high - low) * 4 for one in siblings)
        assert all(n - 0.01 <= place <= n + 1.01 for n, place in enumerate(places)), name  # they are rounded
    assert sum(one.mirror for one in siblings) == 2
    assert sum(one.rotation_rad > 0 for one in siblings) == 2


def test_a_hundred_values_leave_no_gap_in_a_range_that_independent_draws_would_leave():
    values = sorted(one.zoom for one in hundred(3))
    gaps = [after - before for before, after in pairwise([1.0, *values, 1.05])]
    assert max(gaps) < 0.05 * 4 / 100  # of independent draws some gap is longer than 5 hundredths


def test_effects_do_not_follow_each_other():
    recipes = [recipe for seed in range(10) for recipe in hundred(seed)]
    for one, other in combinations(["brightness", "contrast", "saturation", "zoom", "shift_x"], 2):
        found = correlation([getattr(r, one) for r in recipes], [getattr(r, other) for r in recipes])
        assert abs(found) < 0.1, (one, other)


# --- what is left out, and how strong the rest is -----------------------------------------------------------


@given(SEEDS, st.sets(st.sampled_from(["rotation", "noise", "speed", "mirror", "zoom"])))
def test_an_effect_that_is_left_out_is_neutral_and_changes_no_other(seed, without):
    whole, less = some(8, seed), some(8, seed, choice=EffectChoice(tuple(without)))
    left_out = {field for name in without for field in fields(name)}
    for one, other in zip(whole, less, strict=True):
        for field, value in other.model_dump().items():
            assert value == (NEUTRAL[field] if field in left_out else getattr(one, field))


@given(SEEDS, st.floats(0.1, 1.0))
def test_strength_multiplies_the_distance_from_no_effect(seed, strength):
    for whole, weak in zip(some(8, seed), some(8, seed, choice=EffectChoice((), strength)), strict=True):
        assert weak.mirror == whole.mirror
        assert weak.noise == round(strength * whole.noise)
        for name in ("rotation_rad", *RANGES):
            if name != "noise":
                far = strength * (getattr(whole, name) - NEUTRAL[name])
                assert getattr(weak, name) - NEUTRAL[name] == pytest.approx(far, abs=2e-6)


@given(SEEDS, CHOICES, st.floats(0.1, 1.0))
def test_as_many_variations_differ_as_a_choice_says_that_there_are(seed, without, strength):
    choice = EffectChoice(tuple(without), strength)
    count = int(min(100, choice.distinct_max))
    recipes = some(count, seed, choice=choice)
    assert len({recipe.model_dump_json() for recipe in recipes}) == count


@pytest.mark.parametrize(
    ("choice", "most"),
    [
        (only("mirror"), 2),
        (only("noise"), 9),
        (only("noise", "mirror"), 18),
        (only("noise", strength=0.1), 2),
        (only("speed"), math.inf),
        (only("zoom", strength=0.1), math.inf),
    ],
    ids=str,
)
def test_discrete_effects_alone_allow_a_limited_number(choice, most):
    assert choice.distinct_max == most
    if most < 100:
        with pytest.raises(ValueError, match=f"only {most} different"):
            effects(seed=1, fingerprint="f", variation=most + 1, choice=choice)


def test_noise_and_speed_are_shared_only_while_something_else_differs():
    assert [only("speed").siblings, only("speed", "mirror").siblings, only("speed", "zoom").siblings] == [
        1,
        2,
        4,
    ]


def test_names_end_in_six_hex_digits():
    code = tag(seed=1, fingerprint="a", variation=1)
    assert len(code) == 6
    assert set(code) <= set("0123456789abcdef")


FROZEN = {
    "rotation_rad": 0.005615,
    "brightness": -0.044655,
    "contrast": 1.01784,
    "saturation": 0.988291,
    "zoom": 1.020595,
    "noise": 3,
    "speed": 0.995728,
    "mirror": False,
    "shift_x": -0.531682,
    "shift_y": -0.143405,
}
