"""Every setting with its default, and how config.toml and the environment change them. No globals."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import psycopg
from msgspec import Meta, Struct, field
from psycopg.conninfo import conninfo_to_dict

from server.hooks import WebhookConfig, WebhookEvent, is_url, problem_of
from server.trust import CiRule, Oidc
from server.wrong_values import requirement

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]

# The names in the specification, "Server Configuration". The REPORTD_… variables take precedence over them.
SPEC_NAMES = {
    "ARTIFACT_STORAGE_PATH": ("artifacts", "storage_path"),
    "ARTIFACT_MAX_FILE_SIZE": ("artifacts", "max_file_size"),
    "ARTIFACT_ALLOWED_TYPES": ("artifacts", "allowed_types"),
    "ARTIFACT_BATCH_MAX_FILES": ("artifacts", "batch_max_files"),
}
# Variables of a client on the same machine. Without this list, the server would refuse them as unknown settings.
CLIENT_NAMES = {"REPORTD_CA_FILE", "REPORTD_RUN_KEY", "REPORTD_TOKEN_FILE"}
# Variables that Kubernetes sets in every container when a service is named reportd.
_KUBERNETES = re.compile(r"REPORTD_SERVICE_(HOST|PORT)(_\w+)?|REPORTD_PORT_\d+_(TCP|UDP)(_\w+)?")
# The types that uploads/content.py detects from a file's bytes.
KNOWN_TYPES = (
    "application/gzip",
    "application/json",
    "application/octet-stream",
    "application/pdf",
    "application/zip",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/html",
    "text/plain",
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
)
UNIX = "unix"  # in trusted_proxies: every proxy that connects through a unix socket
_SESSIONS_FOR_READS = ("any", "standby", "prefer-standby", "read-only")  # target_session_attrs
_ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?")  # RFC 6454, 6.2
_UNITS = {
    "": 1,
    "B": 1,
    "KB": 1 << 10,
    "KIB": 1 << 10,
    "MB": 1 << 20,
    "MIB": 1 << 20,
    "GB": 1 << 30,
    "GIB": 1 << 30,
}


class ConfigError(Exception):
    """The configuration is invalid. The text names the key and the allowed values."""


class Size(int):
    """A number of bytes. Written as an integer, or with a unit like `10MiB` (`10MB` means the same)."""


class ServerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    one_core_each: bool = True
    max_uploads: Positive = 256
    body_memory: Size = Size(128 << 20)
    reply_memory: Size = Size(128 << 20)
    max_connections: Annotated[int, Meta(ge=0)] = 0
    shutdown_timeout: Seconds = 60.0
    idle_timeout: Seconds = 75.0
    body_timeout: Seconds = 60.0
    min_body_rate: Size = Size(1 << 10)
    trusted_proxies: list[str] = field(default_factory=lambda: ["127.0.0.0/8", "::1/128", UNIX])
    allowed_hosts: list[str] = field(default_factory=list)
    allowed_origins: list[str] = field(default_factory=list)
    public_url: str = ""


class DatabaseConfig(Struct, frozen=True, forbid_unknown_fields=True):
    dsn: str = "postgresql://reportd@localhost/reportd"
    read_dsn: str = ""
    pool_size: Positive = 10
    prepared_statements: bool = True
    pool_timeout: Seconds = 10.0
    connect_timeout: Seconds = 10.0
    command_timeout: Seconds = 30.0
    programs: str = ""


class ArtifactsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    storage_path: str = "/var/data/test-artifacts"
    max_file_size: Size = Size(10 << 20)
    allowed_types: list[str] = field(
        default_factory=lambda: [
            "image/png",
            "image/jpeg",
            "image/gif",
            "application/json",
            "text/plain",
            "text/html",
            "application/pdf",
        ]
    )
    batch_max_files: Annotated[int, Meta(ge=1, le=1000)] = 50
    durability: Literal["full", "none"] = "full"
    hard_links: bool = True
    file_timeout: Seconds = 30.0
    min_free_bytes: Size = Size(256 << 20)
    cache_control: str = "public, max-age=31536000"
    accel_redirect: str = ""
    low_days: Annotated[float, Meta(ge=0)] = 14.0


class ViewerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    thumbs_max_bytes: Size = Size(2 << 30)


class ApiConfig(Struct, frozen=True, forbid_unknown_fields=True):
    collection_shape: Literal["object", "array"] = "object"
    max_json_size: Size = Size(16 << 20)
    idempotency_hours: Annotated[int, Meta(ge=48)] = 48
    mask_passwords: bool = True
    mask_patterns: list[str] = field(default_factory=list)


class AuthConfig(Struct, frozen=True, forbid_unknown_fields=True):
    required: bool = True
    metrics_public: bool = False
    session_hours: Positive = 12
    ci: list[CiRule] = field(default_factory=list)
    oidc: Oidc = field(default_factory=Oidc)


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    requests: bool = True


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings. `Config()` is a complete, valid configuration."""

    server: ServerConfig = field(default_factory=ServerConfig)
    database: DatabaseConfig = DatabaseConfig()
    artifacts: ArtifactsConfig = field(default_factory=ArtifactsConfig)
    viewer: ViewerConfig = ViewerConfig()
    api: ApiConfig = field(default_factory=ApiConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    log: LogConfig = LogConfig()
    webhooks: list[WebhookConfig] = field(default_factory=list)


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """The configuration from `defaults`, the file, the environment and `overrides`; the later one wins.

    All four map sections to keys. Raises ConfigError naming the key that is unknown or wrong.
    """
    merged: dict[str, Any] = {name: {} for name in Config.__struct_fields__ if name != "webhooks"}
    layers = [defaults or {}, _read(path), _from_environment(os.environ if environ is None else environ)]
    for layer in [*layers, overrides or {}]:
        for section, keys in layer.items():
            if section == "webhooks":
                merged[section] = _tables(keys)
                continue
            if section not in merged:
                raise ConfigError(f"[{section}] is unknown. Known sections: {_known(Config)}")
            if not isinstance(keys, Mapping):
                raise ConfigError(f"{section}: must be a section of keys, written as [{section}]")
            _merge(merged[section], keys)
    try:
        config = msgspec.convert(merged, Config, dec_hook=_convert_size)
    except msgspec.ValidationError as error:
        raise ConfigError(_sentence(str(error))) from None
    _check(config)
    return msgspec.structs.replace(config, webhooks=_checked(config.webhooks))


def masked(config: Config) -> dict[str, Any]:
    """The effective configuration as plain values, with secrets masked, for `reportd config`."""
    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=int)
    for key in ("dsn", "read_dsn"):
        plain["database"][key] = masked_dsn(plain["database"][key])
    if not config.webhooks:
        del plain["webhooks"]  # TOML has no empty list of sections
    for hook, shown in zip(config.webhooks, plain.get("webhooks", []), strict=True):
        shown |= {"url": f"{hook.target}/***", "secret": "***" if hook.secret else ""}
    plain["auth"]["oidc"]["client_secret"] = "***" if config.auth.oidc.client_secret else ""
    return plain


