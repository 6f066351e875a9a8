"""The client commands of `refresher`, as a script calls them: data on stdout, an exit code, no traceback."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from control.cli.local import LocalStack
from tests.support.cli import Cli
from tests.support.foreign import Held
from tests.support.user import User


@pytest.fixture
def cli(stack: LocalStack, tmp_path: Path) -> Cli:
    return Cli(tmp_path, REFRESHER_URL=stack.url, REFRESHER_PASSWORD=stack.password)


def test_a_video_is_submitted_shown_downloaded_and_removed(cli: Cli, tmp_path: Path, landscape: Path) -> None:
    batch = cli.json("submit", landscape, "-n", 2, "-o", tmp_path / "out")
    batch_id, job_id = batch["batch_id"], batch["jobs"][0]["job_id"]
    assert (batch["status"], batch["progress"]["ready"]) == ("completed", 2)
    assert len(list((tmp_path / "out").rglob("*.mp4"))) == 2
    assert cli.json("show", batch_id)["status"] == cli.json("show", job_id)["status"] == "completed"
    assert batch_id in {each["batch_id"] for each in cli.json("batches")}
    assert [each["job_id"] for each in cli.json("jobs", "--limit", 1)] == [job_id]
    assert job_id in cli.run("jobs").stdout
    assert "ready" in cli.run("show", batch_id).stdout
    assert cli.run("download", batch_id, "-o", "all.zip").returncode == 0
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
    assert cli.run("retry", batch_id).returncode == 1, "nothing is missing"
    assert cli.run("rm", batch_id).returncode == 0
    gone = cli.run("download", batch_id, "-o", "none.zip")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert len(gone.stderr.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out", "all.zip"}


def test_what_was_submitted_can_be_cancelled_and_retried(cli: Cli, user: User, held: Held) -> None:
    batch_id = user.submit(held.url, variations=1)["batch_id"]
    assert cli.json("cancel", batch_id)["status"] == "cancelled"
    assert cli.json("retry", batch_id)["status"] in ("queued", "launching", "running")
    held.let_go()
    user.wait(batch_id)
    assert cli.json("show", batch_id)["status"] == "completed"


@pytest.mark.parametrize("more", [(), ("-o", "out")], ids=str)
def test_a_batch_without_one_of_its_files_is_no_success(
    cli: Cli, tmp_path: Path, landscape: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "cut.mp4").write_text("not a video")
    done = cli.run("submit", landscape, "cut.mp4", "-n", 1, *more, "--json")
    assert done.returncode == 1
    assert "cut.mp4: This is a text file" in done.stderr
    batch = json.loads(done.stdout)
    assert [source["name"] for source in batch["sources"]] == [landscape.name]
    assert len(list((tmp_path / "out").rglob("*.mp4"))) == len(more) // 2


def test_of_bad_files_alone_no_batch_is_made_and_words_say_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_text("not a video")
    done = cli.run("submit", "cut.mp4", "-n", 1, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cut.mp4: This is a text file" in done.stderr
    assert "Nothing is submitted: no file was accepted." in done.stderr


def test_a_quote_says_each_number_of_machines_once_and_marks_the_best(cli: Cli, landscape: Path) -> None:
    (line,) = cli.run("quote", landscape, "-n", 1).stdout.splitlines()
    assert line.split()[:3] == ["*", "1", "machine"]
    assert line.split()[-1].startswith("performance-")


def test_machines_and_orphans_are_listed(cli: Cli) -> None:
    assert isinstance(cli.json("machines"), list)
    assert cli.json("reap", "--dry-run") == []
    assert cli.json("reap") == []


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({}, 2),
        ({"REFRESHER_URL": "http://127.0.0.1:9"}, 2),
        ({"REFRESHER_URL": "http://127.0.0.1:9", "REFRESHER_PASSWORD": "p"}, 1),
        ({"REFRESHER_URL": "nonsense", "REFRESHER_TOKEN": "t"}, 2),
    ],
    ids=str,
)
def test_a_control_that_is_not_there_is_said_without_a_trace(
    tmp_path: Path, env: dict[str, str], code: int
) -> None:
    done = Cli(tmp_path, **env).run("jobs")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.strip()


def test_faults_of_the_local_fly_come_from_a_file_and_nonsense_is_named(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text('{"rates": {"no_such_fault": 1}}')
    done = Cli(tmp_path).run("fly-local", "--faults", "faults.json")
    assert done.returncode == 2
    assert "no_such_fault" in done.stderr
