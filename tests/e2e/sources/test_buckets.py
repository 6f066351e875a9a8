"""`refresher submit --to`: the runner puts each result into a bucket of the user, with a real S3 server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from infra.local.s3_server import LocalS3
from infra.s3 import TigrisStorage
from tests.support.cli import Cli
from tests.support.stack import PASSWORD, Stack


def cli_with(stack: Stack, folder: Path, s3: LocalS3, secret: str) -> Cli:
    return Cli(
        folder,
        REFRESHER_URL=stack.url,
        REFRESHER_PASSWORD=PASSWORD,
        AWS_ENDPOINT_URL_S3=s3.endpoint,
        AWS_REGION=s3.region,
        AWS_ACCESS_KEY_ID=s3.access_key_id,
        AWS_SECRET_ACCESS_KEY=secret,
    )


def test_results_are_in_the_bucket_under_their_names_and_a_refusal_is_told(
    stack: Stack, s3: LocalS3, storage: TigrisStorage, clip: bytes, tmp_path: Path
) -> None:
    (tmp_path / "Frühling 50%.mp4").write_bytes(clip)
    to = f"s3://{s3.bucket}/mine"
    good = cli_with(stack, tmp_path, s3, s3.secret_access_key)
    batch = good.json("submit", "Frühling 50%.mp4", "-n", 2, "--to", to, "--wait")
    made = {output["name"]: output for source in batch["sources"] for output in source["outputs"]}
    assert set(made) == {f"Frühling 50%/Frühling 50%_var{n}.mp4" for n in ("01", "02")}
    for name, output in made.items():
        found = storage.read(f"mine/{name}", 0, output["size_bytes"] + 1)
        assert hashlib.sha256(found).hexdigest() == output["sha256"]
        assert output["delivered"] is True
    wrong = cli_with(stack, tmp_path, s3, "x" * 40)
    done = wrong.run("submit", "Frühling 50%.mp4", "-n", 1, "--to", f"{to}/wrong", "--wait", "--json")
    (output,) = json.loads(done.stdout)["sources"][0]["outputs"]
    assert (done.returncode, output["status"], output["delivered"]) == (1, "ready", False)
    assert "its server answered 403" in output["delivery_error"]
    assert storage.list_objects("mine/wrong") == []
