"""The configuration: its defaults, the file, the environment, and the errors for wrong values."""

import tomllib
from base64 import b64encode
from pathlib import Path

import pytest

from server import config
from server.commands import settings
from server.config import (
    CLIENT_NAMES,
    KNOWN_TYPES,
    Config,
    ConfigError,
    DatabaseConfig,
    load,
    masked,
    parse_size,
    to_toml,
)
from server.uploads import content

MIB = 1 << 20
SPECIFIED_TYPES = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "application/json",
    "text/plain",
    "text/html",
    "application/pdf",
]


CI = """
[[auth.ci]]
issuer = "https://ci.example"
audience = "reportd"
project = "web"
claims = {repository = "acme/shop"}
"""


OIDC = """
[auth.oidc]
issuer = "https://login.example"
client_id = "reportd"
[auth.oidc.role_map]
qa = ["web=viewer", "uploader"]
"""


@pytest.fixture
def from_toml(tmp_path):
    """from_toml(text, **environ): the configuration from a file with this text and these environment variables."""

    def loaded(text, **environ):
        path = tmp_path / "config.toml"
        path.write_text(text, "utf-8")
        return settings.load(path, environ=environ)

    return loaded


def refusal(work, *args, **kwargs):
    """The text of the ConfigError that the call raises."""
    with pytest.raises(ConfigError) as caught:
        work(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- defaults --------------------------------------------------------------------------------------------------


def test_the_artifact_defaults_are_those_of_the_specification():
    artifacts = load(environ={}).artifacts
    assert artifacts.storage_path == "/var/data/test-artifacts"
    assert artifacts.max_file_size == 10 * 1024 * 1024
    assert artifacts.allowed_types == SPECIFIED_TYPES
    assert artifacts.batch_max_files == 50
    assert artifacts.cache_control == "public, max-age=31536000"
    assert artifacts.durability == "full"


def test_without_a_file_every_key_has_its_default():
    assert load(environ={}) == Config()
    assert load(environ={"HOME": "/", "REPORTD": "x", "REPORTD_": "x", "PORT": "1", "SERVER_PORT": "1"}) == Config()
    plain = load(environ={})
    assert plain.auth.required and not plain.auth.metrics_public and plain.api.collection_shape == "object"
    assert (plain.server.host, plain.api.max_json_size, plain.api.idempotency_hours) == ("127.0.0.1", 16 * MIB, 48)


def test_the_configuration_is_immutable():
    with pytest.raises(AttributeError):
        Config().server.port = 1


# --- the file --------------------------------------------------------------------------------------------------


def test_a_file_changes_only_the_keys_that_it_contains(from_toml):
    got = from_toml(
        """
        [server]
        port = 9000
        shutdown_timeout = 5
        [artifacts]
        max_file_size = "2MiB"
        allowed_types = ["image/png", "video/mp4"]
        durability = "none"
        [auth]
        required = false
        """
    )
    assert (got.server.port, got.server.shutdown_timeout, got.server.host) == (9000, 5.0, "127.0.0.1")
    assert (got.artifacts.max_file_size, got.artifacts.durability) == (2 * MIB, "none")
    assert got.artifacts.allowed_types == ["image/png", "video/mp4"]
    assert got.auth.required is False
    assert got.database == Config().database
    assert from_toml("") == Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[servers]\nport = 1", ["servers", "server, database, artifacts, viewer, api, auth, log"]),
        ("port = 1", ["port", "server, database, artifacts, viewer, api, auth, log"]),
        ("[server]\nprot = 1", ["server", "prot", "host, port, workers, one_core_each, max_uploads"]),
        ('[server]\nport = "80"', ["server.port", "an integer"]),
        ("[server]\nport = 70000", ["server.port", "65535"]),
        ("[server]\nport = -1", ["server.port", "0"]),
        ("[server]\nport = true", ["server.port", "an integer"]),
        ('[server]\ntrusted_proxies = "127.0.0.1"', ["server.trusted_proxies", "an array"]),
        *(
            (f'[server]\ntrusted_proxies = ["{wrong}"]', ["server.trusted_proxies", wrong, "10.0.0.0/8", "unix"])
            for wrong in ("", "*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1:80", "::1/129", "UNIX")
        ),
        *(
            (f'[server]\nallowed_hosts = ["{wrong}"]', ["server.allowed_hosts", wrong, "port"])
            for wrong in ("", "*", "https://a", "a:80", "a b", "ä", "::1", "[::1]:80")
        ),
        *(
            (f'[server]\nallowed_origins = ["{wrong}"]', ["server.allowed_origins", wrong, "https://front.example"])
            for wrong in (
                "",
                "*",
                "null",
                "front.example",
                "https://",
                "https://*.example",
                "https://Front.example",
                "https://front.example/",
                "https://front.example:443",
                "http://front.example:80",
                "https://front.example:0",
                "ftp://front.example",
                "https://a b",
                "https://ä",
                "https://u@h",
                "https://front.example?x",
                "https://a\\nb",
                "http://::1",
            )
        ),
        ("[server]\nworkers = 0", ["server.workers", "1"]),
        ("[server]\nworkers = 257", ["server.workers", "256"]),
        ('[server]\nworkers = "2"', ["server.workers", "an integer"]),
        ("[server]\nshutdown_timeout = 0", ["server.shutdown_timeout", "0"]),
        ("[database]\npool_size = 0", ["database.pool_size", "1"]),
        ("[database]\nprepared_statements = 0", ["database.prepared_statements", "true or false"]),
        ('[database]\ndsn = "mysql://x"', ["database.dsn", "postgresql://"]),
        ("[database]\ndsn = 5", ["database.dsn", "a string"]),
        *(
            (f'[database]\ndsn = "postgresql://{wrong}"', ["database.dsn", "one port for all of its hosts"])
            for wrong in ("u@a:port/x", "u@a,b/x?port=1,2,3", "u@a,b,c/x?port=1,2", "a,b/x?port=5432,²", "a/x?port=-1")
        ),
        *(
            (f'[database]\nread_dsn = "{wrong}"', ["database.read_dsn", "like postgresql://reportd@alpha,beta/reportd"])
            for wrong in (
                "mysql://x",
                "host=alpha",
                " ",
                "postgresql://u:hunter2@[::1/x",
                "postgresql://u@h:port/x",
                "postgresql://u@h:1:2/x",
                "postgresql://u@h/x?target=standby",
                "postgresql://a,b,c/x?port=1,2",
            )
        ),
        *(
            (f'[database]\nread_dsn = "postgresql://h/x?target_session_attrs={wrong}"', [wrong, "prefer-standby"])
            for wrong in ("primary", "read-write", "replica")
        ),
        ('[artifacts]\nmax_file_size = "10 apples"', ["artifacts.max_file_size", "10MiB"]),
        ("[artifacts]\nmax_file_size = 0", ["artifacts.max_file_size", "1 byte to 1 PiB"]),
        ("[artifacts]\nmax_file_size = 1.5", ["artifacts.max_file_size", "10MiB"]),
        *(
            (f'[artifacts]\nstorage_path = "{wrong}"', ["artifacts.storage_path", "path of a folder"])
            for wrong in ("", " ", "/a\\u0000b")
        ),
        ("[artifacts]\nmax_file_size = true", ["artifacts.max_file_size", "10MiB"]),
        ('[artifacts]\nallowed_types = "image/png"', ["artifacts.allowed_types", "an array"]),
        ("[artifacts]\nallowed_types = [1]", ["artifacts.allowed_types[0]", "a string"]),
        ("[artifacts]\nallowed_types = []", ["artifacts.allowed_types", "image/png"]),
        (
            '[artifacts]\nallowed_types = ["image/png", "image/tiff"]',
            ["artifacts.allowed_types", "image/tiff", "image/webp"],
        ),
        ("[artifacts]\nbatch_max_files = 0", ["artifacts.batch_max_files", "1"]),
        ("[artifacts]\nbatch_max_files = 1001", ["artifacts.batch_max_files", "1000"]),
        ('[artifacts]\ndurability = "half"', ["artifacts.durability", "full, none"]),
        ('[artifacts]\ncache_control = "a\\nb"', ["artifacts.cache_control", "one line"]),
        *(
            (f'[artifacts]\naccel_redirect = "{wrong}"', ["artifacts.accel_redirect", "/_files/"])
            for wrong in ("_f", "/_f", "_f/", "/", "//", "/a//b/", "/a b/", "/a/\\n", "/\\n/", "/../", "/ä/", "/a?/")
        ),
        ("[artifacts]\naccel_redirect = true", ["artifacts.accel_redirect", "a string"]),
        ('[api]\ncollection_shape = "list"', ["api.collection_shape", "object, array"]),
        ("[api]\nmask_passwords = 1", ["api.mask_passwords", "true or false"]),
        *(
            (f"[api]\nmask_patterns = ['{wrong}']", ["api.mask_patterns", repr(wrong), why])
            for wrong, why in [
                ("(", "missing"),
                ("a**", "bad repetition"),
                (r"(a)\1", "RE2"),
                ("(?=a)", "RE2"),
                ("a{1001}", "RE2"),
                ("(?:a{100}){20}", "RE2"),
                (".{1,500}", "shorter"),
                ("a*", "empty"),
                ("", "empty"),
            ]
        ),
        ("[api]\nidempotency_hours = 47", ["api.idempotency_hours", "48"]),
        ('[auth]\nrequired = "yes"', ["auth.required", "true or false"]),
        ("[auth]\nrequired = 1", ["auth.required", "true or false"]),
        ('[log]\nlevel = "loud"', ["log.level", "debug, info, warning, error"]),
        ("[log]\nrequests = 1", ["log.requests", "true or false"]),
        *(
            (f'[server]\npublic_url = "{wrong}"', ["server.public_url", "https://reports.example"])
            for wrong in (
                "reports.example",
                "ftp://a",
                "https://",
                "https://a?b",
                "https://a#b",
                "https://a b",
                "https://u@a",
            )
        ),
        ("[artifacts]\nlow_days = -1", ["artifacts.low_days", "0"]),
        *(
            (CI.replace(right, wrong), words)
            for right, wrong, words in [
                ('issuer = "https://ci.example"', "", ["auth.ci[0]", "issuer", "missing", "audience, project, claims"]),
                ("https://ci", "http://ci", ["auth.ci[0]", "issuer", "https"]),
                ("https://ci.example", "ci.example", ["auth.ci[0]", "issuer", "https"]),
                ("https://ci.example", "https://u:p@ci.example", ["auth.ci[0]", "issuer", "without user"]),
                ("https://ci.example", "https://ci.example?x", ["auth.ci[0]", "issuer", "query"]),
                ("https://ci.example", "https://[::1", ["auth.ci[0]", "issuer"]),
                ("https://ci.example", "https://ci.example:0x", ["auth.ci[0]", "issuer"]),
                ('"reportd"', '""', ["auth.ci[0].audience", "must not be empty"]),
                ('"reportd"', "7", ["auth.ci[0].audience", "a string"]),
                ('"web"', '"a\\nb"', ["auth.ci[0]", "project", "printable"]),
                ('"web"', f'"{"x" * 101}"', ["auth.ci[0]", "project", "100"]),
                ('{repository = "acme/shop"}', "{}", ["auth.ci[0].claims", "must not be empty"]),
                ('claims = {repository = "acme/shop"}', "", ["auth.ci[0]", "`claims` is missing"]),
                ('"acme/shop"', "true", ["auth.ci[0].claims", "a string or an array"]),
                ('"acme/shop"', "[]", ["auth.ci[0]", "claims", "must not be empty"]),
                ("audience", "audiense", ["auth.ci[0]", "audiense", "issuer, audience, project, claims"]),
                ("[[auth.ci]]", "[auth.ci]", ["auth.ci", "an array"]),
            ]
        ),
        *(
            (OIDC.replace(right, wrong), words)
            for right, wrong, words in [
                ('issuer = "https://login.example"', "", ["auth.oidc", "issuer is missing"]),
                ("https://login", "http://login", ["auth.oidc", "issuer", "https"]),
                ('client_id = "reportd"', "", ["auth.oidc", "client_id is missing"]),
                ('qa = ["web=viewer", "uploader"]', "", ["auth.oidc", "role_map"]),
                ("[auth.oidc.role_map]", 'roles_claim = ""\n[auth.oidc.role_map]', ["auth.oidc", "roles_claim"]),
                ("[auth.oidc.role_map]", 'scopes = ["profile"]\n[auth.oidc.role_map]', ["auth.oidc", "openid"]),
                ("[auth.oidc.role_map]", 'scopes = ["openid", "a b"]\n[auth.oidc.role_map]', ["auth.oidc", "scopes"]),
                ('"uploader"', '"owner"', ["role_map", "'owner'", "viewer, uploader, admin"]),
                ('"uploader"', '"=viewer"', ["role_map", "'=viewer'", "PROJECT=ROLE"]),
                ('"uploader"', '"web=Viewer"', ["role_map", "'web=Viewer'", "PROJECT=ROLE"]),
                ('"uploader"', f'"{"x" * 101}=viewer"', ["auth.oidc", "project", "100"]),
                ('"web=viewer", "uploader"', "5", ["auth.oidc.role_map", "a string"]),
                ("client_id", "client", ["auth.oidc", "client", "issuer, client_id, client_secret, scopes"]),
            ]
        ),
        ("[log\n", ["config.toml", "TOML"]),
        ("[server]\nport = 1\nport = 2", ["config.toml", "TOML"]),
    ],
)
def test_an_error_in_the_file_names_the_key_and_the_allowed_values(from_toml, text, words):
    sentence = refusal(from_toml, text)
    assert [word for word in words if word not in sentence] == [] and "hunter2" not in sentence, sentence


