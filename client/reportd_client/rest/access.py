"""Calls about who may see what, and about the server itself."""

from __future__ import annotations

import json
import os
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Optional, Union

from reportd_client.rest.connection import Moment, at, root
from reportd_client.rest.suites import Calls
from reportd_client.sender.body import Json

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from reportd_client.rest import shapes

_COOKIE = "reportd_session"


class Links(Calls):
    """Evidence links, which show one run, result or file to somebody without an account."""

    def create(self, **fields: Unpack[shapes.NewLink]) -> shapes.LinkMade:
        """A link to one of `suite_run_id`, `test_case_result_id` and `artifact_id`. Never repeated by itself."""
        return self._connection.once(at("links"), fields)

    def index(
        self,
        *,
        suite_run_id: Optional[str] = None,
        test_case_result_id: Optional[str] = None,
        artifact_id: Optional[str] = None,
        active: Optional[bool] = None,
    ) -> Iterator[shapes.Link]:
        query = {"suite_run_id": suite_run_id, "test_case_result_id": test_case_result_id}
        return self._connection.chained(at("links"), {**query, "artifact_id": artifact_id, "active": active})

    def delete(self, link_id: str) -> None:
        self._connection.delete(at("links", link_id))


class Shared(Calls):
    """What an evidence link shows; `link` is the part of its address after `/shared/`. No token is needed."""

    def show(
        self,
        link: str,
        *,
        status: Optional[str] = None,
        q: Optional[str] = None,
        page: Optional[int] = None,
        per_page: Optional[int] = None,
    ) -> Union[shapes.SharedRun, shapes.Report]:
        """The run with a page of its results, or the result. A file: see download()."""
        query = {"status": status, "q": q, "page": page, "per_page": per_page}
        return self._connection.get(root("shared", link), query)

    def download(self, link: str, to: Union[str, os.PathLike[str]]) -> Path:
        """The file that the link shows."""
        return self._connection.download(root("shared", link), to)

    def show_case(self, link: str, case_id: str) -> shapes.Report:
        """A result of the run."""
        return self._connection.get(root("shared", link, "test-case-results", case_id))

    def show_image(self, link: str, artifact_id: str, to: Union[str, os.PathLike[str]]) -> Path:
        return self._connection.download(root("shared", link, "artifacts", artifact_id), to)


class Sessions(Calls):
    """Sessions of browsers, and of people."""

    def create(self) -> shapes.Session:
        """A session for the cookie of a browser, with the rights of the token."""
        return self._connection.once(root("api", "v1", "auth", "session"))

    def show(self) -> shapes.Identity:
        """Who is calling, with which roles."""
        return self._connection.get(root("api", "v1", "auth", "session"))

    def login(self, name: str, password: str) -> shapes.PersonsSession:
        """Log a person in. All calls that follow are this person's, until logout()."""
        body = Json({"name": name, "password": password})
        answer = self._connection.call("POST", root("api", "v1", "auth", "login"), body=body, once=True)
        session: shapes.PersonsSession = json.loads(answer.body)
        cookie = SimpleCookie(answer.headers.get("Set-Cookie", ""))[_COOKIE].value
        self._connection.session = {"Cookie": f"{_COOKIE}={cookie}", "X-CSRF-Token": session["csrf_token"]}
        return session

    def logout(self) -> None:
        self._connection.call("POST", root("api", "v1", "auth", "logout"), once=True)
        self._connection.session = {}


class Exchange(Calls):
    def create(self, token: str, *, project: Optional[str] = None) -> shapes.ExchangedToken:
        """A token for 15 minutes, for the ID token of a CI job: `Api(token=made["token"])` uses it."""
        return self._connection.once(root("api", "v1", "auth", "exchange"), {"token": token, "project": project})


class Audit(Calls):
    def index(
        self,
        *,
        action: Optional[str] = None,
        actor: Optional[str] = None,
        subject_id: Optional[str] = None,
        since: Moment = None,
        until: Moment = None,
    ) -> Iterator[shapes.AuditEntry]:
        """Who did what, newest first. Needs the role admin."""
        query = {"action": action, "actor": actor, "subject_id": subject_id, "since": since, "until": until}
        return self._connection.chained(root("api", "v1", "audit"), query)


class Limits(Calls):
    def show(self) -> shapes.Limits:
        """What this server accepts, and the caller's project and role."""
        return self._connection.get(at("limits"))


class Health(Calls):
    def live(self) -> shapes.Health:
        return self._connection.get(root("healthz"))

    def ready(self) -> shapes.Health:
        """ApiError 503 when the database or the storage is unavailable."""
        return self._connection.get(root("readyz"))

    def metrics(self) -> str:
        """Metrics in the text format of Prometheus."""
        return self._connection.call("GET", root("metrics")).body.decode()


class Openapi(Calls):
    def show(self) -> dict[str, Any]:
        """The description of all calls."""
        return self._connection.get(root("api", "v1", "openapi.json"))
