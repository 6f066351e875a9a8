"""Nonsense in the environment stops the start, and the line names the variable."""

from __future__ import annotations

import pytest

from control.database import open_database
from control.local import _settings
from control.settings import Settings, SettingsError, load_settings
from infra.flylocal import LocalFlyHandle
from infra.s3local import LocalS3
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
        ({"retention_hours": 1e9}, "RETENTION_HOURS"),
        ({"heartbeat_s": "inf", "lease_s": "inf"}, "HEARTBEAT_S"),
        ({"run_timeout_s": "nan"}, "RUN_TIMEOUT_S"),
        ({"aws_access_key_id": ""}, "AWS_ACCESS_KEY_ID"),
        ({"aws_secret_access_key": " "}, "AWS_SECRET_ACCESS_KEY"),
        ({"public_url": "control.example"}, "PUBLIC_URL"),
        ({"callback_url": "ftp://control.example"}, "CALLBACK_URL"),
        ({"aws_endpoint_url_s3": "https://"}, "AWS_ENDPOINT_URL_S3"),
        ({"s3_public_endpoint_url": "https://host:port"}, "S3_PUBLIC_ENDPOINT_URL"),
        ({"fly_api_url": "http://[::1"}, "FLY_API_URL"),
        (
            {"database_url": "postgresql://db/x"},
            "DATABASE_URL: must be sqlite:///PATH or postgresql+psycopg://",
        ),
        ({"database_url": "control.db"}, "DATABASE_URL"),
        ({"database_url": "sqlite:///"}, "DATABASE_URL"),
        ({"port": 70_000}, "PORT"),
        ({"port": "http"}, "PORT"),
        ({"metrics_port": "0"}, "METRICS_PORT"),
        ({"budget_usd_per_day": "0"}, "BUDGET_USD_PER_DAY"),
        ({"budget_usd_per_day": "nan"}, "BUDGET_USD_PER_DAY"),
        ({"budget_usd_per_month": "much"}, "BUDGET_USD_PER_MONTH"),
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


def test_an_empty_metrics_port_is_none():
    assert load_settings(**SETTINGS, metrics_port="").metrics_port is None
    assert load_settings(**SETTINGS, metrics_port="9091").metrics_port == 9091


def test_a_database_that_cannot_be_opened_is_said_in_a_line(tmp_path):
    (tmp_path / "control.db").write_text("this is no database" * 100)
    with pytest.raises(OSError, match="DATABASE_URL"):
        open_database(f"sqlite:///{tmp_path / 'control.db'}")


def test_the_local_stack_takes_limits_alone_from_the_environment(tmp_path, monkeypatch):
    for key in ("TOKEN_SECRET_PREVIOUS", "RUNNER_REGIONS", "RUNNER_SIZES"):
        monkeypatch.setenv(key, "from outside")
    monkeypatch.setenv("BUDGET_USD_PER_DAY", "0.5")
    monkeypatch.setenv("ATTEMPTS_MAX", "7")
    monkeypatch.delenv("MAX_MACHINES", raising=False)
    s3 = LocalS3(
        endpoint="http://127.0.0.1:1", region="r", access_key_id="k", secret_access_key="s", bucket="b"
    )
    fly = LocalFlyHandle(url="http://127.0.0.1:2/v1", token="t", app="a")

    def local() -> Settings:
        return _settings(tmp_path, "http://127.0.0.1:3", "a password long enough", s3, fly)

    assert "from outside" not in repr(local().model_dump(mode="json"))
    assert local().token_secret_previous is None
    assert (local().attempts_max, local().max_machines, local().budget_usd_per_day) == (7, 2, 0.5)
    monkeypatch.setenv("MAX_MACHINES", "5")
    assert local().max_machines == 5


def test_secrets_do_not_show_when_settings_are_printed():
    shown = repr(load_settings(**SETTINGS))
    assert "secret for tests" not in shown
    assert "long enough" not in shown


@pytest.mark.parametrize(
    "origins",
    ["*", "app.example", "https://app.example/page", "https://*.example", "null", "https://a.example:443"],
)
def test_an_origin_that_is_not_exact_stops_the_start(origins):
    with pytest.raises(SettingsError, match="ALLOWED_ORIGINS"):
        load_settings(**{**SETTINGS, "allowed_origins": origins})


def test_the_bucket_serves_our_own_page_and_those_that_are_named():
    named = "https://app.example, http://localhost:5173/"
    settings = load_settings(
        **{**SETTINGS, "public_url": "https://Control.example:443/", "allowed_origins": named}
    )
    assert settings.allowed_origins == ("https://app.example", "http://localhost:5173")
    assert settings.origins == ("https://control.example", "https://app.example", "http://localhost:5173")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", ()),
        ("127.0.0.1:9000", ("127.0.0.1:9000",)),
        ("Files.internal:80, [fdaa::3]:8080", ("files.internal:80", "[fdaa::3]:8080")),
    ],
)
def test_private_targets_are_named_by_host_and_port(text: str, places: tuple[str, ...]) -> None:
    assert load_settings(**SETTINGS, outbound_allow=text).outbound_allow == places


@pytest.mark.parametrize("text", ["localhost", "*", "http://a:80", "a:b", "fdaa::3:80:x"])
def test_a_private_target_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="OUTBOUND_ALLOW"):
        load_settings(**SETTINGS, outbound_allow=text)
