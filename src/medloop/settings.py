"""The settings (`config.yaml` and the environment): where things run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr

from medloop.errors import UserError
from medloop.recipe.strict import Strict, read_yaml, validated

PREFIX = "MEDLOOP_"
FILES = ("config.yaml", "secrets.yaml")
# Variables of other tools that a `.env` file may carry; they are handed on to those tools unread.
FOREIGN = ("MLFLOW_", "AWS_", "DAGSHUB_")


def _split(value: object) -> object:
    """A variable holds a list as `a.example, b.example`."""
    if not isinstance(value, str):
        return value
    return [name for part in value.strip("[]").split(",") if (name := part.strip(" '\""))]


Gibibytes = Annotated[float, Field(gt=0)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_split)]


class StorageSettings(Strict):
    """Which places may be read and how much may come from them."""

    allow_hosts: Hosts = ()
    max_gib: Gibibytes = 50.0
    max_entries: Annotated[int, Field(ge=1)] = 500_000
    max_ratio: Annotated[float, Field(ge=1)] = 200.0


class TrackingSettings(Strict):
    """The MLflow server; `MLFLOW_TRACKING_URI` goes before `uri`."""

    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = None


class TuneSettings(Strict):
    """Where the tuning study is kept: a file of the project, or a database that several machines share."""

    storage: str | None = None


class OidcSettings(Strict):
    """Who issues the bearer tokens that the service takes besides its own keys."""

    issuer: str
    audience: str
    # Where the issuer's public keys are; found from the issuer's own description when absent.
    jwks_url: str | None = None
    # The claim that names a role of medloop, as a word or a list of words.
    role_claim: str = "roles"


class ServeSettings(Strict):
    """Where the service listens, whom it lets in and how much it takes at once."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    # Threads that decode and infer in each process; as many as there are cores when absent.
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    auth: bool = True
    # Names by which the service is called, besides addresses and the one that it listens on.
    hosts: Hosts = ()
    # Other origins whose pages may call the service; none may by default.
    origins: Hosts = ()
    oidc: OidcSettings | None = None
    # Requests of one key a second.
    rate_limit: Annotated[float, Field(gt=0)] = 1000.0
    # Wrong keys that one address may try in a second; behind a proxy all callers share its address.
    wrong_key_limit: Annotated[float, Field(gt=0)] = 20.0
    # Connections of each process, in all and from one address (half of all when absent; a proxy needs all of them).
    max_connections: Annotated[int, Field(ge=1)] = 2000
    max_connections_per_address: Annotated[int, Field(ge=1)] | None = None
    # Requests that wait or are worked on; one more is told to come again.
    queue: Annotated[int, Field(ge=1)] = 64
    max_body_mib: Annotated[float, Field(gt=0)] = 64.0
    max_files: Annotated[int, Field(ge=1)] = 128
    # What all bodies together may take of the memory.
    max_bodies_mib: Annotated[float, Field(gt=0)] = 512.0
    head_seconds: Annotated[float, Field(gt=0)] = 10.0
    body_seconds: Annotated[float, Field(gt=0)] = 30.0
    drain_seconds: Annotated[int, Field(ge=1)] = 30
    # How often to look for another champion; when absent each second, and each 5 in an object store.
    watch_seconds: Annotated[float, Field(gt=0)] | None = None
    log_requests: bool = True
    # An OpenTelemetry collector that takes OTLP over HTTP, for a span of each request: http://collector:4318.
    otlp: Annotated[str, Field(pattern="^https?://[^/]")] | None = None


class FeedbackSettings(Strict):
    """Where predictions, corrections and the journal are kept, and for how long their inputs."""

    url: str = "sqlite:///feedback.db"
    inputs: str = "work/inputs"
    keep_inputs: bool = True
    keep_days: Annotated[int, Field(ge=1)] = 180
    journal: bool = True
    journal_key: SecretStr | None = None
    # Whether the disk goes with the process; when absent, as the platform's variables tell.
    stateless: bool | None = None
    # A file on another disk or an s3:// object that gets the journal's newest head each second, too.
    head: str | None = None
    spool_mib: Annotated[float, Field(gt=0)] = 256.0


