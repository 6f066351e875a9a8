"""A user's choices for a batch: effects, strength, quality, frame rate and a name, over real HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from control.domain.effect_names import EFFECT_NAMES
from runner.contract import Effects
from tests.support.maker import Maker, code, manifest_of
from tests.support.user import ok, outputs

CHOICE = {"without": ["mirror", "noise"], "strength": 0.5, "quality": "high", "frame_rate": "source"}
SEEN = {"size_bytes": 20_000_000, "duration_s": 15.0, "width": 1920, "height": 1080}


def body(maker: Maker, **wish: Any) -> dict[str, Any]:
    return {"sources": [{"source_id": maker.source()}], "variations": 2, **wish}


def refused(maker: Maker, **wish: Any) -> httpx.Response:
    """Return the refusal of a batch, which a job and a quote get as well."""
    answers = [
        maker.http.post(f"/api/{noun}", json=body(maker, **wish)) for noun in ("batches", "jobs", "quote")
    ]
    assert {code(answer) for answer in answers} == {(422, "invalid")}
    return answers[0]


@pytest.mark.parametrize("kind", ["jobs", "batches"])
def test_what_was_chosen_is_kept_and_shown_with_the_batch_and_its_jobs(maker: Maker, kind: str) -> None:
    shown = maker.submit(kind=kind, variations=3, name="Spring sale", seed=5, **CHOICE)
    for id_ in (shown["batch_id"], maker.show(shown["batch_id"])["jobs"][0]["job_id"]):
        found = maker.show(id_)
        assert {name: found[name] for name in CHOICE} == CHOICE
        assert (found["name"], found["variations"], found["preset"]) == ("Spring sale", 3, None)
    for output in outputs(shown):
        assert (output["effects"]["mirror"], output["effects"]["noise"]) == (False, 0)
        assert abs(output["effects"]["brightness"]) <= 0.025


def test_nothing_chosen_is_all_effects_at_full_strength_in_standard_quality(maker: Maker) -> None:
    found = maker.submit(variations=1)
    assert [found[name] for name in CHOICE] == [[], 1.0, "standard", "29.97"]
    assert found["name"] is None


def test_leaving_effects_out_changes_no_other_draw(maker: Maker) -> None:
    source = {"source_id": maker.source()}
    whole, less = (
        ok(
            maker.http.post("/api/batches", json={"sources": [source], "variations": 6, "seed": 9, **wish}),
            202,
        )
        for wish in ({}, {"without": ["mirror", "rotation"]})
    )
    neutral = {"mirror": False, "rotation_rad": 0.0}
    for one, other in zip(outputs(whole), outputs(less), strict=True):
        assert other["effects"] == {**one["effects"], **neutral}


def test_the_runner_gets_the_effects_the_quality_and_the_rate(maker: Maker) -> None:
    batch = maker.submit(variations=2, **CHOICE)
    for spec in maker.claim(batch["jobs"][0]["job_id"]).outputs:
        assert (spec.quality, spec.frame_rate) == ("high", "source")
        assert spec.effects is not None
        assert (spec.effects.mirror, spec.effects.noise) == (False, 0)


def test_the_manifest_names_the_batch_and_what_was_chosen(maker: Maker) -> None:
    batch = maker.make(b"one", names=["ad.mp4"], variations=1, name="Spring sale", **CHOICE)
    manifest = manifest_of(unzipped(maker, batch))
    assert {name: manifest[name] for name in CHOICE} == CHOICE
    assert manifest["name"] == "Spring sale"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"without": list(EFFECT_NAMES)}, "at least one"),
        ({"without": ["mirror", "mirror"]}, "once"),
        ({"without": ["hue"]}, "'rotation'"),
        ({"without": "mirror"}, "list"),
        ({"strength": 0.09}, "0.1"),
        ({"strength": 1.01}, "1"),
        ({"quality": "best"}, "'standard' or 'high'"),
        ({"frame_rate": "60"}, "'29.97' or 'source'"),
        ({"name": ""}, "1 character"),
        ({"name": "x" * 101}, "100 characters"),
        ({"name": "a\0b"}, "character that is not allowed"),
        ({"colour": 1}, "colour: there is no such field"),
    ],
    ids=str,
)
def test_an_impossible_choice_is_refused_by_its_name(maker: Maker, wish: dict[str, Any], words: str) -> None:
    message = refused(maker, **wish).json()["error"]["message"]
    assert next(iter(wish)) in message
    assert words in message


@pytest.mark.parametrize(
    ("left", "most"), [(["mirror"], 2), (["noise"], 9), (["noise", "mirror"], 18)], ids=str
)
def test_more_variations_than_can_differ_are_refused_with_how_many_there_can_be(
    maker: Maker, left: list[str], most: int
) -> None:
    without = [name for name in EFFECT_NAMES if name not in left]
    message = refused(maker, without=without, variations=most + 1).json()["error"]["message"]
    assert f"at most {most} different variations" in message
    batch = maker.submit(without=without, variations=most)
    assert len({Effects(**output["effects"]) for output in outputs(batch)}) == most


def test_a_preset_has_no_effects_to_choose(maker: Maker) -> None:
    for wish in ({"without": ["mirror"]}, {"strength": 0.5}, {"quality": "high"}, {"frame_rate": "source"}):
        answer = maker.http.post(
            "/api/batches", json={"sources": [{"source_id": maker.source()}], "preset": "copy", **wish}
        )
        assert code(answer) == (422, "invalid")
        assert "not for a preset" in answer.json()["error"]["message"]


def test_a_quote_of_high_quality_or_more_frames_costs_more(maker: Maker) -> None:
    def quote(**wish: Any) -> dict[str, Any]:
        return ok(maker.http.post("/api/quote", json={"sources": [SEEN], "variations": 20, **wish}), 200)

    plain, high, fast = quote(), quote(quality="high"), quote(frame_rate="source")
    assert high["cost_usd"] > plain["cost_usd"], "its bytes cost egress"
    assert fast["makespan_s"] > 1.5 * plain["makespan_s"]
    assert (plain["estimated"], high["estimated"], fast["estimated"]) == (False, False, True)
    known = quote(frame_rate="source", sources=[{**SEEN, "frame_rate": 30000 / 1001}])
    assert (known["makespan_s"], known["estimated"]) == (plain["makespan_s"], False)


# --- names and lists -------------------------------------------------------------------------------------


def listed(maker: Maker, noun: str, **query: str) -> list[dict[str, Any]]:
    return list(ok(maker.http.get(f"/api/{noun}", params=query), 200)["items"])


def test_a_list_shows_what_a_person_knows_a_batch_by(maker: Maker) -> None:
    names = ["one.mp4", "two.mp4", "three.mp4", "four.mp4"]
    batch = maker.make(*[b"x"] * 4, names=names, variations=1, name="Four of them")
    for noun in ("jobs", "batches"):
        item = next(each for each in listed(maker, noun) if each["batch_id"] == batch["batch_id"])
        assert (item["name"], item["source_names"], item["sources_count"]) == ("Four of them", names[:3], 4)
        assert item["poster_output_id"] == outputs(batch)[0]["output_id"]
        firsts = [source["outputs"][0]["output_id"] for source in batch["sources"][:3]]
        assert item["poster_output_ids"] == firsts
    live = maker.submit(variations=1)
    item = next(each for each in listed(maker, "batches") if each["batch_id"] == live["batch_id"])
    assert (item["name"], item["source_names"], item["poster_output_id"]) == (None, ["ad.mp4"], None)


@pytest.mark.parametrize("noun", ["jobs", "batches"])
def test_a_search_looks_in_the_names_of_batches_and_sources_and_takes_every_character_literally(
    maker: Maker, noun: str
) -> None:
    by_name = maker.submit("a.mp4", variations=1, name=f"Winter{noun} 50% off_now\\")["batch_id"]
    by_source = maker.submit("b.mp4", f"winter{noun}_coat.mp4", variations=1)["batch_id"]
    accents = maker.submit("d.mp4", variations=1, name=f"FRÜHLING {noun} Café")["batch_id"]
    neither = maker.submit("c.mp4", variations=1, name="Winte")["batch_id"]

    def found(q: str) -> set[str]:
        return {item["batch_id"] for item in listed(maker, noun, q=q, limit="100")}

    assert found(f"WINTER{noun}") == {by_name, by_source}
    for q in (f"{noun} 50% o", f"R{noun} 50% off_n", f"r{noun} 50% off_now\\"):
        assert found(q) == {by_name}
    assert found(f"{noun}_c") == {by_source}
    assert found(f" off_now  50% WINTER{noun} a.MP4") == {by_name}  # in any order, and of a source too
    assert found(f"coat a.mp4 winter{noun}") == set()
    assert found(f"winter{noun} 50% o f _ n w i zzz") == {by_name}, "the first eight words count"
    for q in ("frühling", "fru\u0308hling", "Fruhling", "cafe FRÜH"):
        assert found(f"{q} {noun}") == {accents}
    assert found(f"{noun}%off") == found(f"{noun}_50") == found(f"wint%{noun}") == set()
    assert {by_name, by_source, neither} <= found("") & found(" ")


def test_the_zip_is_called_by_the_name_of_its_batch_however_hostile_that_is_else_by_its_sources(
    maker: Maker,
) -> None:
    hostile = 'Sp\u202ering\r\n/../"sale";\u00fc'
    batch = maker.make(b"one", names=["ad.mp4"], variations=1, name=hostile)
    for id_ in (batch["batch_id"], batch["jobs"][0]["job_id"]):
        noun = "jobs" if id_.startswith("job_") else "batches"
        header = maker.http.head(f"/api/{noun}/{id_}/download").headers["content-disposition"]
        plain = header.split("; ")[1]
        assert plain.startswith('filename="Spring_')
        assert plain.endswith('.zip"')
        assert not {"/", "\r", "\n"} & set(plain)
    for names, called in ((["ad.mov"], "ad.zip"), (["ad.mov", "b.mp4", "c.mp4"], "ad and 2 more.zip")):
        batch = maker.make(*[b"one"] * len(names), names=names, variations=1)
        header = maker.http.head(f"/api/batches/{batch['batch_id']}/download").headers["content-disposition"]
        assert f'filename="{called}"' in header


def unzipped(maker: Maker, batch: dict[str, Any]) -> dict[str, bytes]:
    import io
    import zipfile

    answer = maker.http.get(f"/api/batches/{batch['batch_id']}/download")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