def test_the_environment_overrides_single_keys_of_a_table_in_a_section(from_toml):
    got = from_toml(OIDC, REPORTD_AUTH_OIDC_CLIENT_SECRET="hunter2", REPORTD_AUTH_SESSION_HOURS="2")
    assert (got.auth.oidc.client_id, got.auth.oidc.client_secret, got.auth.session_hours) == ("reportd", "hunter2", 2)
    assert got.auth.oidc.role_map == {"qa": ["web=viewer", "uploader"]}
    assert "hunter2" not in to_toml(masked(got))


def test_rules_of_ci_are_read_in_their_order_and_printed_again(from_toml, tmp_path):
    got = from_toml(
        CI + CI.replace('"acme/shop"', '["a*", "ä\\"b"]').replace("https://ci.example", "http://[::1]:8080")
    )
    first, second = got.auth.ci
    assert (first.issuer, first.project, first.claims) == ("https://ci.example", "web", {"repository": "acme/shop"})
    assert (second.issuer, second.claims) == ("http://[::1]:8080", {"repository": ["a*", 'ä"b']})
    (tmp_path / "shown.toml").write_text(to_toml(masked(got)), "utf-8")
    assert load(tmp_path / "shown.toml", {}) == got


def test_a_section_that_is_not_a_table_is_not_called_unknown(from_toml):
    assert "unknown" not in refusal(from_toml, "server = 5")