class ShadowSettings(Strict):
    """What a challenger may take of the machine while it answers, unseen, what the champion has answered."""

    enabled: bool = True
    # How much of one core it may take; so little that the service hardly feels it even where nothing is idle.
    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    # Whether it takes only what the whole machine leaves idle; else its share goes off the service's, too.
    idle: bool = True
    # What it may take of the memory besides the libraries.
    memory_mib: Annotated[float, Field(gt=0)] = 1024.0
    # Answers that may wait for it; of more it leaves out all but the newest.
    most_behind: Annotated[int, Field(ge=1)] = 1000
    # Seconds of a processor that it may take for one case, and for being loaded, before it counts as hung.
    case_seconds: Annotated[float, Field(gt=0)] = 30.0


class SigningSettings(Strict):
    """PEM files: the private key that signs what is registered, and the public one under which alone bundles serve."""

    key: str | None = None
    verify_key: str | None = None


class Settings(Strict):
    """Everything that depends on the place and not on what is learned."""

    work: str = "work"
    # The model store: a folder where versions are made; where they only serve, perhaps an s3:// address.
    models: str = "models"
    # The s3:// address that what is promoted is copied to, for services on other machines to follow.
    mirror: Annotated[str, Field(pattern="^s3://[^/]")] | None = None
    logs: str = "logs"
    # The log of each command begins anew at this size; of the old ones so many are kept.
    log_mib: Annotated[float, Field(gt=0)] = 10.0
    log_files: Annotated[int, Field(ge=1, le=1000)] = 5
    user: str | None = None
    # Whether findings, answers and pages name files, whose names may be those of patients; else they give case ids.
    show_names: bool = False
    patient_key: SecretStr | None = None
    storage: StorageSettings = StorageSettings()
    tracking: TrackingSettings = TrackingSettings()
    tune: TuneSettings = TuneSettings()
    serve: ServeSettings = ServeSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    shadow: ShadowSettings = ShadowSettings()
    signing: SigningSettings = SigningSettings()


def load_settings(folder: Path, *, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a project: defaults < config.yaml < secrets.yaml < .env < environment."""
    given = os.environ if environ is None else environ
    content: dict[str, Any] = {}
    for name in FILES:
        path = folder / name
        if path.is_file():
            layer = read_yaml(path, quote=False)
            validated(Settings, layer, where=name, quote=False)
            _merge(content, layer)
    for where, variables in ((".env", read_dotenv(folder)), ("the environment", given)):
        layer = _from_variables(variables, where=where)
        validated(Settings, layer, where=where, quote=False)
        _merge(content, layer)
    return validated(Settings, content, where="the settings", quote=False)


def read_dotenv(folder: Path) -> dict[str, str]:
    """The variables of the folder's `.env`, if there is one."""
    from dotenv import dotenv_values

    path = folder / ".env"
    try:
        values = dotenv_values(path) if path.is_file() else {}
    except UnicodeDecodeError as error:
        raise UserError(
            ".env must be UTF-8", found=f"another encoding at byte {error.start}", hint="save it again"
        ) from None
    return {key: value for key, value in values.items() if value is not None}


def hand_on_foreign_variables(folder: Path) -> None:
    """Give other tools their variables from `.env`; the environment goes before it."""
    for key, value in read_dotenv(folder).items():
        if key.startswith(FOREIGN):
            os.environ.setdefault(key, value)


def _from_variables(variables: Mapping[str, str], *, where: str) -> dict[str, Any]:
    """`MEDLOOP_SERVE__PORT=8080` is `serve.port: 8080`; an empty variable is none."""
    content: dict[str, Any] = {}
    for key in sorted(key for key, value in variables.items() if key.startswith(PREFIX) and value):
        *parents, name = key.removeprefix(PREFIX).lower().split("__")
        section = content
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise UserError(
                    f"a variable in {where} must be a section or a value, not both",
                    found=f"{key} beside the variable of its section",
                    hint="remove one of the two",
                )
        section[name] = variables[key]
    return content


def _merge(base: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(base.get(key), dict):
            _merge(base[key], value or {})
        else:
            base[key] = value
