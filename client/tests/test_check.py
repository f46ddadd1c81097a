"""`reportd-send check`, and the way to the server that all commands take: proxies and certificates of the site."""

import re
import ssl

import pytest
import urllib3
from reportd_client.cli import main
from reportd_client.sender.connections import pool, proxy_of
from reportd_client.settings import SettingsError
from reportd_client.version import VERSION

from tests.server import API


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def check(server, monkeypatch, capsys):
    """Runs the command in this process: code, output, messages."""

    def run(**environment):
        settings = {"REPORTD_URL": server.url, "REPORTD_TOKEN": server.token, **environment}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(["check"])
        said = capsys.readouterr()
        return int(ended.value.code), said.out, said.err

    return run


def test_everything_is_on_one_screen(check, server):
    code, out, err = check()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:5] == [
        f"Server: {server.url}{API}",
        "Proxy: none",
        f"Token: {server.token[:8]}…",
        "Access: the token is accepted",
        f"Name: {server.get('/limits')['caller']}",
    ]
    assert lines[5:8] == [
        "Role: admin",
        "Project: several, or all: name one by REPORTD_PROJECT",
        "Limits: 10 MiB a file, 50 files a request, 16 MiB of JSON",
    ]
    assert lines[8] == f"File types: {', '.join(server.get('/limits')['allowed_types'])}"
    assert lines[9].startswith(f"Version: {VERSION}, with bundle, ") and re.match(r"Clock: \d+ s ", lines[10])
    assert len(lines) == 11 and server.token not in out


def test_a_server_that_says_less_or_more(check, proxy):
    limits = {"version": "9", "role": "viewer", "allowed_types": [f"type/{number}" for number in range(40)]}
    proxy.script = lambda method, path: (200, limits) if path == "/limits" else None
    code, out, _ = check(REPORTD_URL=proxy.url)
    assert code == 0 and "Name: not said\nRole: viewer\n" in out and "Version: 9, with nothing more" in out
    assert ", type/11 and 28 more\n" in out
    proxy.older, proxy.script = True, lambda method, path: None
    code, out, _ = check(REPORTD_URL=proxy.url)
    assert code == 0 and "Limits: the server is older than this client" in out


def test_the_way_to_the_server_is_said_without_passwords(check, impatient):
    address = "https://127.0.0.1:1"
    code, out, err = check(REPORTD_URL=address, https_proxy="http://anna:p%40ss@127.0.0.1:1")
    assert code == 5 and "p%40ss" not in out + err and "p@ss" not in out + err
    assert "@127.0.0.1:1\nCertificates: those of the system\n" in out and "through the proxy" in err
    code, out, _ = check(REPORTD_URL=address, REPORTD_INSECURE="1", no_proxy="127.0.0.1")
    assert "Proxy: none\nCertificates: not checked (REPORTD_INSECURE)\n" in out


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy"}, "http://proxy:80"),
        ({"ALL_PROXY": "http://proxy"}, "http://proxy:80"),
        ({"https_proxy": "https://proxy"}, "https://proxy:443"),
        ({"https_proxy": "http://[::1]:3128"}, "http://[::1]:3128"),
        ({"https_proxy": "http://a:b%3A%40@proxy:1"}, "http://proxy:1"),
        ({"http_proxy": "http://proxy:3128"}, None),
        ({"https_proxy": "http://proxy", "NO_PROXY": "example.com"}, None),
        ({"https_proxy": "http://proxy", "no_proxy": ".example.com, other"}, None),
        ({"https_proxy": "http://proxy", "no_proxy": "reports.example.com:8443"}, None),
        ({"https_proxy": "http://proxy", "no_proxy": "*"}, None),
        ({"https_proxy": "http://proxy", "no_proxy": "ample.com,reports.example.org"}, "http://proxy:80"),
    ],
)
def test_proxies(monkeypatch, variables, address):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = pool(f"https://reports.example.com:8443{API}", lambda text: None)
    assert isinstance(made, urllib3.ProxyManager) == (address is not None)
    if address is not None:
        host = f"[{made.proxy.host.strip('[]')}]" if ":" in made.proxy.host else made.proxy.host
        assert f"{made.proxy.scheme}://{host}:{made.proxy.port}" == address
        login = {"proxy-authorization": "Basic YTpiOkA="} if "a:b" in str(variables) else {}  # a:b:@
        assert made.proxy_headers == login


@pytest.mark.parametrize("proxy", ["http://proxy:port", "http://proxy:99999", "http://[::1", "http://", "//"])
def test_a_proxy_that_is_no_address(monkeypatch, check, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(SettingsError, match="The proxy is no address"):
        proxy_of("http://reports.example.com")
    code, _, err = check()
    assert code == 1 and err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\0", None])
def test_a_file_that_is_no_certificate(monkeypatch, tmp_path, content):
    path = tmp_path / "ca.pem"
    path.mkdir() if content is None else path.write_bytes(content)
    for name in ("REPORTD_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(path))
            with pytest.raises(SettingsError, match=rf"{name} \({path}\) is no file of certificates"):
                pool("https://reports.example.com", lambda text: None)


def test_the_own_authority_comes_first(monkeypatch, tmp_path):
    """SSL_CERT_FILE, which tools set for themselves, does not replace REPORTD_CA_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    monkeypatch.setenv("REPORTD_CA_FILE", ssl.get_default_verify_paths().openssl_cafile or "/nowhere")
    with monkeypatch.context() as patch:
        patch.setattr(ssl, "create_default_context", lambda cafile=None: cafile)
        made = pool("https://reports.example.com", lambda text: None)
    assert made.connection_pool_kw["ssl_context"] == ssl.get_default_verify_paths().openssl_cafile
