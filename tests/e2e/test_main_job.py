"""The main job: two sources, three variations of each, all downloaded and checked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from control.cli.local import LocalStack
from tests.support.clips import describe
from tests.support.processes import descendants, runners, until
from tests.support.programs import need
from tests.support.user import User, ok, outputs

ORDER = ["queued", "launching", "running", "completed"]
VARIATIONS = 3
RANGES = {
    "brightness": (-0.05, 0.05),
    "contrast": (0.95, 1.05),
    "saturation": (0.95, 1.05),
    "zoom": (1.0, 1.05),
    "noise": (0, 8),
    "speed": (0.97, 1.03),
    "shift_x": (-1.0, 1.0),
    "shift_y": (-1.0, 1.0),
}
RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass
class Run:
    """A batch from its submission to its ZIP."""

    submitted: dict[str, Any]
    seen: list[dict[str, Any]]
    zip: httpx.Response
    members: dict[str, bytes]

    @property
    def end(self) -> dict[str, Any]:
        return self.seen[-1]

    @property
    def outputs(self) -> list[dict[str, Any]]:
        return outputs(self.end)

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self.members["manifest.json"])
        return manifest

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the outputs of the source of this name."""
        return next(source["outputs"] for source in self.end["sources"] if source["name"] == name)


@pytest.fixture(scope="module")
def run(user: User, vertical: Path, landscape: Path) -> Run:
    sources = [user.upload(vertical), user.upload(landscape)]
    submitted = user.submit(*sources, variations=VARIATIONS, seed=7)
    seen = user.watch(submitted["batch_id"])
    answer = user.http.get(f"/api/batches/{submitted['batch_id']}/download")
    return Run(submitted, seen, answer, user.unzip(submitted["batch_id"]))


