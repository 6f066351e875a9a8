"""Errors that the client commands find before they send anything: no control answers at their address."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control.cli import main
from control.cli.commands import app

ID = "bat_" + "0" * 32
NOWHERE = {"REFRESHER_URL": "http://127.0.0.1:9", "REFRESHER_TOKEN": "t", "TERMINAL_WIDTH": "200"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ad.mp4").write_bytes(b"a video")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*arguments: str, **env: str) -> str:
    """Return the words of a refusal, on one line and without the frame that they are shown in."""
    result = CliRunner().invoke(app, arguments, env={**NOWHERE, **env})
    assert (result.exit_code, result.stdout) == (2, "")
    return " ".join(word for word in result.stderr.split() if word not in "│╭╰─")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("submit", "ad.mp4", "-o", "ad.mp4"), "'ad.mp4' is a file; name a folder"),
        (("submit", "ad.mp4", "-o", "ad.mp4/out"), "'ad.mp4' is a file; name a folder"),
        (("submit", "ad.mp4", "--max-cost-usd", "0"), "must be an amount above 0"),
        (("submit", "ad.mp4", "--max-cost-usd", "nan"), "must be an amount above 0"),
        (("quote", "ad.mp4"), "ad.mp4: This is a text file"),
        (("download", ID, "-o", "folder"), "'folder' is a folder; name a file"),
        (("download", ID, "-o", "missing/all.zip"), "There is no folder 'missing'"),
    ],
    ids=str,
)
def test_an_impossible_command_is_refused_before_anything_is_sent(
    place: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = sorted(place.rglob("*"))
    assert said in refusal(*arguments)
    assert sorted(place.rglob("*")) == before


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_sent(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "folder")  # root may write anywhere
    assert "cannot be written to" in refusal("submit", "ad.mp4", "-o", "folder/out")
    assert "cannot be written to" in refusal("download", ID, "-o", "folder/all.zip")


@pytest.mark.parametrize(
    ("id_", "said"),
    [
        ("out_1", "'out_1' is the id of an output"),
        ("src_1", "'src_1' is the id of a source"),
        ("upl_1", "'upl_1' is the id of an upload"),
        ("job_1-2", "'job_1-2' is the id of an attempt"),
        ("all.zip", "'all.zip' is no id"),
    ],
)
@pytest.mark.parametrize("command", ["show", "cancel", "retry", "rm", "download"])
def test_an_id_of_another_kind_is_refused_with_the_right_kind(
    place: Path, command: str, id_: str, said: str
) -> None:
    more = ("-o", "all.zip") if command == "download" else ()
    assert f"{said}; give that of a job (job_...) or of a batch (bat_...)." in refusal(command, id_, *more)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost:8080", "ftp://host", "http://"])
def test_a_url_without_http_says_how_to_write_it(url: str) -> None:
    assert "REFRESHER_URL must be a URL like https://host" in refusal("jobs", REFRESHER_URL=url)


def test_without_the_sdk_the_tools_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "control.cli.mcp_server", raising=False)
    assert "is missing: pip install mcp" in refusal("mcp")


@pytest.mark.parametrize(
    ("command", "faults", "words"),
    [
        (["serve", "--bucket-faults"], '{"rates": {}}', "needs --local"),
        (["serve", "--local", "--bucket-faults"], '{"rates": {"gremlins": 1}}', "gremlins"),
        (["s3-local", "--data", "unused", "--faults"], '{"stale_s": "soon"}', "stale_s"),
        (["s3-local", "--data", "unused", "--faults"], None, "There is no file"),
    ],
)
def test_faults_of_the_bucket_that_make_no_sense_are_refused_before_anything_starts(
    tmp_path: Path, command: list[str], faults: str | None, words: str
):
    path = tmp_path / "faults.json"
    if faults is not None:
        path.write_text(faults)
    refused = CliRunner().invoke(main.app, [*command, str(path)], env={"TERMINAL_WIDTH": "200"})
    assert refused.exit_code == 2
    assert words in " ".join(refused.output.split())
    assert [each for each in tmp_path.iterdir() if each != path] == []
