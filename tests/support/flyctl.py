"""A `fly` that notes what it is asked, checks it against flyctl's definitions, and answers as flyctl does.

`tests/infra/provision/flyctl.json` has every flag of each command, with flyctl's version and date.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tests/infra/provision/flyctl.json"
DIGEST = "sha256:" + "a" * 64
FLY_TOKEN = "FlyV1 fm2_the-token-itself"
BUCKET_KEY = "the-bucket-key-itself"


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(TABLE.read_text())
    return table


def command_of(words: Sequence[str]) -> str | None:
    """Return the command that the words begin with, as the table names it."""
    known = [name for name in _table()["commands"] if list(words[: len(name.split())]) == name.split()]
    return max(known, key=len, default=None)


def problem(words: Sequence[str]) -> str:
    """Return why flyctl would not take these words after `fly`, or nothing if it would."""
    name = command_of(words)
    if name is None:
        return f"unknown command {' '.join(words)!r}"
    command = _table()["commands"][name]
    flags = {**_table()["everywhere"], **command["flags"]}
    rest, given = list(words[len(name.split()) :]), 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            given += 1
            continue
        flag, has_value, _ = word.partition("=")
        kind = flags.get(flag)
        kind = flags.get(kind, kind)  # a short one names its long one
        if kind is None:
            return f"{name}: unknown flag: {flag}"
        if kind == "value" and not has_value and not (rest and rest.pop(0)):
            return f"{name}: flag needs an argument: {flag}"
    fewest, most = command["args"]
    if given < fewest or (most is not None and given > most):
        return f"{name}: takes {fewest} to {most} arguments, received {given}"
    return ""


def install(folder: Path) -> Path:
    """Write the program `fly` into a folder and return its path. Its notes are in `notes` beside it."""
    program = folder / "fly"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.support.flyctl import main\nmain({str(folder)!r})\n"
    )
    program.chmod(0o755)
    (folder / "notes").touch()
    return program


def asked(folder: Path) -> list[dict[str, Any]]:
    """Return each call so far: its words and its stdin."""
    return [json.loads(line) for line in (folder / "notes").read_text().splitlines()]


def main(folder: str) -> None:
    """Answer one call.

    FLY_TAKEN: apps and bucket exist (`bucket`: it alone). FLY_BREAKS: a call that begins so fails.
    FLY_MACHINES: the machines of the runners. FLY_LIVE: the label of control's release.
    """
    words = sys.argv[1:]
    text, is_taken = " ".join(words), bool(os.environ.get("FLY_TAKEN"))
    stdin = sys.stdin.read() if words[:2] == ["secrets", "import"] else ""
    with Path(folder, "notes").open("a") as notes:
        notes.write(json.dumps({"argv": words, "stdin": stdin}) + "\n")
    if wrong := problem(words):
        sys.exit(f"Error: {wrong}")
    if text.startswith(os.environ.get("FLY_BREAKS", "-")):
        sys.exit("Error: it broke")
    if text.startswith("secrets list") and not is_taken:
        sys.exit("Error: app not found")
    out, err = _answer(words, text, is_taken=is_taken)
    print("\n".join(out))
    print("\n".join(err), file=sys.stderr)


def _answer(words: Sequence[str], text: str, *, is_taken: bool) -> tuple[Iterable[str], Iterable[str]]:
    has_apps = is_taken and os.environ["FLY_TAKEN"] != "bucket"
    match words[:2]:
        case "secrets", "list":
            return ['[{"name": "AUTH_PASSWORD", "digest": "x"}, {"name": "TOKEN_SECRET"}]'], []
        case "apps", "list":
            return [json.dumps([{"Name": name} for name in ("ads-control", "ads-runner") if has_apps])], []
        case "storage", "list":
            return ["NAME          ORG", "ads-videos    acme" if is_taken else "ads-videos-2  acme"], []
        case "storage", "create":
            return [f"AWS_SECRET_ACCESS_KEY: {BUCKET_KEY}"], []
        case "machine", "list" if "ads-control" in words:
            image = f"registry.fly.io/ads-control:{os.environ.get('FLY_LIVE')}@{DIGEST}"
            return [
                json.dumps([{"id": "c", "config": {"image": image}}] if "FLY_LIVE" in os.environ else [])
            ], []
        case "machine", "list":
            return [os.environ.get("FLY_MACHINES", "[]")], []
        case "tokens", "create":
            return [FLY_TOKEN], []
    if "--build-only" in words and not os.environ.get("FLY_SILENT"):
        image = f"images.test/ads-runner:deployment-1@{DIGEST}"
        return [], [f"#9 pushing manifest for {image} 0.4s done"]
    return [text], []