def test_the_error_for_an_unreadable_file_names_the_file(tmp_path):
    assert "nothing.toml" in refusal(load, tmp_path / "nothing.toml", {})
    assert str(tmp_path) in refusal(load, tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b'[server]\nhost = "\xe4"')
    assert "latin.toml" in refusal(load, tmp_path / "latin.toml", {})


# --- the environment -------------------------------------------------------------------------------------------


def test_the_environment_overrides_the_file(from_toml):
    text = '[server]\nport = 9000\nhost = "::"'
    got = from_toml(text, REPORTD_SERVER_PORT="9001", REPORTD_AUTH_METRICS_PUBLIC="true")
    assert (got.server.port, got.server.host, got.auth.metrics_public) == (9001, "::", True)


def test_every_key_can_be_set_by_the_environment():
    values = {
        "REPORTD_SERVER_HOST": "0.0.0.0",
        "REPORTD_SERVER_PORT": "0",
        "REPORTD_SERVER_WORKERS": "4",
        "REPORTD_SERVER_ONE_CORE_EACH": "false",
        "REPORTD_SERVER_SHUTDOWN_TIMEOUT": "1.5",
        "REPORTD_SERVER_MAX_UPLOADS": "7",
        "REPORTD_SERVER_BODY_MEMORY": "64 MiB",
        "REPORTD_SERVER_REPLY_MEMORY": "32MiB",
        "REPORTD_SERVER_MAX_CONNECTIONS": "500",
        "REPORTD_SERVER_IDLE_TIMEOUT": "3.5",
        "REPORTD_SERVER_BODY_TIMEOUT": "2.5",
        "REPORTD_SERVER_MIN_BODY_RATE": "10KB",
        "REPORTD_SERVER_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
        "REPORTD_SERVER_ALLOWED_HOSTS": "reports.example, [::1]",
        "REPORTD_SERVER_ALLOWED_ORIGINS": "https://front.example, http://[::1]:5173",
        "REPORTD_SERVER_PUBLIC_URL": "https://reports.example/all",
        "REPORTD_DATABASE_DSN": "postgres://u:p@h/d",
        "REPORTD_DATABASE_READ_DSN": "postgres://u:p@h,i/d",
        "REPORTD_DATABASE_POOL_SIZE": "3",
        "REPORTD_DATABASE_PREPARED_STATEMENTS": "false",
        "REPORTD_DATABASE_POOL_TIMEOUT": "2",
        "REPORTD_DATABASE_CONNECT_TIMEOUT": "3",
        "REPORTD_DATABASE_COMMAND_TIMEOUT": "4.5",
        "REPORTD_DATABASE_PROGRAMS": "/usr/lib/postgresql/17/bin",
        "REPORTD_ARTIFACTS_STORAGE_PATH": "/srv/files",
        "REPORTD_ARTIFACTS_MAX_FILE_SIZE": "1 MB",
        "REPORTD_ARTIFACTS_ALLOWED_TYPES": "image/png, image/gif,",
        "REPORTD_ARTIFACTS_BATCH_MAX_FILES": "7",
        "REPORTD_ARTIFACTS_DURABILITY": "none",
        "REPORTD_ARTIFACTS_HARD_LINKS": "false",
        "REPORTD_ARTIFACTS_FILE_TIMEOUT": "5",
        "REPORTD_ARTIFACTS_MIN_FREE_BYTES": "1GB",
        "REPORTD_ARTIFACTS_CACHE_CONTROL": "private, no-cache",
        "REPORTD_ARTIFACTS_ACCEL_REDIRECT": "/_files/",
        "REPORTD_ARTIFACTS_LOW_DAYS": "7",
        "REPORTD_VIEWER_THUMBS_MAX_BYTES": "5GiB",
        "REPORTD_API_COLLECTION_SHAPE": "array",
        "REPORTD_API_MAX_JSON_SIZE": "1048576",
        "REPORTD_API_IDEMPOTENCY_HOURS": "72",
        "REPORTD_API_MASK_PASSWORDS": "false",
        "REPORTD_API_MASK_PATTERNS": r'["AKIA[0-9A-Z]{16}", "x{2,3}"]',
        "REPORTD_AUTH_REQUIRED": "False",
        "REPORTD_AUTH_METRICS_PUBLIC": "1",
        "REPORTD_AUTH_SESSION_HOURS": "8",
        "REPORTD_AUTH_CI": '[{"issuer": "https://a", "audience": "b", "project": "c", "claims": {"d": ["e", "f*"]}}]',
        "REPORTD_AUTH_OIDC_ISSUER": "https://login.example/x",
        "REPORTD_AUTH_OIDC_CLIENT_ID": "reportd",
        "REPORTD_AUTH_OIDC_CLIENT_SECRET": "hunter2",
        "REPORTD_AUTH_OIDC_SCOPES": "openid, groups",
        "REPORTD_AUTH_OIDC_ROLES_CLAIM": "roles",
        "REPORTD_AUTH_OIDC_ROLE_MAP": '{"qa": ["web=viewer"]}',
        "REPORTD_LOG_LEVEL": "debug",
        "REPORTD_LOG_FORMAT": "json",
        "REPORTD_LOG_REQUESTS": "false",
    }
    got = masked(load(environ=values))
    oidc = {f"oidc_{key}": value for key, value in got["auth"].pop("oidc").items()}
    got["auth"] |= oidc
    flat = {f"REPORTD_{section}_{key}".upper(): value for section, keys in got.items() for key, value in keys.items()}
    assert flat == {
        **values,
        "REPORTD_SERVER_PORT": 0,
        "REPORTD_ARTIFACTS_HARD_LINKS": False,
        "REPORTD_SERVER_WORKERS": 4,
        "REPORTD_SERVER_ONE_CORE_EACH": False,
        "REPORTD_SERVER_SHUTDOWN_TIMEOUT": 1.5,
        "REPORTD_SERVER_MAX_UPLOADS": 7,
        "REPORTD_SERVER_BODY_MEMORY": 64 * MIB,
        "REPORTD_SERVER_REPLY_MEMORY": 32 * MIB,
        "REPORTD_SERVER_MAX_CONNECTIONS": 500,
        "REPORTD_SERVER_IDLE_TIMEOUT": 3.5,
        "REPORTD_SERVER_BODY_TIMEOUT": 2.5,
        "REPORTD_SERVER_MIN_BODY_RATE": 10 << 10,
        "REPORTD_SERVER_TRUSTED_PROXIES": ["10.0.0.0/8", "fd00::/8"],
        "REPORTD_SERVER_ALLOWED_HOSTS": ["reports.example", "[::1]"],
        "REPORTD_SERVER_ALLOWED_ORIGINS": ["https://front.example", "http://[::1]:5173"],
        "REPORTD_DATABASE_DSN": "postgres://u:***@h/d",
        "REPORTD_DATABASE_READ_DSN": "postgres://u:***@h,i/d",
        "REPORTD_DATABASE_POOL_SIZE": 3,
        "REPORTD_DATABASE_PREPARED_STATEMENTS": False,
        "REPORTD_DATABASE_POOL_TIMEOUT": 2.0,
        "REPORTD_DATABASE_CONNECT_TIMEOUT": 3.0,
        "REPORTD_DATABASE_COMMAND_TIMEOUT": 4.5,
        "REPORTD_ARTIFACTS_MAX_FILE_SIZE": MIB,
        "REPORTD_ARTIFACTS_ALLOWED_TYPES": ["image/png", "image/gif"],
        "REPORTD_ARTIFACTS_BATCH_MAX_FILES": 7,
        "REPORTD_ARTIFACTS_FILE_TIMEOUT": 5.0,
        "REPORTD_ARTIFACTS_MIN_FREE_BYTES": 1 << 30,
        "REPORTD_ARTIFACTS_LOW_DAYS": 7.0,
        "REPORTD_VIEWER_THUMBS_MAX_BYTES": 5 << 30,
        "REPORTD_API_MAX_JSON_SIZE": MIB,
        "REPORTD_API_IDEMPOTENCY_HOURS": 72,
        "REPORTD_API_MASK_PASSWORDS": False,
        "REPORTD_API_MASK_PATTERNS": ["AKIA[0-9A-Z]{16}", "x{2,3}"],
        "REPORTD_AUTH_REQUIRED": False,
        "REPORTD_AUTH_METRICS_PUBLIC": True,
        "REPORTD_AUTH_SESSION_HOURS": 8,
        "REPORTD_AUTH_CI": [{"issuer": "https://a", "audience": "b", "project": "c", "claims": {"d": ["e", "f*"]}}],
        "REPORTD_AUTH_OIDC_CLIENT_SECRET": "***",
        "REPORTD_AUTH_OIDC_SCOPES": ["openid", "groups"],
        "REPORTD_AUTH_OIDC_ROLE_MAP": {"qa": ["web=viewer"]},
        "REPORTD_LOG_REQUESTS": False,
    }


