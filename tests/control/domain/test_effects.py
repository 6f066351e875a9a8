"""From a seed to effects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.domain.effects import SIBLINGS, effects, tag

SEEDS = st.integers(0, 2**63 - 1)
RANGES = {
    "brightness": (-0.05, 0.05),
    "contrast": (0.95, 1.05),
    "saturation": (0.95, 1.05),
    "zoom": (1.0, 1.05),
    "noise": (0, 8),
    "speed": (0.97, 1.03),
}


def hundred(seed: int, fingerprint: str = "f"):
    return [effects(seed=seed, fingerprint=fingerprint, variation=n) for n in range(1, 101)]


@given(SEEDS, st.text())
def test_every_effect_lies_in_its_documented_range(seed, fingerprint):
    for recipe in hundred(seed, fingerprint)[:12]:
        for name, (low, high) in RANGES.items():
            assert low <= getattr(recipe, name) <= high
        assert 0.001 <= abs(recipe.rotation_rad) <= 0.01


@given(SEEDS)
def test_every_variation_of_a_source_differs_from_every_other(seed):
    recipes = [recipe.model_dump_json() for recipe in hundred(seed)]
    assert len(set(recipes)) == 100


def test_the_same_seed_and_source_give_the_same_effects_whatever_their_number():
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


def test_names_end_in_six_hex_digits():
    code = tag(seed=1, fingerprint="a", variation=1)
    assert len(code) == 6
    assert set(code) <= set("0123456789abcdef")


FROZEN = {
    "rotation_rad": 0.003931,
    "brightness": 0.011804,
    "contrast": 1.021239,
    "saturation": 0.988509,
    "zoom": 1.030005,
    "noise": 0,
    "speed": 1.02057,
    "mirror": False,
}
