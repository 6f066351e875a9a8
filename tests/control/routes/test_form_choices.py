"""The fields of a form equal those of JSON."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fastapi.exceptions import RequestValidationError

from control.routes.forms import _as_new_job


def form(**fields: str) -> SimpleNamespace:
    return SimpleNamespace(fields=fields, sources=[SimpleNamespace(id="src_1", name="ad.mp4", refusal=None)])


def test_a_form_has_every_choice_that_json_has():
    job = _as_new_job(
        form(
            variations="3",
            without="mirror, noise",
            strength="0.5",
            quality="high",
            frame_rate="source",
            name="Spring",
            name_template="{n} {source}",
            seed="5",
        )
    )
    assert (job.without, job.strength, job.quality, job.frame_rate) == (
        ["mirror", "noise"],
        0.5,
        "high",
        "source",
    )
    assert (job.name, job.variations, job.seed) == ("Spring", 3, 5)
    assert job.name_template == "{n} {source}"
    assert _as_new_job(form(variations="1", without="")).without == []


@pytest.mark.parametrize(
    "wish",
    [
        {"without": "hue"},
        {"without": "mirror,mirror"},
        {"strength": "2"},
        {"quality": "best"},
        {"name": ""},
        {"name_template": "{source}/{n}"},
    ],
    ids=str,
)
def test_a_form_with_a_choice_that_cannot_be_is_refused(wish):
    with pytest.raises(RequestValidationError):
        _as_new_job(form(variations="1", **wish))
