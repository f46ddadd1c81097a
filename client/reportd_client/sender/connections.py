"""Connections to the server, with the certificates and the proxy of the site; and what to do when there is none."""

from __future__ import annotations

import os
import ssl
import urllib.request
from typing import Any, Callable, Iterator, Optional
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3

from reportd_client import limits
from reportd_client.mask import Masks
from reportd_client.settings import SettingsError, flag


class Fatal(Exception):
    """Nothing more can be sent until somebody acts. The text says what to do."""

    def __init__(self, text: str, code: int = 5) -> None:
        super().__init__(text)
        self.code = code  # the exit code of reportd-send


def pool(url: str, say: Callable[[str], None]) -> urllib3.PoolManager:
    """Connections to this address: through the proxy of the environment, with the certificates of the site.

    Raises SettingsError.
    """
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=limits.CONNECT_SECONDS, read=limits.READ_SECONDS),
        "maxsize": limits.REQUESTS,
        "block": False,
    }
    if url.startswith("https:"):
        options["ssl_context"] = _certificates(say)
    proxy = proxy_of(url)
    if proxy is None:
        return urllib3.PoolManager(**options)
    user = _parts(proxy)
    if user.username:
        basic = f"{unquote(user.username)}:{unquote(user.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=basic)
    host = f"[{user.hostname}]" if ":" in str(user.hostname) else user.hostname
    address = f"{user.scheme}://{host}:{user.port or (443 if user.scheme == 'https' else 80)}"
    return urllib3.ProxyManager(address, **options)


def proxy_of(url: str) -> Optional[str]:
    """The proxy between here and this address, with its password; None when there is none, or NO_PROXY names the host.

    Raises SettingsError.
    """
    parts = urlsplit(url)
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or _is_direct(parts.netloc, proxies):
        return None
    proxy = proxy if "//" in proxy else f"http://{proxy}"
    if _parts(proxy).scheme not in ("http", "https"):
        raise SettingsError(f"The proxy {Masks().url(proxy)} is none that reportd-client can use: http or https")
    return proxy


def _parts(proxy: str) -> SplitResult:
    """The parts of a proxy's address. Raises SettingsError."""
    try:
        parts = urlsplit(proxy)
        is_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False
    if not is_address:
        raise SettingsError("The proxy is no address like http://user:password@proxy.example.com:3128")
    return parts


def _is_direct(host: str, proxies: dict[str, str]) -> bool:
    """Whether NO_PROXY names the host."""
    return bool(urllib.request.proxy_bypass_environment(host, proxies))  # type: ignore[attr-defined]


def _certificates(say: Callable[[str], None]) -> ssl.SSLContext:
    if flag("insecure", os.environ):
        say("REPORTD_INSECURE=1: the certificate of the server is not checked, anybody between may read the report")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    name, path = authority()
    if path is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{name} ({path}) is no file of certificates: {error}") from None


def authority() -> tuple[str, Optional[str]]:
    """The variable that names the file of certificates, and that file; None for the certificates of the system."""
    names = ("REPORTD_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    return next(((name, path) for name in names if (path := os.environ.get(name))), ("", None))


def explain(error: BaseException, url: str) -> str:
    """One line about a request without an answer. Raises Fatal when a setting is wrong."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Fatal(
                f"{url}: its certificate is not accepted ({cause.verify_message}). Set REPORTD_CA_FILE to the file of "
                "the authority that signed it",
                1,
            )
    text = Masks().text(str(causes[-1]) or type(causes[-1]).__name__)
    if any("407" in str(cause) for cause in causes if isinstance(cause, (OSError, urllib3.exceptions.ProxyError))):
        raise Fatal(f"The proxy to {url} wants a password ({text}). Put it into the proxy's address", 1)
    proxy = "through the proxy " if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes) else ""
    return f"{url} cannot be reached {proxy}({text[:300]})".replace("  ", " ")


def _causes(error: Optional[BaseException]) -> Iterator[BaseException]:
    """The error and what it was raised from, the innermost last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "reason", None) or getattr(error, "original_error", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
