"""`output_urls`: each output is also PUT to a URL of its user, which control keeps no longer than it must."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import select

from control.store import retention
from control.store.tables import Delivery
from control.views.schemas.submit import OUTPUT_URLS_CHARS_MAX
from runner.contract import OutputError, OutputFault, OutputReport
from tests.support.maker import Maker, code, stored
from tests.support.user import ok, outputs

URLS = [f"https://bucket.example/spring/{n}.mp4?X-Amz-Signature=secret{n}" for n in range(3)]


def submit(maker: Maker, *sources: dict[str, Any], kind: str = "batches", **wish: Any) -> Any:
    body = {"sources": [{"source_id": maker.source(), **source} for source in sources], **wish}
    return maker.http.post(f"/api/{kind}", json=body)


def kept(maker: Maker, batch: dict[str, Any]) -> set[str]:
    with maker.store.transaction() as tx:
        mine = select(Delivery.url).where(Delivery.batch_id == batch["batch_id"])
        return set(tx.session.exec(mine).all())


def fates(shown: dict[str, Any]) -> list[tuple[str, bool | None, str | None]]:
    return [(each["status"], each["delivered"], each["delivery_error"]) for each in outputs(shown)]


def test_each_output_has_its_url_until_it_is_ready_and_says_how_that_went(maker: Maker) -> None:
    batch = ok(submit(maker, {"output_urls": URLS}, {}, variations=3), 202)
    assert fates(batch) == [("queued", False, None)] * 3 + [("queued", None, None)] * 3
    assert kept(maker, batch) == set(URLS)
    job_id = batch["jobs"][0]["job_id"]
    spec = maker.claim(job_id)
    assert [output.deliver_url for output in spec.outputs] == [*URLS, None, None, None]
    error = OutputError(code=OutputFault.RENDER_FAILED, message="no")
    reports = [stored(output, output.output_id.encode()) for output in spec.outputs]
    reports[1] = reports[1].model_copy(update={"delivery_error": "Its server answered 403."})
    reports[2] = OutputReport(output_id=spec.outputs[2].output_id, status="failed", error=error)
    assert maker.finish(spec, reports).status_code == 200
    shown = maker.show(batch["batch_id"])
    assert fates(shown)[:4] == [
        ("ready", True, None),
        ("ready", False, "Its server answered 403."),
        ("failed", False, None),
        ("ready", None, None),
    ]
    assert kept(maker, batch) == {URLS[2]}, "only what a retry may need"
    assert "secret" not in str(shown)
    assert maker.http.post(f"/api/batches/{batch['batch_id']}/retry").status_code == 202
    again = maker.claim(job_id)
    assert [output.deliver_url for output in again.outputs] == [URLS[2]]
    assert maker.finish(again, [stored(again.outputs[0], b"again")]).status_code == 200
    assert (fates(maker.show(batch["batch_id"]))[2], kept(maker, batch)) == (("ready", True, None), set())


def test_the_urls_of_a_batch_that_is_over_for_good_are_removed(maker: Maker) -> None:
    cancelled, deleted = (ok(submit(maker, {"output_urls": URLS}, variations=3), 202) for _ in range(2))
    assert maker.http.post(f"/api/batches/{cancelled['batch_id']}/cancel").status_code == 202
    retention.forget_ended(maker.store)
    assert kept(maker, cancelled) == set(URLS), "it can be retried"
    for batch in (cancelled, deleted):
        assert maker.http.delete(f"/api/batches/{batch['batch_id']}").status_code == 204
    retention.forget_ended(maker.store)
    assert kept(maker, cancelled) | kept(maker, deleted) == set()


@pytest.mark.parametrize("kind", ["jobs", "batches", "quote"])
@pytest.mark.parametrize(
    ("sources", "more", "said"),
    [
        ([{"output_urls": URLS}], {"variations": 2}, "each source makes 2 outputs, and this has 3 URLs"),
        (
            [{}, {"output_urls": URLS}],
            {"preset": "copy"},
            "sources.1.output_urls: each source makes 1 output",
        ),
        ([{"output_urls": []}], {"variations": 1}, "sources.0.output_urls"),
        ([{"output_urls": URLS[:1]}], {"variations": 1, "output_url": URLS[1]}, "either output_url or"),
        (
            [{"output_urls": ["http://10.0.0.1/x"]}],
            {"variations": 1},
            "sources.0.output_urls.0: This address",
        ),
        ([{"output_urls": ["s3://bucket/x"]}], {"variations": 1}, "Only http and https"),
    ],
    ids=range(6),
)
def test_urls_that_cannot_be_are_refused_at_once(
    maker: Maker, kind: str, sources: list[dict[str, Any]], more: dict[str, Any], said: str
) -> None:
    answer = submit(maker, *sources, kind=kind, **more)
    assert code(answer) == (422, "invalid")
    assert said in answer.json()["error"]["message"]
    assert "secret" not in answer.text


def test_more_urls_than_a_request_holds_are_refused_in_words(maker: Maker) -> None:
    long = "https://bucket.example/" + "x" * 8000
    urls = [f"{long}{n}" for n in range(100)]
    sources = [{"output_urls": urls}] * 3
    answer = submit(maker, *sources, variations=100)
    assert (
        f"more than {OUTPUT_URLS_CHARS_MAX} characters; submit several" in answer.json()["error"]["message"]
    )


def test_a_quote_counts_what_is_sent_twice(maker: Maker) -> None:
    once, twice = (
        ok(submit(maker, source, kind="quote", variations=3, seed=1), 200)["cost_usd"]
        for source in ({}, {"output_urls": URLS})
    )
    assert twice >= once
