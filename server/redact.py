"""Hides credentials of the system under test before a log is stored. Pure; knows no database."""

import re
from collections.abc import Mapping

REDACTED = "[redacted]"

_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}
_USER_INFO = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*://[^/?#@:]*):[^/?#]*@")
# Names of parameters that carry a credential: `token`, `access_token`, `apiKey`, `X-Amz-Signature`, `password` …
# Lengths are bounded, so that a URL made of separators cannot cost quadratic time.
_SECRET_PARAMETER = re.compile(
    r"(?i)(?<=[?&;#])((?:[^=&;#?]{0,80}[_.\-])?(?:[a-z]{0,40}token|api[_-]?key|[a-z]{0,40}secret|password|passwd"
    r"|pwd|passphrase|signature|sig|credentials?|auth|authorization|jwt|session[_-]?id|otp))=[^&;#]*"
)


def redact_headers(headers: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """The same headers, the values of credential headers replaced; a list keeps its length."""
    return {
        name: ([REDACTED] * len(value) if isinstance(value, list) else REDACTED)
        if name.strip().lower() in _SECRET_HEADERS
        else value
        for name, value in headers.items()
    }


def redact_url(url: str) -> str:
    """The same URL without its password and without the values of parameters named like credentials."""
    url = _USER_INFO.sub(rf"\1:{REDACTED}@", url)
    return _SECRET_PARAMETER.sub(rf"\1={REDACTED}", url) if "=" in url else url