def test_the_variable_names_of_the_specification_work_and_our_own_override_them():
    specified = {
        "ARTIFACT_STORAGE_PATH": "/srv/a",
        "ARTIFACT_MAX_FILE_SIZE": "20971520",
        "ARTIFACT_ALLOWED_TYPES": '["image/png", "text/plain"]',
        "ARTIFACT_BATCH_MAX_FILES": "5",
    }
    got = load(environ=specified).artifacts
    assert (got.storage_path, got.max_file_size, got.batch_max_files) == ("/srv/a", 20 * MIB, 5)
    assert got.allowed_types == ["image/png", "text/plain"]
    own = {"REPORTD_ARTIFACTS_MAX_FILE_SIZE": "1MiB", "REPORTD_ARTIFACTS_ALLOWED_TYPES": "text/html"}
    for environ in ({**specified, **own}, {**own, **specified}):  # in either order
        got = load(environ=environ).artifacts
        assert (got.storage_path, got.max_file_size, got.allowed_types) == ("/srv/a", MIB, ["text/html"])


def test_the_variable_names_of_the_specification_override_the_file(from_toml):
    assert from_toml("[artifacts]\nbatch_max_files = 3", ARTIFACT_BATCH_MAX_FILES="4").artifacts.batch_max_files == 4