@pytest.fixture(scope="module")
def files(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The outputs as files, by their name."""
    folder = tmp_path_factory.mktemp("results")
    for number, output in enumerate(run.outputs):
        (folder / f"{number}.mp4").write_bytes(run.members[output["name"]])
    return {output["name"]: folder / f"{number}.mp4" for number, output in enumerate(run.outputs)}


# --- the batch --------------------------------------------------------------------------------------


def test_the_batch_goes_from_queued_over_launching_and_running_to_completed(run: Run) -> None:
    statuses = [shown["status"] for shown in run.seen]
    assert run.submitted["status"] in ORDER[:3]
    assert statuses == sorted(statuses, key=ORDER.index)
    assert "running" in statuses
    assert statuses[-1] == "completed"
    assert run.end["partial"] is False
    assert run.end["error"] is None


def test_progress_never_goes_backwards_and_ends_at_100_percent(run: Run) -> None:
    for pick in (
        lambda shown: [shown["progress"]["percent"], shown["progress"]["ready"]],
        lambda shown: [source["percent"] for source in shown["sources"]],
        lambda shown: [output["percent"] for output in outputs(shown)],
        lambda shown: [job["percent"] for job in shown["jobs"]],
    ):
        for values in zip(*map(pick, run.seen), strict=True):
            assert list(values) == sorted(values)
    assert run.end["progress"] == {"percent": 100.0, "ready": 6, "failed": 0, "total": 6, "eta_s": 0}


def test_an_output_never_leaves_a_later_state_for_an_earlier_one(run: Run) -> None:
    order = ["queued", "running", "ready"]
    for values in zip(*[[output["status"] for output in outputs(s)] for s in run.seen], strict=True):
        assert list(values) == sorted(values, key=order.index)
    for values in zip(*[[source["status"] for source in s["sources"]] for s in run.seen], strict=True):
        assert list(values) == sorted(values, key=order.index)


def test_ids_are_128_random_bits_behind_their_prefixes(run: Run) -> None:
    ids = {"bat": [run.end["batch_id"]], "job": [job["job_id"] for job in run.end["jobs"]]}
    ids["src"] = [source["source_id"] for source in run.end["sources"]]
    ids["out"] = [output["output_id"] for output in run.outputs]
    for prefix, found in ids.items():
        assert found
        assert len(set(found)) == len(found)
        assert all(re.fullmatch(prefix + "_[A-Za-z0-9_-]{22,}", id_) for id_ in found), found
    for attempt in run.end["attempts"]:
        job_id, _, number = attempt["attempt_id"].rpartition("-")
        assert (job_id, int(number)) == (run.end["jobs"][0]["job_id"], attempt["number"])


def test_times_are_rfc3339_in_utc_and_follow_each_other(run: Run) -> None:
    times = [run.end[name] for name in ("created_at", "started_at", "ended_at", "expires_at")]
    assert all(RFC3339_UTC.fullmatch(at) for at in times), times
    assert times == sorted(times)


def test_the_job_of_the_batch_shows_the_same_sources_and_attempts(user: User, run: Run) -> None:
    fields = ("batch_id", "status", "partial", "progress", "sources", "attempts", "cost_usd", "error")

    def seen_alike() -> dict[str, Any] | None:
        """Return the job once it is as its batch is: between two looks their machine may be settled."""
        job, batch = user.show(run.end["jobs"][0]["job_id"]), user.show(run.end["batch_id"])
        return job if all(job[field] == batch[field] for field in fields) else None

    job = until(seen_alike)
    assert all(job[field] == run.end[field] for field in ("status", "partial", "progress", "sources"))
    assert set(job) >= {"ticket", "waiting", "created_at", "started_at", "ended_at", "expires_at"}


def test_the_attempt_shows_where_it_ran_for_how_long_and_for_how_much(run: Run) -> None:
    (attempt,) = run.end["attempts"]
    assert attempt["state"] == "succeeded"
    assert attempt["reason"] is None
    assert 0 < attempt["machine_seconds"] < 60
    assert attempt["cost_usd"] > 0
    assert run.end["cost_usd"] == attempt["cost_usd"]
    assert all(attempt[name] for name in ("machine_id", "app", "region", "size", "started_at", "ended_at"))


def test_the_machine_has_destroyed_itself_and_no_runner_is_left(stack: LocalStack, run: Run) -> None:
    headers = {"Authorization": f"Bearer {stack.fly.token}"}
    machines = f"{stack.fly.url}/apps/{stack.fly.app}/machines"
    machine_id = run.end["attempts"][0]["machine_id"]

    def state() -> str:
        return str(ok(httpx.get(f"{machines}/{machine_id}", headers=headers), 200)["state"])

    until(lambda: state() == "destroyed")
    until(lambda: not runners(os.getpid()))
    assert not [process for process in descendants(os.getpid()) if "ffmpeg" in process.command]


def test_lists_show_it_newest_first_without_its_sources_page_by_page(user: User, source: str) -> None:
    for _ in range(3):
        user.wait(user.submit(source, variations=1, kind="jobs")["job_id"])
    for kind, name in (("jobs", "job_id"), ("batches", "batch_id")):
        page = ok(user.http.get(f"/api/{kind}"), 200)
        times = [item["created_at"] for item in page["items"]]
        assert times == sorted(times, reverse=True)
        assert not {"sources", "attempts"} & set(page["items"][0])
        ids = [item[name] for item in page["items"]]
        assert _ids_by_pages(user, kind, name, limit=2)[: len(ids)] == ids


def test_lists_show_only_the_requested_status(user: User, run: Run) -> None:
    for kind in ("jobs", "batches"):
        completed = ok(user.http.get(f"/api/{kind}", params={"status": "completed", "limit": 100}), 200)
        assert {item["status"] for item in completed["items"]} == {"completed"}
        assert run.end["batch_id"] in {item["batch_id"] for item in completed["items"]}
        cancelled = ok(user.http.get(f"/api/{kind}", params={"status": "cancelled", "limit": 100}), 200)
        assert {item["status"] for item in cancelled["items"]} <= {"cancelled"}


def test_submitting_answers_with_the_location_of_what_was_made(user: User, source: str) -> None:
    body = {"sources": [{"source_id": source}], "variations": 1}
    for kind, name in (("jobs", "job_id"), ("batches", "batch_id")):
        answer = user.http.post(f"/api/{kind}", json=body)
        made = ok(answer, 202)
        assert answer.headers["location"].endswith(f"/api/{kind}/{made[name]}")
        assert ok(user.http.get(answer.headers["location"]), 200)[name] == made[name]
        user.wait(made["batch_id"])


def test_health_and_ready_answer_without_a_token(http: httpx.Client) -> None:
    health = ok(http.get("/api/health"), 200)
    assert health["status"] == "ok"
    assert set(health) >= {"version", "active_jobs"}
    assert http.get("/api/ready").status_code == 200


# --- effects ----------------------------------------------------------------------------------------


def test_effects_are_within_their_ranges(run: Run) -> None:
    for output in run.outputs:
        effects = output["effects"]
        for name, (low, high) in RANGES.items():
            assert low <= effects[name] <= high, (name, effects)
        assert 0.001 <= abs(effects["rotation_rad"]) <= 0.01
        assert isinstance(effects["mirror"], bool)
        assert set(effects) == {*RANGES, "rotation_rad", "mirror"}


def test_siblings_share_noise_and_speed_and_differ_in_the_rest(run: Run) -> None:
    for source in run.end["sources"]:
        effects = [output["effects"] for output in source["outputs"]]
        assert len({(e["noise"], e["speed"]) for e in effects}) == 1
        assert len({e["rotation_rad"] for e in effects}) == VARIATIONS
    assert run.of("tall one.mp4")[0]["effects"] != run.of("wide.mp4")[0]["effects"]


def test_the_same_source_and_seed_give_the_same_effects_and_another_seed_does_not(
    user: User, source: str
) -> None:
    def effects(seed: int) -> list[dict[str, Any]]:
        job = user.submit(source, variations=6, seed=seed, kind="jobs")
        user.wait(job["job_id"])
        return [output["effects"] for output in outputs(job)]

    first = effects(2**63 - 1)
    assert first == effects(2**63 - 1)
    assert first != effects(0)
    groups = [{(e["noise"], e["speed"]) for e in first[start : start + 4]} for start in (0, 4)]
    assert [len(group) for group in groups] == [1, 1]
    assert groups[0] != groups[1]


# --- the ZIP ----------------------------------------------------------------------------------------


def test_the_zip_has_the_length_that_it_says_and_a_name_of_its_own(run: Run) -> None:
    assert run.zip.headers["content-type"] == "application/zip"
    assert int(run.zip.headers["content-length"]) == len(run.zip.content)
    assert run.zip.headers["content-disposition"].startswith("attachment")
    assert ".zip" in run.zip.headers["content-disposition"]


def test_the_zip_holds_a_folder_per_source_and_the_manifest_uncompressed(run: Run) -> None:
    with zipfile.ZipFile(io.BytesIO(run.zip.content)) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        names = archive.namelist()
    assert sorted(names) == sorted(
        ["manifest.csv", "manifest.json", *(output["name"] for output in run.outputs)]
    )
    for folder in ("tall one", "wide"):
        mine = [name for name in names if name.startswith(folder + "/")]
        pattern = rf"{folder}/{folder}_var(\d\d)_[0-9a-f]{{6}}\.mp4"
        assert [re.fullmatch(pattern, name)[1] for name in mine] == ["01", "02", "03"]  # type: ignore[index]


def test_unzip_takes_the_zip(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.zip").write_bytes(run.zip.content)
    command = [need("unzip"), "-t", str(tmp_path / "out.zip")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_manifest_describes_every_output(run: Run) -> None:
    manifest = run.manifest
    assert manifest["batch_id"] == run.end["batch_id"]
    assert manifest["seed"] == 7
    assert manifest["image"]
    entries = {entry["file"]: entry for entry in manifest["outputs"]}
    (attempt,) = run.end["attempts"]
    assert set(entries) == {output["name"] for output in run.outputs}
    for output in run.outputs:
        entry, content = entries[output["name"]], run.members[output["name"]]
        assert entry["size_bytes"] == output["size_bytes"] == len(content)
        assert entry["sha256"] == output["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["duration_s"] == output["duration_s"]
        assert entry["effects"] == output["effects"]
        assert entry["variety"] == output["variety"]
        if "|" in entry["ffmpeg_args"]:  # drawn by the kernel
            assert 0 < output["variety"]["sibling"] < 1 > output["variety"]["source"] > 0
        assert (entry["attempt_id"], entry["machine_id"]) == (attempt["attempt_id"], attempt["machine_id"])
        assert entry["error"] is None
        assert "-vf" in entry["ffmpeg_args"]


def test_the_zip_of_the_job_holds_the_same_outputs(user: User, run: Run) -> None:
    members = user.unzip(run.end["jobs"][0]["job_id"])
    assert {name for name in members if not name.startswith("manifest.")} == {o["name"] for o in run.outputs}


def test_an_output_is_reached_by_a_signed_url_under_its_own_name(user: User, run: Run) -> None:
    for output in run.outputs:
        redirect = user.http.get(f"/api/outputs/{output['output_id']}")
        assert redirect.status_code == 307
        answer = httpx.get(redirect.headers["location"])
        assert answer.content == run.members[output["name"]]
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert output["name"].split("/")[1] in answer.headers["content-disposition"].replace("%20", " ")


def test_an_output_plays_inline_with_the_ticket_of_its_batch_alone(
    http: httpx.Client, user: User, run: Run, source: str
) -> None:
    url = f"/api/outputs/{run.outputs[0]['output_id']}"
    redirect = http.get(url, params={"ticket": run.end["ticket"], "disposition": "inline"})
    assert redirect.status_code == 307
    assert httpx.get(redirect.headers["location"]).headers["content-disposition"].startswith("inline")
    other = user.wait(user.submit(source, variations=1)["batch_id"])
    assert http.get(url, params={"ticket": other["ticket"]}).status_code == 401
    assert http.get(f"/api/batches/{run.end['batch_id']}?ticket={run.end['ticket']}").status_code == 401


# --- the files --------------------------------------------------------------------------------------


def test_outputs_are_h264_and_aac_at_29_97_fps_in_even_dimensions(
    ffmpeg: str, run: Run, files: dict[str, Path]
) -> None:
    for name, size, sounds in (("tall one.mp4", "90x160", 1), ("wide.mp4", "160x90", 0)):
        for output in run.of(name):
            said = describe(ffmpeg, files[output["name"]])
            video = re.findall(r"Stream #.*Video: (.*)", said)
            assert len(video) == 1
            assert re.match(r"h264 .*yuv420p\(.*29\.97 fps", video[0]), video
            assert f" {size}" in video[0]
            audio = re.findall(r"Stream #.*Audio: (\w+)", said)
            assert audio == ["aac"] * sounds


def test_outputs_last_as_long_as_the_source_at_their_speed(
    ffmpeg: str, run: Run, files: dict[str, Path]
) -> None:
    for output in run.outputs:
        wanted = 3.0 / output["effects"]["speed"]
        decoded = len(_frames(ffmpeg, files[output["name"]])) / 29.97
        assert decoded == pytest.approx(wanted, rel=0.02)
        assert output["duration_s"] == pytest.approx(decoded, abs=0.04)


def test_outputs_carry_no_metadata_neither_the_source_s_nor_invented(
    ffmpeg: str, files: dict[str, Path]
) -> None:
    for path in files.values():
        content = path.read_bytes()
        for word in (b"SECRET", b"x264", b"Lavf", b"Lavc", b"VideoHandler"):
            assert word not in content, word
        said = describe(ffmpeg, path)
        for tag in ("title", "comment", "encoder", "creation_time"):
            assert not re.search(rf"^\s*{tag}\s*:", said, re.MULTILINE), said


def test_outputs_begin_with_their_index_so_that_they_play_while_they_load(files: dict[str, Path]) -> None:
    for path in files.values():
        boxes = list(_top_boxes(path.read_bytes()))
        assert boxes.index("moov") < boxes.index("mdat"), boxes


def test_no_two_outputs_of_a_source_are_alike_in_bytes_or_frames(
    ffmpeg: str, run: Run, files: dict[str, Path]
) -> None:
    for source in run.end["sources"]:
        assert len({output["sha256"] for output in source["outputs"]}) == VARIATIONS
        first_frames = [_frames(ffmpeg, files[output["name"]])[0] for output in source["outputs"]]
        assert len(set(first_frames)) == VARIATIONS


# --- helpers ----------------------------------------------------------------------------------------


def _ids_by_pages(user: User, kind: str, name: str, *, limit: int) -> list[str]:
    ids: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = ok(user.http.get(f"/api/{kind}", params=params), 200)
        assert len(page["items"]) <= limit
        ids += [item[name] for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(set(ids)) == len(ids)
    return ids


def _frames(ffmpeg: str, path: Path) -> list[str]:
    """Return a digest of each decoded frame."""
    command = [ffmpeg, "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return [line.split(",")[-1] for line in printed.stdout.splitlines() if not line.startswith("#")]


def _top_boxes(content: bytes) -> Iterator[str]:
    offset = 0
    while offset < len(content):
        size, kind = struct.unpack_from(">I4s", content, offset)
        yield kind.decode()
        offset += size if size != 1 else struct.unpack_from(">Q", content, offset + 8)[0]
