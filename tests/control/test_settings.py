"""Nonsense in the environment stops the start, and the line names the variable."""

from __future__ import annotations

import pytest

from control.settings import SettingsError, load_settings
from tests.control.conftest import SETTINGS


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"auth_password": "short"}, "AUTH_PASSWORD"),
        ({"token_secret": " "}, "TOKEN_SECRET"),
        ({"bucket_name": ""}, "BUCKET_NAME"),
        ({"runner_sizes": "performance-2x,huge"}, "RUNNER_SIZES"),
        ({"runner_apps": " , "}, "RUNNER_APPS"),
        ({"max_machines": 0}, "MAX_MACHINES"),
        ({"heartbeat_s": 30, "lease_s": 60}, "LEASE_S"),
        ({"retention_hours": "soon"}, "RETENTION_HOURS"),
    ],
)
def test_nonsense_is_refused_by_name_and_never_shown(change, named):
    with pytest.raises(SettingsError) as refused:
        load_settings(**{**SETTINGS, **change})
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "short" not in str(refused.value)


@pytest.mark.parametrize("missing", ["auth_password", "token_secret", "bucket_name", "fly_api_token"])
def test_a_missing_variable_is_named(missing, monkeypatch):
    monkeypatch.delenv(missing.upper(), raising=False)
    with pytest.raises(SettingsError, match=missing.upper()):
        load_settings(**{key: value for key, value in SETTINGS.items() if key != missing})


def test_the_environment_is_read_under_the_contract_s_names(monkeypatch):
    for key, value in SETTINGS.items():
        monkeypatch.setenv(key.upper(), value)
    monkeypatch.setenv("RUNNER_REGIONS", "iad, ord ,")
    settings = load_settings()
    assert settings.runner_regions == ("iad", "ord")
    assert settings.runner_callback_url == "http://control.test"


def test_secrets_do_not_show_when_settings_are_printed():
    shown = repr(load_settings(**SETTINGS))
    assert "secret for tests" not in shown
    assert "long enough" not in shown