def test_overrides_come_before_the_environment_the_file_and_the_defaults(from_toml, tmp_path):
    (tmp_path / "config.toml").write_text("[server]\nport = 2", "utf-8")
    layers = {"defaults": {"server": {"port": 1, "host": "a"}}, "overrides": {"server": {"port": 4}}}
    environ = {"REPORTD_SERVER_PORT": "3"}
    path = tmp_path / "config.toml"
    assert load(path, environ, **layers).server.port == 4
    assert load(path, environ, defaults=layers["defaults"]).server.port == 3
    assert load(path, {}, defaults=layers["defaults"]).server.port == 2
    assert load(None, {}, defaults=layers["defaults"]).server.port == 1
    assert load(path, environ, **layers).server.host == "a"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("REPORTD_SERVER_PROT", "1", ["host, port, workers, one_core_each, max_uploads"]),
        ("REPORTD_SERVER_PORT", "eighty", ["an integer"]),
        ("REPORTD_SERVER_PORT", "65536", ["65535"]),
        ("REPORTD_SERVER_PORT", "", ["an integer"]),
        ("REPORTD_SERVER_WORKERS", "two", ["an integer"]),
        ("REPORTD_AUTH_REQUIRED", "maybe", ["true or false"]),
        ("REPORTD_ARTIFACTS_MAX_FILE_SIZE", "big", ["10MiB"]),
        ("ARTIFACT_MAX_FILE_SIZE", "10 * 1024 * 1024", ["10MiB"]),
        ("ARTIFACT_ALLOWED_TYPES", '["image/png"', ["truncated"]),
        ("ARTIFACT_ALLOWED_TYPES", '["image/png", 5]', ["a string"]),
        ("ARTIFACT_BATCH_MAX_FILES", "0", ["1"]),
        ("REPORTD_AUTH_CI", "https://ci.example", ["JSON"]),
        ("REPORTD_AUTH_CI", "{}", ["an array"]),
        ("REPORTD_AUTH_CI", '[{"issuer": "x", "audience": "a", "project": "p", "claims": {"a": "b"}}]', ["issuer"]),
        ("REPORTD_DATABASE_POOL_SIZE", "2.5", ["an integer"]),
        ("REPORTD_DATABASE_PREPARED_STATEMENTS", "maybe", ["true or false"]),
    ],
)
def test_an_error_in_a_variable_names_it_and_the_allowed_values(name, value, words):
    sentence = refusal(load, environ={name: value})
    assert sentence.startswith(name)
    assert [word for word in words if word not in sentence] == [], sentence


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("REPORTD_LOG_LEVEL", "debug, info, warning, error"),
        ("REPORTD_API_COLLECTION_SHAPE", "object, array"),
        ("REPORTD_ARTIFACTS_DURABILITY", "full, none"),
    ],
)
def test_an_error_in_a_variable_with_fixed_choices_lists_them(name, allowed):
    sentence = refusal(load, environ={name: "x"})
    assert sentence.startswith(name) and allowed in sentence