def masked_dsn(dsn: str) -> str:
    """The DSN with its passwords masked, so that it can be printed."""
    dsn = re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", dsn)
    return re.sub(r"(?i)\b(password|passfile|sslpassword)=[^&\s]*", r"\1=***", dsn)


def to_toml(plain: Mapping[str, Any]) -> str:
    """Sections of keys as TOML. The values may be strings, numbers, booleans, and lists and tables of values."""
    lines: list[str] = []
    for section, found in plain.items():
        head = f"[[{section}]]" if isinstance(found, list) else f"[{section}]"
        for keys in found if isinstance(found, list) else [found]:
            lines += [head, *(f"{key} = {_toml(value)}" for key, value in keys.items()), ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return msgspec.json.encode(value).decode()  # TOML writes these values as JSON does


def parse_size(value: object) -> Size:
    """Bytes from `10485760`, `"10485760"`, `"10MiB"` or `"10 MB"`. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        number, unit = value, ""
    else:
        match = re.fullmatch(r"\s*(\d{1,18})\s*([KMG]?I?B?)\s*", str(value).upper())
        if not match or match[2] not in _UNITS:
            raise ValueError("must be a size: a number of bytes, or a number with a unit like 512KiB, 10MiB, 2GiB")
        number, unit = int(match[1]), match[2]
    if not 1 <= number * _UNITS[unit] < 1 << 50:
        raise ValueError("must be a size from 1 byte to 1 PiB")
    return Size(number * _UNITS[unit])


def _convert_size(wanted: type, value: object) -> Size:
    """msgspec's dec_hook for Size, the only custom type here; msgspec refuses the result for any other type."""
    return parse_size(value)


def _read(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    keys = {"REPORTD_" + "_".join(path).upper(): (path, kind) for path, kind in _keys(Config)}
    for name, spec_path in SPEC_NAMES.items():
        if name in environ:
            _merge(found, _nested(spec_path, _parse(_type_at(".".join(spec_path)), environ[name], name)))
    for name, text in environ.items():
        section, _, key = name.removeprefix("REPORTD_").lower().partition("_")
        if not name.startswith("REPORTD_") or not key or name in CLIENT_NAMES or _KUBERNETES.fullmatch(name):
            continue
        if section not in _fields(Config):
            raise ConfigError(f"{name} is unknown: there is no section [{section}]. Known sections: {_known(Config)}")
        if name not in keys:
            if get_origin(_type_at(section)) is list:
                raise ConfigError(f"{name}: {section} can only be set in the configuration file, as [[{section}]]")
            raise ConfigError(f"{name} is unknown. Keys of [{section}]: {_known(_type_at(section))}")
        path, kind = keys[name]
        _merge(found, _nested(path, _parse(kind, text, name)))
    return found


def _keys(struct: type, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and type of every key, also of tables in sections."""
    for name, info in _fields(struct).items():
        if isinstance(info.type, type) and issubclass(info.type, Struct):
            yield from _keys(info.type, (*path, name))
        else:
            yield (*path, name), info.type


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {path[0]: _nested(path[1:], value) if path[1:] else value}


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Put the keys of `layer` over those of `into`. Of a table in a section, such as [auth.oidc], also key by key."""
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key] = dict(into[key])
            _merge(into[key], value)
        else:
            into[key] = value


def _parse(wanted: Any, text: str, name: str) -> Any:
    """The text of an environment variable as the type of its key: `8000` as a port, `true` as a boolean."""
    try:
        if wanted == list[str] and not text.lstrip().startswith("["):
            return [part.strip() for part in text.split(",") if part.strip()]
        if get_origin(wanted) in (list, dict):
            return msgspec.to_builtins(msgspec.json.decode(text, type=wanted))
        return msgspec.convert(text, wanted, strict=False, dec_hook=_convert_size)
    except msgspec.MsgspecError as error:
        message = str(error).partition(" - at")[0]
        raise ConfigError(f"{name}: {_must(message, wanted, text=True)}") from None


def _check(config: Config) -> None:
    unknown = [kind for kind in config.artifacts.allowed_types if kind not in KNOWN_TYPES]
    if unknown or not config.artifacts.allowed_types:
        problem = f"{', '.join(unknown)} cannot be detected from a file's content" if unknown else "must not be empty"
        raise ConfigError(f"artifacts.allowed_types: {problem}. Allowed: {', '.join(KNOWN_TYPES)}")
    if not config.artifacts.storage_path.strip() or "\0" in config.artifacts.storage_path:
        raise ConfigError("artifacts.storage_path: must be the path of a folder")
    if "\n" in config.artifacts.cache_control or "\r" in config.artifacts.cache_control:
        raise ConfigError("artifacts.cache_control: must be one line, without CR or LF")
    if not re.fullmatch(r"((/[\w~-][\w.~-]*)+/)?", config.artifacts.accel_redirect, re.ASCII):
        raise ConfigError(
            "artifacts.accel_redirect: must be empty, or a path like /_files/ that begins and ends with a slash. "
            "Allowed between slashes: letters, digits, _ - ~, and a dot that is not the first character"
        )
    if (url := config.server.public_url) and ("?" in url or not is_url(url, ("https", "http"))):
        raise ConfigError("server.public_url: must be like https://reports.example, without query and fragment")
    for proxy in config.server.trusted_proxies:
        try:
            proxy == UNIX or ip_network(proxy)
        except ValueError:
            raise ConfigError(
                f"server.trusted_proxies: {proxy!r} must be a network like 10.0.0.0/8, an address or {UNIX!r}"
            ) from None
    for host in config.server.allowed_hosts:
        if not re.fullmatch(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]", host, re.ASCII):
            raise ConfigError(
                f"server.allowed_hosts: {host!r} must be a host name or an IP address (IPv6 in brackets), "
                "without scheme and port"
            )
    for origin in config.server.allowed_origins:
        if not _ORIGIN.fullmatch(origin) or origin.endswith(":80" if origin.startswith("http:") else ":443"):
            raise ConfigError(
                f"server.allowed_origins: {origin!r} must be an origin as browsers send it, like "
                "https://front.example or http://localhost:5173: scheme, host name in lower case and a port that is "
                "not the default one, without a path; each origin is named, without *"
            )
    if not config.database.dsn.startswith(("postgresql://", "postgres://")):
        raise ConfigError("database.dsn: must start with postgresql:// or postgres://")
    if (given := _parameters(config.database.dsn)) is not None and not _ports_fit(given):
        raise ConfigError("database.dsn: must have one port for all of its hosts, or one for each, like a:5432,b:5432")
    if config.database.read_dsn:
        _check_read_dsn(config.database.read_dsn)


def _check_read_dsn(dsn: str) -> None:
    found = _parameters(dsn)
    if found is None or not dsn.startswith(("postgresql://", "postgres://")) or not _ports_fit(found):
        raise ConfigError(
            "database.read_dsn: must be empty, or like "
            "postgresql://reportd@alpha,beta/reportd?target_session_attrs=standby"
        )
    if (wanted := found.get("target_session_attrs", "any")) not in _SESSIONS_FOR_READS:
        raise ConfigError(
            f"database.read_dsn: target_session_attrs={wanted} is never a standby. Allowed: "
            f"{', '.join(_SESSIONS_FOR_READS)}"
        )


def _parameters(dsn: str) -> dict[str, Any] | None:
    """The parameters of a DSN; None when libpq cannot read it."""
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # whose text may have the password
        return None


def _ports_fit(given: Mapping[str, Any]) -> bool:
    hosts, ports = (str(given.get(key, "")).split(",") for key in ("host", "port"))
    return len(ports) in (1, len(hosts)) and all(re.fullmatch("[0-9]*", port) for port in ports)


def _checked(webhooks: Sequence[WebhookConfig]) -> list[WebhookConfig]:
    """The webhooks with their names and events. Raises ConfigError naming the wrong key."""
    found: dict[str, WebhookConfig] = {}
    for number, hook in enumerate(webhooks):
        if wrong := problem_of(hook):
            raise ConfigError(f"webhooks[{number}].{wrong}")
        events = hook.events or [event for event in get_args(WebhookEvent) if event != "disk.low" or not hook.project]
        name = hook.name or hook.host
        if name in found:
            raise ConfigError(f"webhooks[{number}].name: another webhook has the name {name!r}. Give each its own name")
        found[name] = msgspec.structs.replace(hook, name=name, events=events)
    return list(found.values())


def _tables(value: Any) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ConfigError("webhooks: must be a list of sections, each written as [[webhooks]]")
    return value


def _fields(struct: type) -> dict[str, Any]:
    return {info.name: info for info in msgspec.structs.fields(struct)}


def _type_at(path: str) -> Any:
    """The type of `auth`, `auth.oidc`, `auth.oidc.issuer`, or of an entry like `auth.ci[0]`; None for others."""
    found: Any = Config
    for part in path.split("."):
        name, _, index = part.partition("[")
        if not (isinstance(found, type) and issubclass(found, Struct)) or name not in _fields(found):
            return None
        found = _fields(found)[name].type
        found = get_args(found)[0] if index and get_origin(found) is list else found
    return found


def _known(struct: type) -> str:
    return ", ".join(_fields(struct))


def _sentence(message: str) -> str:
    """msgspec's message after the key, like `artifacts.durability: …`. For an unknown key it lists the known keys."""
    text, _, path = message.partition(" - at `$.")
    path = path.rstrip("`")
    wanted = _type_at(path)
    if unknown := re.search(r"unknown field `(.+)`", text):
        return f"{path}: there is no key `{unknown[1]}`. Known keys: {_known(wanted)}"
    if missing := re.search(r"missing required field `(.+)`", text):
        return f"{path}: the key `{missing[1]}` is missing. Keys: {_known(wanted)}"
    text = _must(text, wanted)
    return f"{path}: {text}" if path else text


def _must(message: str, wanted: Any, text: bool = False) -> str:
    """What the value must be. `text`: the value comes from the environment."""
    if "Invalid enum" in message:
        (wanted,) = get_args(wanted) if wanted == list[WebhookEvent] else (wanted,)
        return f"must be one of: {', '.join(wanted.__args__)}"
    return requirement(message, text)
