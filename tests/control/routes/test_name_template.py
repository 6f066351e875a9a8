"""Outputs are named by a template of the user, in the API, the ZIP and its manifest."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest

from tests.support.maker import Maker, code, manifest_of
from tests.support.user import ok, outputs

SEEN = {"name": "ad.mp4", "size_bytes": 1000, "duration_s": 2.0, "width": 320, "height": 180}
LINK = {"url": "https://v.example/far.mp4"}


def names(shown: dict[str, Any]) -> list[str]:
    return [output["name"] for output in outputs(shown)]


def unzipped(maker: Maker, batch: dict[str, Any]) -> dict[str, bytes]:
    answer = maker.http.get(f"/api/batches/{batch['batch_id']}/download")
    with ZipFile(BytesIO(answer.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_template_names_the_files_of_the_zip_the_manifest_and_the_api(maker: Maker) -> None:
    template = "{date} {source}: {width}x{height} {seed} {n}.mp4"
    before = datetime.now(UTC).date()
    batch = maker.make(
        *[b"1", b"2"] * 2, names=["ad.mp4", "AD.mov"], variations=2, seed=7, name_template=template
    )
    days = {before, datetime.now(UTC).date()}  # the batch may have been submitted at midnight
    wanted = [
        [f"{folder}/{day} {folder} 320x180 7 {n}.mp4" for folder in ("ad", "AD-2") for n in ("01", "02")]
        for day in days
    ]
    assert names(batch) in wanted
    members = unzipped(maker, batch)
    assert [name for name in members if "/" in name] == names(batch)
    manifest = manifest_of(members)
    assert manifest["name_template"] == batch["name_template"] == template
    assert [output["file"] for output in manifest["outputs"]] == names(batch)
    assert maker.show(batch["jobs"][0]["job_id"])["name_template"] == template
    url = maker.http.get(f"/api/outputs/{outputs(batch)[0]['output_id']}").headers["location"]
    assert f"{next(iter(days))}" in url or f"{max(days)}" in url, "a browser saves it by that name"


def test_the_same_template_and_seed_name_the_same_again_and_none_gives_the_usual_names(maker: Maker) -> None:
    source = {"source_id": maker.source()}

    def submitted(**wish: Any) -> dict[str, Any]:
        body = {"sources": [source], "variations": 3, "seed": 5, **wish}
        return ok(maker.http.post("/api/batches", json=body), 202)

    plain = submitted()
    assert plain["name_template"] is None
    assert names(submitted(name_template="{source}_var{n}_{tag}")) == names(plain)


@pytest.mark.parametrize(
    ("preset", "name"), [("web-optimized", "ad/ad-320.mp4"), ("hls", "ad/ad-320/"), ("copy", "ad/ad-320.mp4")]
)
def test_a_template_names_what_a_preset_makes(maker: Maker, preset: str, name: str) -> None:
    assert names(maker.submit(preset=preset, name_template="{source}-{width}")) == [name]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"name_template": "../{n}"}, "not a path"),
        ({"name_template": "{source}"}, "would get the same name: add {n}"),
        ({"name_template": "{name}{n}"}, "there is no placeholder {name}"),
        ({"name_template": ""}, "1 character"),
        ({"name_template": "n" * 1_000_000}, "200 characters"),
        ({"name_template": "{n}{width}", "sources": [LINK]}, "{width} of a link is not known"),
        ({"name_template": "{n}", "preset": "copy", "variations": None}, "numbers variations"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_a_template_that_cannot_be_is_refused_by_jobs_batches_and_quotes(
    maker: Maker, wish: dict[str, Any], words: str
) -> None:
    body = {"sources": [{"source_id": maker.source()}], "variations": 2, **wish}
    for noun in ("jobs", "batches", "quote"):
        answer = maker.http.post(f"/api/{noun}", json=body)
        assert code(answer) == (422, "invalid")
        message = answer.json()["error"]["message"]
        assert message.startswith("name_template: ")
        assert words in message


def test_tags_that_happen_to_be_equal_are_a_refusal_and_not_a_lost_file(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.planning.planner.tag", lambda **_: "a1b2c3")
    body = {"sources": [SEEN], "variations": 2}
    answer = maker.http.post("/api/quote", json={**body, "name_template": "{source}_{tag}"})
    assert code(answer) == (422, "invalid")
    assert answer.json()["error"]["message"].endswith("would get the same name: add {n}.")
    ok(maker.http.post("/api/quote", json={**body, "name_template": "{n}_{tag}_{width}"}), 200)
