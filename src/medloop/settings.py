"""The settings: where things run, from `config.yaml`, `secrets.yaml`, `.env` and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from medloop.errors import UnknownName, UserError
from medloop.recipe.strict import Strict, read_yaml, validated, without_empty_sections
from medloop.storage.limits import GIB, Limits

DEFAULT_LIMITS = Limits()
PREFIX = "MEDLOOP_"
DELIMITER = "__"
FILES = ("secrets.yaml", "config.yaml")
# Variables of other tools that a `.env` file may hold; they are passed on to those tools unread.
FOREIGN = ("MLFLOW_", "AWS_", "DAGSHUB_")


def _split_list(value: object) -> object:
    """Split a list that a variable holds as `a.example, b.example`."""
    if not isinstance(value, str):
        return value
    return [name for part in value.strip("[]").split(",") if (name := part.strip(" '\""))]


Gibibytes = Annotated[float, Field(gt=0)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_split_list)]


class StorageSettings(Strict):
    """Which hosts may be contacted, and how much data may come from one place."""

    allow_hosts: Hosts = ()
    max_gib: Gibibytes = DEFAULT_LIMITS.max_bytes / GIB
    max_entries: Annotated[int, Field(ge=1)] = DEFAULT_LIMITS.max_entries
    max_ratio: Annotated[float, Field(ge=1)] = DEFAULT_LIMITS.max_ratio

    @property
    def limits(self) -> Limits:
        """Return the limits on a single archive, download or prefix."""
        return Limits(max_bytes=int(self.max_gib * GIB), max_entries=self.max_entries, max_ratio=self.max_ratio)


class TrackingSettings(Strict):
    """The MLflow server; `MLFLOW_TRACKING_URI` overrides `uri`."""

    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = None


class TuneSettings(Strict):
    """Where the tuning study is stored: a file of the project, or a database that several machines share."""

    storage: str | None = None


class OidcSettings(Strict):
    """The identity provider whose bearer tokens the service accepts in addition to its API keys."""

    issuer: str
    audience: str
    # Where the issuer's public keys are; by default taken from the issuer's discovery document.
    jwks_url: str | None = None
    # The claim that holds a role of medloop, as a string or a list of strings.
    role_claim: str = "roles"


class ServeSettings(Strict):
    """Where the service listens, who may use it, and its limits."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    # Threads for decoding and inference in each process; by default one for each core.
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    auth: bool = True
    # Host names under which the service is reached, in addition to IP addresses and the host it listens on.
    hosts: Hosts = ()
    # Other origins whose web pages may call the service; none by default.
    origins: Hosts = ()
    oidc: OidcSettings | None = None
    # Requests per second and key.
    rate_limit: Annotated[float, Field(gt=0)] = 1000.0
    # Failed authentications per second and address; behind a proxy all callers share its address.
    wrong_key_limit: Annotated[float, Field(gt=0)] = 20.0
    # Connections of each process, in total and from one address (half of the total by default; a proxy needs all).
    max_connections: Annotated[int, Field(ge=1)] = 2000
    max_connections_per_address: Annotated[int, Field(ge=1)] | None = None
    # Requests that are queued or in progress; further ones are refused and may be retried.
    queue: Annotated[int, Field(ge=1)] = 64
    max_body_mib: Annotated[float, Field(gt=0)] = 64.0
    max_files: Annotated[int, Field(ge=1)] = 128
    # Memory for all request bodies together.
    max_bodies_mib: Annotated[float, Field(gt=0)] = 512.0
    head_seconds: Annotated[float, Field(gt=0)] = 10.0
    body_seconds: Annotated[float, Field(gt=0)] = 30.0
    drain_seconds: Annotated[int, Field(ge=1)] = 30
    # How often to check for a new champion; by default every second, and every 5 in an object store.
    watch_seconds: Annotated[float, Field(gt=0)] | None = None
    log_requests: bool = True
    # An OpenTelemetry collector (OTLP over HTTP) that receives a span for each request: http://collector:4318.
    otlp: Annotated[str, Field(pattern="^https?://[^/]")] | None = None


class FeedbackSettings(Strict):
    """Where predictions, corrections and the journal are stored, and for how long their inputs are kept."""

    url: str = "sqlite:///feedback.db"
    inputs: str = "work/inputs"
    keep_inputs: bool = True
    keep_days: Annotated[int, Field(ge=1)] = 180
    journal: bool = True
    journal_key: SecretStr | None = None
    # Whether the disk is lost with the process; by default detected from the platform's variables.
    stateless: bool | None = None
    # A file on another disk, or an s3:// object, that receives a copy of the journal's head every second.
    head: str | None = None
    spool_mib: Annotated[float, Field(gt=0)] = 256.0


