"""The client is held against the OpenAPI document: its calls, its models and their fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from control.app import create_app
from control.settings import load_settings
from control.views.schemas import events
from control.views.schemas.submit import NewBatch
from tests.support.answers import AT, example
from tests.support.settings import SETTINGS
from video_refresher import Client, SourceFacts, models
from video_refresher.models import Choices, Model

# How the document calls them, where that is not the name of the model.
NAMES = {
    "Variety": "VarietyView",
    "Upload": "UploadStarted",
    "Part": "PartUrl",
    "Source": "SourceCreated",
    "Output": "OutputView",
    "File": "FileView",
    "SourceInBatch": "SourceView",
    "Attempt": "AttemptView",
    "Webhook": "WebhookView",
    "Job": "JobView",
    "Batch": "BatchView",
    "Link": "DownloadLink",
    "Budget": "BudgetView",
    "Budgets": "BudgetsView",
    "Storage": "StorageView",
    "Machine": "MachineView",
}
BASES = {"Model", "Summary", "Details"}
EVENTS = {"StateEvent", "SourceProgress", "ProgressEvent"}  # the document describes them in words
NO_METHOD = {  # routes that the client does not call, and why
    "GET /metrics": "Prometheus reads it",
    "GET /api/shared": "the page behind a share link reads it",
    "HEAD /api/jobs/{id}/download": "a GET tells the same",
    "HEAD /api/batches/{id}/download": "a GET tells the same",
}
ONE_BY_FOUR = SourceFacts(size_bytes=1, duration_s=1, width=1, height=4)

CALLS: dict[str, Callable[[Client], object]] = {
    "POST /api/auth/revoke": lambda c: c.revoke_tokens(),
    "DELETE /api/uploads/{upload_id}": lambda c: c.abort_upload("upl_1"),
    "GET /api/uploads/{upload_id}": lambda c: c._uploader._look("upl_1"),
    "GET /api/sources/{source_id}": lambda c: c.source_url("src_1"),
    "POST /api/jobs": lambda c: c.submit_job(["src_1"], variations=1),
    "POST /api/batches": lambda c: c.submit(["https://v.example/a.mp4"], variations=1),
    "POST /api/quote": lambda c: c.quote([ONE_BY_FOUR], variations=1),
    "GET /api/jobs": lambda c: c.jobs(q="ad"),
    "GET /api/batches": lambda c: c.batches(limit=1),
    "GET /api/jobs/{job_id}": lambda c: c.show("job_1"),
    "GET /api/batches/{batch_id}": lambda c: c.show("bat_1"),
    "GET /api/jobs/{job_id}/events": lambda c: list(c.events("job_1")),
    "GET /api/batches/{batch_id}/events": lambda c: list(c.events("bat_1")),
    "POST /api/jobs/{job_id}/cancel": lambda c: c.cancel("job_1"),
    "POST /api/batches/{batch_id}/cancel": lambda c: c.cancel("bat_1"),
    "POST /api/jobs/{job_id}/retry": lambda c: c.retry("job_1"),
    "POST /api/batches/{batch_id}/retry": lambda c: c.retry("bat_1"),
    "DELETE /api/jobs/{job_id}": lambda c: c.delete("job_1"),
    "DELETE /api/batches/{batch_id}": lambda c: c.delete("bat_1"),
    "POST /api/jobs/{id}/download-link": lambda c: c.download_link("job_1", ["out_1"]),
    "POST /api/batches/{id}/download-link": lambda c: c.download_link("bat_1"),
    "POST /api/batches/{batch_id}/share-link": lambda c: c.share("bat_1"),
    "DELETE /api/batches/{batch_id}/share-link": lambda c: c.unshare("bat_1"),
    "GET /api/outputs/{output_id}": lambda c: c.output_url("out_1", file="media.mp4"),
    "GET /api/outputs/{output_id}/poster": lambda c: c.poster_url("out_1"),
    "GET /api/machines": lambda c: c.machines(),
    "POST /api/machines/reap": lambda c: c.reap(dry_run=True),
    "GET /api/costs": lambda c: c.costs(from_="2026-11-01"),
    "GET /api/storage": lambda c: c.storage(),
    "GET /api/health": lambda c: c.health(),
    "GET /api/ready": lambda c: c.ready(),
}
WITH_FILES = {  # calls that read or write files, which tests of their own make
    "POST /api/auth",
    "POST /api/uploads",
    "POST /api/uploads/{upload_id}/complete",
    "GET /api/jobs/{id}/download",
    "GET /api/batches/{id}/download",
}


@cache
def document() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        settings = load_settings(**{**SETTINGS, "database_url": f"sqlite:///{folder}/control.db"})
        return create_app(settings).openapi()


def routes() -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
        if not path.startswith("/runner/")
    }


def test_each_route_of_the_public_api_has_a_method_or_a_reason_why_not() -> None:
    known = set(CALLS) | WITH_FILES | set(NO_METHOD)
    assert set(routes()) == known


class Documented(httpx.MockTransport):
    """Answers as the document says, with null wherever it may be, or nowhere; keeps what was asked."""

    def __init__(self, *, nulls: bool) -> None:
        self.asked: list[str] = []
        self._nulls = nulls
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        (route,) = [r for r in routes() if self._fits(r, request)]
        self.asked.append(route)
        known = {param["name"] for param in routes()[route].get("parameters", ())}
        assert set(request.url.params) <= known, route
        status, answer = next(
            (int(code), a) for code, a in routes()[route]["responses"].items() if code < "400"
        )
        content = answer.get("content", {})
        if "application/json" in content:
            known = document()["components"]["schemas"]
            body = example(content["application/json"]["schema"], known, nulls=self._nulls)
            return httpx.Response(status, json=body)
        return httpx.Response(status, headers={"location": "https://signed.example"} if status == 307 else {})

    @staticmethod
    def _fits(route: str, request: httpx.Request) -> bool:
        method, _, path = route.partition(" ")
        return method == request.method and bool(
            re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.url.path)
        )


@pytest.mark.parametrize("nulls", [True, False])
@pytest.mark.parametrize("route", CALLS)
def test_each_method_calls_its_route_and_takes_every_answer_that_is_documented(
    route: str, nulls: bool
) -> None:
    transport = Documented(nulls=nulls)
    http = httpx.Client(base_url="http://control.test", transport=transport)
    client = Client(http, bucket=http)
    CALLS[route](client)
    assert transport.asked[0] == route


ALL = [model for model in vars(models).values() if isinstance(model, type) and issubclass(model, Model)]


@pytest.mark.parametrize("model", [m for m in ALL if m.__name__ not in BASES], ids=lambda m: m.__name__)
def test_each_field_of_a_model_is_in_the_document_with_its_type(model: type[Model]) -> None:
    name = NAMES.get(model.__name__, model.__name__)
    if name in EVENTS:
        theirs = getattr(events, name).model_json_schema()["properties"]
    else:
        theirs = document()["components"]["schemas"][name]["properties"]
    schema = model.model_json_schema(mode="serialization")
    for name, field in schema["properties"].items():
        assert kinds(theirs[name]) <= kinds(field), name


def kinds(schema: Mapping[str, Any]) -> set[str]:
    """Return the types that a value may have, without bounds and lists of words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {NAMES.get(name, name)}
    if "anyOf" in schema:
        return {kind for way in schema["anyOf"] for kind in kinds(way)}
    if schema.get("type") == "array":
        return {f"list of {kind}" for kind in kinds(schema.get("items", {}))}
    return {f"{schema.get('type', 'anything')} {schema.get('format', '')}".strip()}


def test_a_submit_can_ask_for_every_field_of_a_batch() -> None:
    assert set(Choices.__annotations__) == set(NewBatch.model_fields) - {"sources"}


def test_a_field_that_this_client_does_not_know_is_kept() -> None:
    body = {"used_bytes": 1, "cap_bytes": 2, "percent": 50.0, "fresh_since": AT}
    assert models.Storage.model_validate(body).model_dump(mode="json") == body