def test_an_unknown_type_from_the_environment_stops_the_start():
    sentence = refusal(load, environ={"ARTIFACT_ALLOWED_TYPES": "image/png,application/x-evil"})
    assert "application/x-evil" in sentence and "image/jpeg" in sentence
    assert "allowed_types" in refusal(load, environ={"ARTIFACT_ALLOWED_TYPES": " "})


# --- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        (10485760, 10 * MIB),
        ("10485760", 10 * MIB),
        ("10MiB", 10 * MIB),
        ("10MB", 10 * MIB),
        ("10 mb", 10 * MIB),
        (" 512kib ", 512 << 10),
        ("1B", 1),
        ("2GiB", 2 << 30),
        ((1 << 50) - 1, (1 << 50) - 1),
    ],
)
def test_sizes_are_parsed(written, size):
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written", [0, -1, 1 << 50, "0", "-1", "1.5MiB", "MiB", "", "10M", "10K", "10 TiB", "1e6", None, True, [], "9" * 19]
)
def test_wrong_sizes_are_refused(written):
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(written)


# --- printing the configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:hunter2@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:hunter2@h1:1,h2:2/d?sslmode=require", "postgresql://u:***@h1:1,h2:2/d?sslmode=require"),
        ("postgres://u:hun@ter2@h/d", "postgres://u:***@h/d"),
        ("postgresql://u:hun%2Fter2%40@h", "postgresql://u:***@h"),
        ("postgresql:///d?user=u&password=hunter2&host=h", "postgresql:///d?user=u&password=***&host=h"),
        ("postgresql://h/d?PASSWORD=hunter2", "postgresql://h/d?PASSWORD=***"),
        ("postgresql://h/d?sslpassword=hunter2", "postgresql://h/d?sslpassword=***"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h:5432/d?host=/var/run@x", "postgresql://h:5432/d?host=/var/run@x"),
    ],
)
def test_secrets_are_masked_and_the_rest_is_shown(dsn, shown):
    found = masked(Config(database=DatabaseConfig(dsn=dsn, read_dsn=dsn)))["database"]
    assert (found["dsn"], found["read_dsn"]) == (shown, shown)


