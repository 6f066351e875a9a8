"""`--to`: which objects the outputs become, and what is needed for it."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import typer

from control.cli.destination import Destination, destination, template_of
from control.domain.name_template import NameTemplate
from control.planning.planner import Naming, PlannedSource, plan
from runner.contract import Preset

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "the-secret", "AWS_REGION": "eu-west-1"}
NAMES = ["ad.mp4", "AD.mov", "Frühling: 50 %?.mp4", "../../x.mp4"]


def named_by_control(variations: int | None, template: str) -> list[str]:
    sources = [PlannedSource(source_id=str(n), name=name, fingerprint="f") for n, name in enumerate(NAMES)]
    planned = plan(
        sources,
        variations=variations or 0,
        preset=None if variations else Preset.COPY,
        seed=1,
        new_id=lambda: "out",
        naming=Naming(template=NameTemplate(template), day=datetime.now(UTC).date()),
    )
    outputs = sorted((output for job in planned.jobs for output in job), key=lambda output: output.position)
    return [output.name for output in outputs]


@pytest.mark.parametrize(
    ("variations", "template"), [(2, None), (1, "x {source}"), (11, "{n}-{source}"), (None, None)]
)
def test_the_objects_have_the_names_of_the_outputs_in_the_zip(
    variations: int | None, template: str | None
) -> None:
    used = template_of(template, preset=None if variations else "copy")
    goal = destination("s3://bucket/a/b/", KEYS)
    urls = [url for each in goal.urls(NAMES, variations=variations, template=used) for url in each]
    paths = [unquote(urlsplit(url).path) for url in urls]
    assert paths == [f"/bucket/a/b/{name}" for name in named_by_control(variations, used)]
    assert len(set(paths)) == len(paths)
    assert all(url.startswith("https://s3.eu-west-1.amazonaws.com/") for url in urls)
    assert all(parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["86400"] for url in urls)
    assert "the-secret" not in str(urls)


def url_of(goal: Destination) -> str:
    return goal.urls(["ad.mp4"], variations=1, template=None, folder="batch-02/")[0][0]


def test_the_endpoint_and_a_session_come_from_the_environment() -> None:
    env = {**KEYS, "AWS_ENDPOINT_URL_S3": "https://fly.storage.tigris.dev", "AWS_SESSION_TOKEN": "a+b"}
    url = url_of(destination("s3://bucket", env))
    assert url.startswith("https://bucket.fly.storage.tigris.dev/batch-02/ad/ad_var01.mp4?")
    assert "&X-Amz-Security-Token=a%2Bb&" in f"&{urlsplit(url).query}&"


@pytest.mark.parametrize(
    ("place", "changes", "said"),
    [
        ("bucket", {}, "like s3://bucket/folder"),
        ("s3://", {}, "like s3://bucket/folder"),
        ("https://bucket/x", {}, "like s3://bucket/folder"),
        ("s3://bucket", {"AWS_REGION": ""}, "set AWS_REGION,"),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": ""}, "set AWS_ACCESS_KEY_ID,"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "minio"}, "must be a URL"),
    ],
)
def test_what_is_missing_is_said(place: str, changes: dict[str, str], said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said):
        destination(place, {**KEYS, **changes})


@pytest.mark.parametrize(
    ("template", "said"), [("{n}_{tag}", "{tag} is not known"), ("{x}", "no placeholder")]
)
def test_a_template_that_only_control_can_fill_in_is_refused(template: str, said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said):
        template_of(template, preset=None)
