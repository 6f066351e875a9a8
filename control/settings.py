"""The settings of control, read from the environment. An invalid one stops the start and is named.

One file, since it is one list (docs/settings.md).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from control.planning.prices import sizes
from infra.hosts import is_http_url
from infra.ports import SIGNED_S_MAX
from runner.contract import RUN_TIMEOUT_S

PASSWORD_CHARS_MIN = 15
_PAIR = re.compile(r"(?:^|(?<=\s))([a-z0-9][a-z0-9-]*)=(?=[^=\s])")  # of FLY_API_TOKEN: an app's name
_PLACE = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\]):[0-9]{1,5}")

Loaded = TypeVar("Loaded", bound=BaseSettings)
CommaList = Annotated[tuple[str, ...], NoDecode]
HOURS_MAX = 87_600  # ten years
URL_MARGIN_S = 15 * 60  # the signed URLs of a runner stay valid this long after its deadline
RUN_S_MAX = SIGNED_S_MAX - URL_MARGIN_S
Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]


class SettingsError(Exception):
    """A setting is invalid. The message names the variable."""


class Listening(BaseSettings):
    """Where control listens: the part that `serve --local` needs before its stack runs."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    port: Annotated[int, Field(ge=0, le=65535)] = 8080


class Settings(Listening):
    """All settings: the variables of docs/settings.md in lower case."""

    auth_password: SecretStr
    token_secret: SecretStr
    token_secret_previous: SecretStr | None = None
    database_url: str = "sqlite:////data/control.db"
    database_mount: str | None = None  # where the volume of a SQLite database must be mounted
    public_url: str
    callback_url: str = ""
    allowed_origins: CommaList = ()

    aws_endpoint_url_s3: str
    aws_region: str = "auto"
    aws_access_key_id: str
    aws_secret_access_key: SecretStr
    bucket_name: str
    s3_public_endpoint_url: str | None = None

    fly_api_url: str = "https://api.machines.dev/v1"
    fly_api_token: SecretStr
    runner_apps: CommaList
    runner_image: str
    runner_regions: CommaList = ("iad",)
    runner_sizes: CommaList = ("performance-1x", "performance-2x", "performance-4x", "performance-8x")

    max_machines: Annotated[int, Field(ge=1)] = 50
    retention_hours: Annotated[float, Field(gt=0, le=HOURS_MAX)] = 24
    storage_cap_bytes: Annotated[int, Field(ge=1)] = 10 * 1024**3
    evict_grace_s: Annotated[float, Field(ge=0, le=HOURS_MAX * 3600)] = 3600
    history_days: Annotated[float, Field(gt=0, le=HOURS_MAX / 24)] = 90
    max_source_bytes: Annotated[int, Field(ge=1)] = 2 * 1024**3
    heartbeat_s: Seconds = 15
    lease_s: Seconds = 60
    boot_timeout_s: Seconds = 180
    run_timeout_s: Annotated[Seconds, Field(le=RUN_S_MAX)] = RUN_TIMEOUT_S
    attempts_max: Annotated[int, Field(ge=1)] = 3
    queue_outputs_max: Annotated[int, Field(ge=1)] = 100_000
    outbound_allow: CommaList = ()
    webhook_secret: SecretStr | None = None

    stop_when_idle_s: Annotated[float, Field(ge=1)] | None = None
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None

    fly_app_name: str | None = None  # Fly sets it on its machines: then Fly's proxy is in front of control

    budget_usd_per_day: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    budget_usd_per_month: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @field_validator("runner_apps", "runner_regions", "runner_sizes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = tuple(word.strip() for word in value.split(",") if word.strip())
        if not value:
            raise ValueError("is empty")
        return value

    @field_validator("outbound_allow", mode="before")
    @classmethod
    def _places(cls, value: Any) -> Any:
        words = value.split(",") if isinstance(value, str) else value
        places = tuple(word.strip().lower() for word in words if word.strip())
        if not all(_PLACE.fullmatch(place) for place in places):
            raise ValueError("must be a list like host:port,[::1]:8080")
        return places

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _exact_origins(cls, value: Any) -> Any:
        words = value.split(",") if isinstance(value, str) else value
        named = tuple(word.strip().rstrip("/") for word in words if word.strip())
        for each in named:
            if "*" in each or not is_http_url(each) or origin(each) != each:
                raise ValueError("must be exact origins like https://app.example.com")
        return named

    @field_validator("runner_sizes")
    @classmethod
    def _known_sizes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - sizes():
            raise ValueError(f"unknown size {', '.join(sorted(unknown))}")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_webhook_secret(value.get_secret_value()):
            raise ValueError("must be whsec_ and 24 to 64 bytes in base64")
        return value

    @field_validator("auth_password")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < PASSWORD_CHARS_MIN:
            raise ValueError(f"must have at least {PASSWORD_CHARS_MIN} characters")
        return value

    @field_validator(
        "token_secret",
        "fly_api_token",
        "bucket_name",
        "aws_endpoint_url_s3",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_region",
        "fly_api_url",
        "runner_image",
        "public_url",
    )
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not text.strip():
            raise ValueError("is empty")
        return value

    @field_validator(
        "public_url", "callback_url", "aws_endpoint_url_s3", "s3_public_endpoint_url", "fly_api_url"
    )
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value and not is_http_url(value):
            raise ValueError("must be a URL like https://host or http://host:port")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value.startswith("postgresql+psycopg://"):
            return value
        if not value.removeprefix("sqlite:///").strip("/") or not value.startswith("sqlite:///"):
            raise ValueError("must be sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME")
        return value

    @field_validator(
        "budget_usd_per_day",
        "budget_usd_per_month",
        "database_mount",
        "metrics_port",
        "stop_when_idle_s",
        "webhook_secret",
        mode="before",
    )
    @classmethod
    def _unset(cls, value: Any) -> Any:
        return None if value == "" else value

    @model_validator(mode="after")
    def _a_token_for_each_app(self) -> Settings:
        missing = [app for app in self.runner_apps if app not in self.fly_tokens]
        if self.fly_tokens and missing:
            raise ValueError(f"FLY_API_TOKEN has no token for {', '.join(missing)} of RUNNER_APPS")
        return self

    @model_validator(mode="after")
    def _lease_outlives_beats(self) -> Settings:
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError("LEASE_S must be at least three times HEARTBEAT_S")
        return self

    @property
    def fly_tokens(self) -> Mapping[str, str]:
        """The token of each app that FLY_API_TOKEN names one for; empty when one token is for all apps."""
        return _tokens_by_app(self.fly_api_token.get_secret_value())

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may use the signed URLs of the bucket."""
        return tuple(dict.fromkeys((origin(self.public_url), *self.allowed_origins)))

    @property
    def runner_callback_url(self) -> str:
        """The URL at which runners reach control, without a trailing slash."""
        return (self.callback_url or self.public_url).rstrip("/")


def load_settings(**overrides: Any) -> Settings:
    """Return the settings from the environment of this process. `overrides` take precedence.

    Raises SettingsError with one line that names the variable and never shows its value.
    """
    return _load(Settings, **overrides)


def load_port() -> int:
    """Return the port from the environment. Raises SettingsError."""
    return _load(Listening).port


def _tokens_by_app(text: str) -> Mapping[str, str]:
    """Return the tokens of `app=token` pairs, or nothing when the text is one token.

    A pair ends where the next begins, so a token keeps its `FlyV1 ` and its commas. No token of Fly looks
    like a pair: they begin with `fm1r_`, `fm1a_` or `fm2_`, and an app's name has no underscore.
    """
    starts = list(_PAIR.finditer(text))
    if not starts or text[: starts[0].start()].strip():
        return {}
    ends = [pair.start() for pair in starts[1:]] + [len(text)]
    return {pair[1]: text[pair.end() : end].strip() for pair, end in zip(starts, ends, strict=True)}


def _is_webhook_secret(text: str) -> bool:
    try:
        return text.startswith("whsec_") and 24 <= len(b64decode(text[6:], validate=True)) <= 64
    except ValueError:
        return False


def origin(url: str) -> str:
    """Return the origin of a URL as browsers send it: in lower case and without a default port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    is_default = parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme))
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{parts.port}"


def _load(shape: type[Loaded], **overrides: Any) -> Loaded:
    try:
        return shape(**overrides)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "".join(str(part) for part in first["loc"]).upper()
        text = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}: {text}" if name else text) from None
