"""Messages of every deployed version are understood, with the same meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.contract import (
    Claim,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    JobSpec,
    Message,
    attempt_path,
    without_queries,
)

SAMPLES = Path(__file__).parents[1] / "contract_samples"
SHAPES: dict[str, type[Message]] = {
    "claim": Claim,
    "jobspec": JobSpec,
    "heartbeat": Heartbeat,
    "heartbeat_answer": HeartbeatAnswer,
    "finish_ok": Finish,
    "finish_error": Finish,
}


def without_future(value: Any) -> Any:
    """Return a sample without the fields that nobody knows yet."""
    if isinstance(value, dict):
        return {k: without_future(v) for k, v in value.items() if k != "a_field_of_the_future"}
    return [without_future(item) for item in value] if isinstance(value, list) else value


def contains(whole: Any, part: Any) -> bool:
    """Return whether `whole` says all that `part` says; defaults may be added."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("v*/*.json")), ids=lambda path: path.stem)
def test_a_stored_message_is_read_in_full_and_what_is_unknown_is_ignored(path: Path) -> None:
    sample = json.loads(path.read_text())
    said = SHAPES[path.stem].model_validate(sample).model_dump(mode="json", by_alias=True)
    assert contains(said, without_future(sample))
    assert "a_field_of_the_future" not in json.dumps(said)


def test_every_message_has_a_sample() -> None:
    assert {path.stem for path in SAMPLES.glob("v1/*.json")} == set(SHAPES)


def test_the_paths_are_fixed() -> None:
    assert attempt_path("a-1", "claim") == "/runner/attempts/a-1/claim"


@pytest.mark.parametrize(
    "text",
    [
        "GET https://bucket.example/a.mp4?X-Amz-Signature=SECRET failed",
        "HTTPConnectionPool(host='bucket', port=80): Max retries exceeded with url: /a/b.mp4?sig=SECRET",
        "No answer from 'https://h/x?first=1&sig=SECRET': cut",
        'url "/x?a=SECRET?b=SECRET"',
    ],
)
def test_no_query_of_a_url_or_path_stays_in_a_text(text: str) -> None:
    scrubbed = without_queries(text)
    assert "SECRET" not in scrubbed
    assert "URL" in scrubbed


def test_a_text_that_is_all_slashes_is_searched_once() -> None:
    text = "/" * 2_000_000  # searched again from each of them, it would take hours
    assert without_queries(text) == text


def test_a_text_without_queries_is_not_changed() -> None:
    text = "File '/srv/app/runner/job.py', line 7: is this a question? https://example.com/docs"
    assert without_queries(text) == text
