"""docs/settings.md describes each variable of control as the code uses it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from control.cli.local import LOCAL_DEFAULTS
from control.settings import Settings
from tests.support.settings import PLACES

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (.*?) \| ?(.*?) ?\| \S.* \|$", re.MULTILINE)
ROWS = {name.lower(): (default, local) for name, default, local in ROW.findall(PAGE.read_text())}
OTHERWISE = {"auth_password": "made up and kept", "runner_sizes": "like this machine"}


def written(value: Any) -> str:
    if value in (None, "", ()):
        return "unset"
    text = ",".join(value) if isinstance(value, tuple) else str(value).removesuffix(".0")
    return f"`{text}`"


def test_every_setting_of_control_is_on_the_page_and_no_other():
    assert ROWS.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_page_shows_the_defaults_of_the_code(name):
    field = Settings.model_fields[name]
    local = "its own" if name in PLACES else OTHERWISE.get(name, "")
    if name in LOCAL_DEFAULTS:
        local = written(LOCAL_DEFAULTS[name])
    assert ROWS[name] == ("required" if field.is_required() else written(field.default), local)