class ShadowSettings(Strict):
    """The resources that a challenger may use while it predicts, in the background, what the champion has predicted."""

    enabled: bool = True
    # The share of one core; small enough that the service is hardly affected even on a busy machine.
    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    # Whether it uses only idle time of the whole machine; otherwise it competes with the service.
    idle: bool = True
    # Memory in addition to that of the libraries.
    memory_mib: Annotated[float, Field(gt=0)] = 1024.0
    # Predictions that may wait for it; if there are more, all but the newest are skipped.
    most_behind: Annotated[int, Field(ge=1)] = 1000
    # CPU seconds for one case, and for loading, before it counts as hung.
    case_seconds: Annotated[float, Field(gt=0)] = 30.0


class SigningSettings(Strict):
    """PEM files: the private key that signs what is registered, and the public key that every served bundle needs."""

    key: str | None = None
    verify_key: str | None = None


class Settings(BaseSettings):
    """Everything that depends on where medloop runs and not on what is learned."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_ignore_empty=True,
        # A list reads `a.example, b.example`, and a secret may begin with a bracket.
        enable_decoding=False,
    )

    work: str = "work"
    # The model store: a folder of the project, or an s3:// address to follow a store on another machine.
    models: str = "models"
    # The s3:// address to which promoted versions are copied, for services on other machines.
    mirror: Annotated[str, Field(pattern="^s3://[^/]")] | None = None
    logs: str = "logs"
    # The size at which a command's log is rotated, and the number of old logs that are kept.
    log_mib: Annotated[float, Field(gt=0)] = 10.0
    log_files: Annotated[int, Field(ge=1, le=1000)] = 5
    user: str | None = None
    # Whether findings, predictions and pages show file names, which may identify patients, instead of case ids.
    show_names: bool = False
    patient_key: SecretStr | None = None
    storage: StorageSettings = StorageSettings()
    tracking: TrackingSettings = TrackingSettings()
    tune: TuneSettings = TuneSettings()
    serve: ServeSettings = ServeSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    shadow: ShadowSettings = ShadowSettings()
    signing: SigningSettings = SigningSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, highest precedence first; settings made without a `.env` path read nothing."""
        dotenv, environment = cast("DotEnvSettingsSource", dotenv_settings), cast("EnvSettingsSource", env_settings)
        if dotenv.env_file is None:
            return (init_settings,)
        folder = Path(str(dotenv.env_file)).parent
        return (
            init_settings,
            _Variables(settings_cls, environment.env_vars, where="the environment"),
            _Variables(settings_cls, dotenv.env_vars, where=".env"),
            *(InitSettingsSource(settings_cls, _read_file(folder / name)) for name in FILES),
        )


class _Variables(EnvSettingsSource):
    """Variables such as MEDLOOP_SERVE__PORT; unlike its base class it refuses names that belong to no setting."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None], *, where: str) -> None:
        super().__init__(settings_cls)
        self.env_vars = {name: value for name, value in variables.items() if name.startswith(PREFIX.lower())}
        self._where = where

    def __call__(self) -> dict[str, Any]:
        content = super().__call__()
        for variable in self.env_vars:
            self._check_used(variable, content)
        validated(Settings, content, where=self._where, quote=False)
        return content

    def _check_used(self, variable: str, content: dict[str, Any]) -> None:
        """Refuse a variable that the base class passed over."""
        first, *rest = variable.removeprefix(PREFIX.lower()).split(DELIMITER)
        if first not in Settings.model_fields:
            raise UnknownName("key", first, Settings.model_fields, where=self._where)
        value: Any = content.get(first)
        for name in rest:
            if not isinstance(value, dict) or name not in value:
                raise UserError(
                    f"{variable.upper()} in {self._where} names a field of a setting that has a single value.",
                    "Remove it, or the variable that sets the whole.",
                )
            value = value[name]


def _read_file(path: Path) -> dict[str, Any]:
    """Return the content of a settings file without the sections whose lines are all comments."""
    content = read_yaml(path, quote=False) if path.is_file() else {}
    validated(Settings, content, where=path.name, quote=False)
    return without_empty_sections(Settings, content)


def load_settings(folder: Path) -> Settings:
    """Return the settings of a project: environment over .env over secrets.yaml over config.yaml over defaults."""
    try:
        return Settings(_env_file=folder / ".env")  # type: ignore[call-arg] # an argument of BaseSettings
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None


def pass_on_foreign_variables(folder: Path) -> None:
    """Put the variables of other tools from `.env` into the environment, which takes precedence."""
    try:
        variables = dotenv_values(folder / ".env")
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None
    for name, value in variables.items():
        if name.startswith(FOREIGN) and value is not None:
            os.environ.setdefault(name, value)


def _not_utf8(error: UnicodeDecodeError) -> UserError:
    return UserError(f".env is not UTF-8 (byte {error.start}).", "Save it as UTF-8.")
