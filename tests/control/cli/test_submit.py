"""Submitting from the command line: files, folders and links, with every choice that the API has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select
from typer.testing import CliRunner, Result

from control.cli import inputs
from control.cli.commands import app
from control.store.tables import Batch, Upload
from tests.support.clips import make_clip
from tests.support.maker import Maker
from tests.support.processes import take_interrupts
from video_refresher import ApiError, client

LINK = "https://videos.example/far.mp4"
ALL = ["--without", "mirror", "--without", "noise", "--strength", 0.5, "--quality", "high", "--seed", 7]
ALL += ["--frame-rate", "source", "--name", "Spring sale", "--max-machines", 2, "--max-cost-usd", 5]
ALL += ["--deadline-s", 600, "--name-template", "{seed}-{n}"]


@pytest.fixture(scope="module")
def folder(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos, one of them deeper, and five files that are left out."""
    folder = tmp_path_factory.mktemp("videos")
    for place in ("deep/.hidden", ".git"):
        (folder / place).mkdir(parents=True)
    clip = make_clip(ffmpeg, folder / "b.mp4").read_bytes()
    (folder / "deep" / "A.MOV").write_bytes(clip)
    (folder / "deep" / ".hidden" / "c.mp4").write_bytes(clip)  # of a hidden folder nothing is counted
    for name in (".d.mp4", "notes.txt", "deep/e.mkv", ".DS_Store"):
        (folder / name).write_bytes(clip)
    return folder


def env_of(maker: Maker) -> dict[str, str]:
    token = maker.http.headers["Authorization"].removeprefix("Bearer ")
    return {"REFRESHER_URL": str(maker.http.base_url), "REFRESHER_TOKEN": token, "COLUMNS": "200"}


def run(maker: Maker, home: Path, *arguments: object) -> Result:
    env = {**env_of(maker), "HOME": str(home), "XDG_STATE_HOME": str(home)}
    return CliRunner().invoke(app, [str(each) for each in arguments], env=env)


