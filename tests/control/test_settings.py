"""An invalid environment stops the start with one line that names the variable."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from control.cli.local import LOCAL_DEFAULTS, _settings
from control.passes.launch import launch
from control.routes.runner import job_spec
from control.settings import RUN_S_MAX, Settings, SettingsError, load_settings
from control.store import reports
from control.store.database import open_database
from infra.local.fly_server import LocalFlyHandle
from infra.local.s3_server import LocalS3
from infra.ports import SIGNED_S_MAX
from tests.support.settings import PLACES, SETTINGS

WEBHOOK_SECRET = "whsec_" + "QUJD" * 8


CHOSEN = {
    "auth_password": ("a password of my own", "a password of my own"),
    "allowed_origins": ("https://app.example", ("https://app.example",)),
    "runner_regions": ("lhr,iad", ("lhr", "iad")),
    "runner_sizes": ("performance-16x", ("performance-16x",)),
    "max_machines": ("7", 7),
    "retention_hours": ("0.5", 0.5),
    "storage_cap_bytes": ("1000", 1000),
    "evict_grace_s": ("60", 60),
    "history_days": ("7", 7),
    "stop_when_idle_s": ("300", 300),
    "max_source_bytes": ("1000", 1000),
    "heartbeat_s": ("2", 2),
    "lease_s": ("3", 3),
    "boot_timeout_s": ("9", 9),
    "run_timeout_s": ("9", 9),
    "attempts_max": ("7", 7),
    "queue_outputs_max": ("7", 7),
    "outbound_allow": ("files.internal:80", ("files.internal:80",)),
    "webhook_secret": (WEBHOOK_SECRET, WEBHOOK_SECRET),
    "metrics_port": ("9091", 9091),
    "budget_usd_per_day": ("0.5", 0.5),
    "budget_usd_per_month": ("5", 5),
    "port": ("9", 9),
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"auth_password": "short"}, "AUTH_PASSWORD"),
        ({"token_secret": " "}, "TOKEN_SECRET"),
        ({"bucket_name": ""}, "BUCKET_NAME"),
        ({"runner_sizes": "performance-2x,huge"}, "RUNNER_SIZES"),
        ({"runner_apps": " , "}, "RUNNER_APPS"),
        ({"max_machines": 0}, "MAX_MACHINES"),
        (
            {"fly_api_token": "runners=fm2_a", "runner_apps": "runners,more"},
            "FLY_API_TOKEN has no token for more of RUNNER_APPS",
        ),
        ({"heartbeat_s": 30, "lease_s": 60}, "LEASE_S"),
        ({"retention_hours": "soon"}, "RETENTION_HOURS"),
        ({"retention_hours": 1e9}, "RETENTION_HOURS"),
        ({"heartbeat_s": "inf", "lease_s": "inf"}, "HEARTBEAT_S"),
        ({"run_timeout_s": "nan"}, "RUN_TIMEOUT_S"),
        ({"run_timeout_s": 7 * 86_400}, "RUN_TIMEOUT_S: Input should be less than or equal to 603900"),
        ({"aws_access_key_id": ""}, "AWS_ACCESS_KEY_ID"),
        ({"aws_region": ""}, "AWS_REGION"),
        ({"fly_api_url": ""}, "FLY_API_URL"),
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
def test_an_invalid_value_is_refused_by_name_and_never_shown(change, named):
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


def test_the_environment_is_read_under_the_documented_names(monkeypatch):
    for key, value in SETTINGS.items():
        monkeypatch.setenv(key.upper(), value)
    monkeypatch.setenv("RUNNER_REGIONS", "iad, ord ,")
    settings = load_settings()
    assert settings.runner_regions == ("iad", "ord")
    assert settings.runner_callback_url == "http://control.test"


def test_an_empty_metrics_port_is_none():
    assert load_settings(**SETTINGS, metrics_port="").metrics_port is None
    assert load_settings(**{**SETTINGS, "webhook_secret": ""}).webhook_secret is None
    assert load_settings(**SETTINGS, metrics_port="9091").metrics_port == 9091


def test_a_database_that_cannot_be_opened_is_reported_in_one_line(tmp_path):
    (tmp_path / "control.db").write_text("this is no database" * 100)
    with pytest.raises(OSError, match="DATABASE_URL"):
        open_database(f"sqlite:///{tmp_path / 'control.db'}")


@pytest.fixture
def local(tmp_path, monkeypatch):
    """Return the settings that the embedded stack has in an environment of just these variables."""
    s3 = LocalS3(
        endpoint="http://127.0.0.1:1", region="r", access_key_id="k", secret_access_key="s", bucket="b"
    )
    fly = LocalFlyHandle(url="http://127.0.0.1:2/v1", token="t", app="a")

    def assignment(**env: str) -> Settings:
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return _settings(tmp_path, "http://127.0.0.1:3", s3, fly)

    return assignment


def test_the_embedded_stack_has_defaults_of_its_own(local):
    settings = local()
    assert {name: getattr(settings, name) for name in LOCAL_DEFAULTS} == LOCAL_DEFAULTS
    assert len(settings.runner_sizes) == 1
    assert settings.auth_password == local().auth_password, "a password that was made up is kept"


def test_the_embedded_stack_overrides_the_addresses_of_its_parts(local):
    env = dict.fromkeys((name.upper() for name in PLACES), "from-outside")
    assert "from-outside" not in str(local(**env).model_dump(mode="python"))
    assert local(**env).token_secret_previous is None
    assert local(TOKEN_SECRET="from-outside").token_secret.get_secret_value() != "from-outside"


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_the_embedded_stack_takes_everything_else_from_the_environment(local, name):
    text, value = CHOSEN[name]
    shown = getattr(local(**{name.upper(): text}), name)
    assert (shown.get_secret_value() if isinstance(shown, SecretStr) else shown) == value
    assert getattr(local(), name) != shown


def test_these_tests_cover_every_setting():
    assert PLACES | CHOSEN.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_PASSWORD", "short"),
        ("HEARTBEAT_S", "soon"),
        ("LEASE_S", "2"),
        ("RUNNER_SIZES", "huge"),
        ("RUNNER_REGIONS", ","),
        ("MAX_MACHINES", "0"),
    ],
)
def test_an_invalid_value_is_refused_by_the_embedded_stack_too(local, name, value):
    with pytest.raises(SettingsError, match=name):
        local(**{name: value})


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
def test_an_invalid_private_target_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="OUTBOUND_ALLOW"):
        load_settings(**SETTINGS, outbound_allow=text)


def test_the_urls_of_the_longest_run_can_be_signed(context, rows, machines):
    longest = context.settings.model_copy(update={"run_timeout_s": RUN_S_MAX})
    job_id = rows.submit()
    launch(context)
    reports.claim(context.store, f"{job_id}-1", "m1")
    spec = job_spec(replace(context, settings=longest), f"{job_id}-1")
    assert f"X-Amz-Expires={SIGNED_S_MAX}&" in spec.outputs[0].put_url
    assert f"X-Amz-Expires={SIGNED_S_MAX}&" in spec.sources[0].get_url


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("fm2_a,fm2_b", {}),
        ("FlyV1 fm2_a==,fm2_b=", {}),
        ("fm2_abc=def", {}),
        ("abc==", {}),
        ("runners=fm2_a==", {"runners": "fm2_a=="}),
        (
            "runners=FlyV1 fm2_a,fm2_b=  runners-2=fm2_c",
            {"runners": "FlyV1 fm2_a,fm2_b=", "runners-2": "fm2_c"},
        ),
        (
            "runners=FlyV1 fm2_a runners-2=FlyV1 fm2_b",
            {"runners": "FlyV1 fm2_a", "runners-2": "FlyV1 fm2_b"},
        ),
    ],
)
def test_a_token_is_for_all_apps_or_each_app_has_its_own(text, tokens):
    apps = ",".join(tokens or ["runners"])
    assert load_settings(**{**SETTINGS, "fly_api_token": text, "runner_apps": apps}).fly_tokens == tokens