def test_a_printed_configuration_can_be_loaded_again(tmp_path):
    environ = {"REPORTD_DATABASE_DSN": "postgresql://u@h/d", "REPORTD_ARTIFACTS_STORAGE_PATH": 'C:\\"ä"\t\n'}
    first = load(environ=environ)
    path: Path = tmp_path / "shown.toml"
    path.write_text(to_toml(masked(first)), "utf-8")
    assert load(path, {}) == first
    shown = tomllib.loads(path.read_text("utf-8"))
    assert {section: list(keys) for section, keys in shown.items()} == {
        name: list(getattr(Config(), name).__struct_fields__)
        for name in Config.__struct_fields__
        if name != "webhooks"  # there are none
    }


# --- webhooks --------------------------------------------------------------------------------------------------

SECRET = "whsec_" + b64encode(bytes(range(24))).decode()
HOOK = f'[[webhooks]]\nurl = "https://chat.example/x/secret"\nsecret = "{SECRET}"\n'


def test_webhooks_get_the_name_of_their_host_and_all_events(from_toml):
    text = f'{HOOK}project = "shop"\n{HOOK}name = "all"\nallow = ["10.0.0.0/8", "fd00::1", "ci"]\n'
    of_shop, other = from_toml(text).webhooks
    assert (of_shop.name, of_shop.project, of_shop.format) == ("chat.example", "shop", "standard")
    assert of_shop.events == ["run.finished", "tests.newly_failing"]
    assert other.events == [*of_shop.events, "disk.low"]
    assert of_shop.keys() == [bytes(range(24))]
    assert from_toml("").webhooks == []


