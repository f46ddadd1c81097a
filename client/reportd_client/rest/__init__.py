"""Every call of the server's API, for tools. Tests are recorded with `import reportd_client` instead: this waits.

    from reportd_client.rest import Api, ApiError

    with Api() as api:  # address and token from REPORTD_URL and REPORTD_TOKEN
        for run in api.suite_runs.index(status="Failed"):
            print(run["name"], run["test_counts"]["failed"])

The operation `test_cases_create` of the server's page /docs is `api.test_cases.create()`. Replies are dicts, with the
types of `reportd_client.rest.shapes`.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Optional

from reportd_client.rest import access, results, suites
from reportd_client.rest.connection import ApiError, Connection
from reportd_client.settings import SettingsError, base_url, token_of

__all__ = ["Api", "ApiError"]


class Api:
    """One server: a context manager. Thread-safe. Raises SettingsError.

    A call that no reply came to, or that the server is too busy for, is repeated for `retry_seconds`, if that is safe:
    of what creates something, the server keeps an Idempotency-Key. Raises ApiError for everything that is not 2xx.
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, retry_seconds: float = 60.0) -> None:
        url = url or os.environ.get("REPORTD_URL", "").strip()
        if not url:
            raise SettingsError("Set REPORTD_URL to the address of the server")
        connection = Connection(base_url(url), token or token_of(os.environ), retry_seconds)
        self._connection = connection
        self.suite_runs = suites.SuiteRuns(connection)
        self.shards = suites.Shards(connection)
        self.archives = suites.Archives(connection)
        self.test_cases = suites.TestCases(connection)
        self.bundles = suites.Bundles(connection)
        self.reports = suites.Reports(connection)
        self.comparisons = suites.Comparisons(connection)
        self.errors = suites.Errors(connection)
        self.tests = suites.Tests(connection)
        self.search = suites.Search(connection)
        self.insights = suites.Insights(connection)
        self.steps = results.Steps(connection)
        self.checkpoints = results.Checkpoints(connection)
        self.logs = results.Logs(connection)
        self.uploads = results.Uploads(connection)
        self.artifacts = results.Artifacts(connection)
        self.downloads = results.Downloads(connection)
        self.thumbs = results.Thumbs(connection)
        self.links = access.Links(connection)
        self.shared = access.Shared(connection)
        self.sessions = access.Sessions(connection)
        self.exchange = access.Exchange(connection)
        self.audit = access.Audit(connection)
        self.limits = access.Limits(connection)
        self.health = access.Health(connection)
        self.openapi = access.Openapi(connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