def data(maker: Maker, home: Path, *arguments: object) -> Any:
    result = run(maker, home, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def uploads(maker: Maker) -> int:
    with maker.store.transaction() as tx:
        return len(tx.session.exec(select(Upload)).all())


def test_folders_are_searched_and_a_file_that_is_no_video_is_left_out_and_counted(
    maker: Maker, folder: Path, tmp_path: Path
) -> None:
    result = run(maker, tmp_path, "submit", folder, LINK, folder / "b.mp4", "-n", 1, "--json")
    assert result.exit_code == 0, result.stderr
    batch = json.loads(result.stdout)
    assert [source["name"] for source in batch["sources"]] == ["b.mp4", "A.MOV", "far.mp4"]
    assert "4 files of the folders left out" in result.stderr


def test_every_choice_of_the_api_is_an_option(maker: Maker, folder: Path, tmp_path: Path) -> None:
    batch = data(maker, tmp_path, "submit", folder / "b.mp4", "-n", 2, *ALL)
    wanted = {"without": ["mirror", "noise"], "strength": 0.5, "quality": "high", "frame_rate": "source"}
    assert {name: batch[name] for name in wanted} == wanted
    assert (batch["name"], batch["seed"], batch["variations"]) == ("Spring sale", 7, 2)
    assert [output["name"] for output in batch["sources"][0]["outputs"]] == ["b/7-01.mp4", "b/7-02.mp4"]


def test_a_quote_has_the_same_choices_and_takes_folders_and_links(
    maker: Maker, folder: Path, tmp_path: Path
) -> None:
    plain = data(maker, tmp_path, "quote", folder, "-n", 9)
    assert (
        data(maker, tmp_path, "quote", folder, "-n", 9, "--quality", "high")["cost_usd"] > plain["cost_usd"]
    )
    assert data(maker, tmp_path, "quote", LINK)["estimated"] is True
    (tmp_path / "bad.mp4").write_text("no video at all")
    bad = run(maker, tmp_path, "quote", folder, tmp_path / "bad.mp4", "-n", 9, "--json")
    assert (bad.exit_code, json.loads(bad.stdout)) == (1, plain)
    assert "bad.mp4: This is a text file" in bad.stderr
    assert run(maker, tmp_path, "quote", tmp_path / "bad.mp4").exit_code == 2


def test_a_batch_is_found_by_its_name(maker: Maker, folder: Path, tmp_path: Path) -> None:
    batch = data(maker, tmp_path, "submit", folder / "b.mp4", "-n", 1, "--name", "Autumn only")
    for command in ("batches", "jobs"):
        (item,) = data(maker, tmp_path, command, "--search", "autumn ONLY")
        assert item["batch_id"] == batch["batch_id"]
        assert "Autumn only" in run(maker, tmp_path, command, "--search", "autumn").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--without", "hue"), "'hue' is not an effect"),
        (("--name", ""), "must have 1 to 100 characters"),
        (("--strength", "2"), "less than or equal to 1"),
        (("--seed", "-1"), "greater than or equal to 0"),
        (("--name-template", ""), "must have 1 to 200 characters"),
        (("--name-template", "{source}"), "would get the same name: add {n}"),
        (("--name-template", "{n}_{width}", LINK), "{width} of a link is not known"),
        (("--name-template", "{n}", "--preset", "copy"), "numbers variations"),
        (("--to", "/folder"), "name a bucket and a folder in it, like s3://bucket/folder"),
        (("--to", "s3://b/folder"), "3 characters or more"),
        (("--to", "s3://bucket/x"), "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION"),
    ],
    ids=str,
)
def test_a_choice_that_cannot_be_is_refused_before_anything_is_uploaded(
    maker: Maker, folder: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    for command in ("submit", "quote") if "--name-template" in arguments else ("submit",):
        result = run(maker, tmp_path, command, folder, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in " ".join(result.stderr.split())


def test_without_a_video_nothing_is_submitted(maker: Maker, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "No MP4 or MOV file is in" in run(maker, tmp_path, "submit", tmp_path / "empty").stderr
    assert "or a list with --from" in run(maker, tmp_path, "submit").stderr


def test_a_list_makes_a_batch_for_each_number_of_variations_under_one_name(
    maker: Maker, folder: Path, tmp_path: Path
) -> None:
    table = [
        "source;name;variations;sku;note",
        "b.mp4;Erste;2;A-1;",
        "deep/A.MOV;;;A-2;neu",
        f"{LINK};;2;A-3;",
    ]
    list_ = folder / "list.csv"
    list_.write_bytes(("\ufeff" + "\r\n".join(table)).encode())
    quoted = data(maker, tmp_path, "quote", "--from", list_, "-n", 1)
    spent = [sum(each["cost_usd"] for each in quoted)]
    sent = uploads(maker)
    poor = run(maker, tmp_path, "submit", "--from", list_, "-n", 1, "--max-cost-usd", spent[0] / 2)
    assert (poor.exit_code, "Nothing is submitted, and no file was sent" in poor.stderr) == (1, True)
    assert uploads(maker) == sent
    made = data(maker, tmp_path, "submit", "--from", list_, "-n", 1, "--name", "Bulk", "--max-cost-usd", 9)
    two, one = made["batches"]
    assert [(batch["name"], batch["variations"]) for batch in made["batches"]] == [("Bulk", 2), ("Bulk", 1)]
    assert [(source["name"], source["data"]) for source in two["sources"]] == [
        ("Erste", {"sku": "A-1"}),
        ("far.mp4", {"sku": "A-3"}),
    ]
    assert [source["data"] for source in one["sources"]] == [{"sku": "A-2", "note": "neu"}]
    assert made["progress"] == {"ready": 0, "failed": 0, "total": 5}
    with maker.store.transaction() as tx:
        budgets = [
            tx.session.get_one(Batch, batch["batch_id"]).max_cost_usd or 0 for batch in made["batches"]
        ]
    for batch in made["batches"]:  # room is reserved for links: others need it
        maker.http.post(f"/api/batches/{batch['batch_id']}/cancel")
    assert sum(budgets) == pytest.approx(9)
    assert budgets[0] > budgets[1]


def test_more_sources_than_a_batch_takes_are_several_batches_and_one_sum(
    maker: Maker, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "SOURCES_MAX", 1)
    result = run(maker, tmp_path, "submit", folder, "-n", 1)
    lines = result.stdout.splitlines()
    assert [line[:4] for line in lines if not line.startswith("  ")] == ["bat_", "bat_", "2 ba"]
    assert lines[-1] == "2 batches: 0/2 ready, 0 failed, $0.000000"
    monkeypatch.setattr(inputs, "SOURCES_MAX", 5)
    many = [f"https://videos.example/many{n}.mp4" for n in range(6)]  # 64 MiB are reserved for each output
    full = run(maker, tmp_path, "submit", *many, "-n", 40)
    assert (full.exit_code, "may not fit into the storage" in full.stderr) == (1, True)
    assert data(maker, tmp_path, "batches", "--search", "many") == []


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (ApiError(429, "queue_full", "Later."), "The next one was not: Later."),
        (
            ApiError(502, "unknown", "Bad."),
            "The next one may be submitted too, since its answer is lost (Bad.)",
        ),
        (httpx.ReadTimeout(""), "The next one may be submitted too, since its answer is lost (ReadTimeout)"),
    ],
    ids=["refused", "a proxy's answer", "no answer"],
)
def test_the_end_of_a_later_submit_says_which_batches_continue(
    maker: Maker,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: Exception,
    said: str,
) -> None:
    monkeypatch.setattr(inputs, "SOURCES_MAX", 1)
    real, answers = client._place, iter([None, end])

    def place(*request: Any) -> Any:
        if refusal := next(answers):
            raise refusal
        return real(*request)

    monkeypatch.setattr(client, "_place", place)
    result = run(maker, tmp_path, "submit", folder, "-n", 1, "--name", tmp_path.name)
    (item,) = data(maker, tmp_path, "batches", "--search", tmp_path.name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"1 of 2 batches are submitted and continue: {item['batch_id']}\n" in result.stderr
    assert said in result.stderr


def test_ctrl_c_before_the_answer_says_where_to_look(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "_place", interrupt)
    result = run(maker, tmp_path, "submit", LINK, "-n", 1)
    assert (result.exit_code != 0, result.stdout) == (True, "")
    assert "Stopped before a batch was confirmed: refresher batches shows whether it is." in result.stderr


def test_commands_that_change_and_download_print_data_too(maker: Maker, tmp_path: Path) -> None:
    batch_id, out = maker.make(b"one")["batch_id"], tmp_path / "all.zip"
    assert data(maker, tmp_path, "watch", batch_id)["status"] == "completed"
    found = data(maker, tmp_path, "download", batch_id, "-o", out)
    assert found == {"file": str(out), "size_bytes": out.stat().st_size}
    assert data(maker, tmp_path, "rm", batch_id) == {"deleted": batch_id}


def test_watching_what_ends_badly_is_no_success(maker: Maker, tmp_path: Path) -> None:
    batch = maker.submit(variations=1)
    maker.http.post(f"/api/batches/{batch['batch_id']}/cancel")
    for id_ in (batch["batch_id"], batch["jobs"][0]["job_id"]):
        result = run(maker, tmp_path, "watch", id_, "--json")
        assert (result.exit_code, json.loads(result.stdout)["status"]) == (1, "cancelled")


def test_ctrl_c_says_that_the_batch_continues_and_how_to_watch_or_cancel_it(
    maker: Maker, tmp_path: Path
) -> None:
    command = [Path(sys.executable).with_name("refresher"), "submit", LINK, "-n", "1", "--wait"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm", **env_of(maker)}
    screen, terminal = os.openpty()
    pipes: Any = {"stderr": terminal, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=env, preexec_fn=take_interrupts, **pipes) as process:
        os.close(terminal)
        shown = ""
        while "ready, queued" not in shown:  # the batch is watched
            shown += os.read(screen, 1000).decode()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    shown = os.read(screen, 10_000).decode()
    os.close(screen)
    (item, *_) = maker.http.get("/api/batches", params={"q": "far.mp4"}).json()["items"]
    batch_id = item["batch_id"]
    assert (process.returncode, out) == (130, b"")
    assert f"{batch_id} continues. Watch it: refresher watch {batch_id}" in shown
    assert f"refresher cancel {batch_id}" in shown
    assert item["status"] == "queued"