def test_secrets_of_webhooks_are_not_printed(from_toml):
    got = from_toml(HOOK.replace(SECRET, f"{SECRET} {SECRET}"))
    assert len(got.webhooks[0].keys()) == 2  # while the secret is being replaced
    (shown,) = tomllib.loads(to_toml(masked(got)))["webhooks"]
    assert (shown["url"], shown["secret"], shown["name"]) == ("https://chat.example/***", "***", "chat.example")
    assert "chat.example/x" not in repr(masked(got)) and SECRET not in repr(masked(got))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(
            (f'[[webhooks]]\nurl = "{url}"', ["webhooks[0].url", "https://", "allow"])
            for url in (
                *("", "chat.example", "http://chat.example/", "ftp://chat.example/", "https://", "https://:443/"),
                *("https://u:p@chat.example/", "https://chat.example/#x", "https://chat.example:x/", "https://a b/"),
                *("https://[::1/", "https://ä.example/", "https://chat.example:0/", "file:///etc/passwd"),
            )
        ),
        ('[[webhooks]]\nurl = "https://a/"', ["webhooks[0].secret", "whsec_"]),
        *(
            (HOOK.replace(SECRET, wrong), ["webhooks[0].secret", "24 to 64 bytes"])
            for wrong in ("x", "whsec_", "whsec_!", SECRET[:-4], SECRET[6:], SECRET + "A", "whsec_" + 88 * "A", "a b")
        ),
        (f'{HOOK}events = ["run.started"]', ["webhooks[0].events[0]", "run.finished, tests.newly_failing, disk.low"]),
        (f'{HOOK}events = "run.finished"', ["webhooks[0].events", "an array"]),
        (f'{HOOK}project = "shop"\nevents = ["disk.low"]', ["webhooks[0].events", "whole server"]),
        (f'{HOOK}project = "{101 * "x"}"', ["webhooks[0].project", "100"]),
        (f'{HOOK}project = "a\\u0007"', ["webhooks[0].project", "printable"]),
        (f"{HOOK}project = 5", ["webhooks[0].project", "a string"]),
        (f'{HOOK}name = "a\\nb"', ["webhooks[0].name", "printable"]),
        (f"{HOOK}{HOOK}", ["webhooks[1].name", "chat.example"]),
        (f'{HOOK}format = "xml"', ["webhooks[0].format", "standard, chat"]),
        (f'{HOOK}allow = ["*"]', ["webhooks[0].allow", "'*'"]),
        (f'{HOOK}allow = ["10.0.0.1/8"]', ["webhooks[0].allow", "network"]),
        (f'{HOOK}allow = ["https://a"]', ["webhooks[0].allow", "host name"]),
        (f"{HOOK}retries = 3", ["webhooks[0]", "retries", "url, secret, name, project"]),
        ('[webhooks]\nurl = "https://a/"', ["webhooks", "[[webhooks]]"]),
        ("webhooks = 5", ["webhooks", "[[webhooks]]"]),
        ("webhooks = [5]", ["webhooks", "[[webhooks]]"]),
    ],
)
def test_an_error_in_a_webhook_names_its_key_and_no_secret(from_toml, text, words):
    sentence = refusal(from_toml, text)
    assert [word for word in words if word not in sentence] == [], sentence
    assert "x/secret" not in sentence and SECRET not in sentence


def test_an_http_url_and_a_chat_without_secret_are_taken_where_that_is_meant(from_toml):
    (hook,) = from_toml(
        '[[webhooks]]\nurl = "http://CI.internal:8065/h"\nallow = ["ci.internal"]\nformat = "chat"'
    ).webhooks
    assert (hook.host, hook.target, hook.keys()) == ("ci.internal", "http://CI.internal:8065", [])


def test_webhooks_cannot_be_set_by_the_environment():
    assert "[[webhooks]]" in refusal(load, environ={"REPORTD_WEBHOOKS_URL": "https://a/"})


def test_a_given_environment_replaces_that_of_the_process(monkeypatch):
    monkeypatch.setenv("REPORTD_SERVER_PORT", "1234")
    assert load().server.port == 1234
    assert load(environ={}).server.port == Config().server.port
    assert not [name for name, value in vars(config).items() if isinstance(value, Config)]


@pytest.mark.parametrize("name", ["REPORTD_SEVER_PORT", "REPORTD_DATBASE_DSN", "REPORTD_X_", "REPORTD__PORT"])
def test_an_unknown_section_in_the_environment_stops_the_start(name):
    if name == "REPORTD_X_":
        assert load(environ={name: "1"}) == Config()  # ignored: there is no key after the section
        return
    message = refusal(load, environ={name: "9000"})
    assert name in message and "server, database, artifacts, viewer, api, auth, log" in message


KUBERNETES = ["REPORTD_PORT", "REPORTD_SERVICE_HOST", "REPORTD_SERVICE_PORT", "REPORTD_SERVICE_PORT_HTTP"]
KUBERNETES += ["REPORTD_PORT_8000_TCP", "REPORTD_PORT_8000_TCP_ADDR"]


@pytest.mark.parametrize("name", [*sorted(CLIENT_NAMES), "REPORTD_URL", "REPORTD_TOKEN", "REPORTD_NAME", *KUBERNETES])
def test_variables_of_clients_and_of_kubernetes_are_ignored(name):
    assert load(environ={name: "x"}) == Config()


def test_the_types_that_may_be_allowed_are_those_that_content_detection_supports():
    assert set(KNOWN_TYPES) == content.KNOWN_TYPES
