"""Whatever a client sends comes out of every page as text: in every field of every table, and in every address."""

import gzip
import itertools
import re
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest

from server.viewer.assets import by_name
from tests.site import FAILED, page_paths, shared
from tests.up_server import up_server

__all__ = ["up_server"]  # fixtures

MARK = "\u202e"  # turns the direction of what follows, up to the end of its element
ATTACKS = [
    f"'\"><script>alert(1)</script>{MARK}{{{{7*7}}}}",
    f"'\"><img src=x onerror=alert(1)>{MARK}\x1b[31m",
    f"javascript:alert(1)//{MARK}",
    f"</title></textarea></option></bdi><b onclick=x>{MARK}{{% raw %}}",
    f"<!--{MARK}${{7*7}}&lt;&amp;",
]
# What may be at most as long as one of these words is not for free text, or is the server's own.
NOT_FREE = {"status", "level", "artifact_type", "artifact_category", "mime_type", "checksum", "storage_path", "method",
            "text_encoding", "commit_sha", "run_key", "link_name"}  # fmt: skip

SHEETS = [asset.content.decode() for asset in by_name().values() if asset.media_type == "text/css"]
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@pytest.fixture(scope="module")
def site(request, up_server):
    def say(text, most):
        if text.startswith("https://ci"):
            return "javascript:alert(document.domain)//" + MARK
        attack = ATTACKS[sum(text.encode()) % len(ATTACKS)]  # the same text, the same attack
        if most < 50:
            return "<b onx=1>{{7*7}}"[:most]
        long = "x" * 100_000 if most > 100_000 else ""
        return f"{attack[:most]}\n{long}"[:most] if most > 2000 else attack[:most]

    return shared(request, up_server, "<i>'\"{{1}}" + MARK, say)


class Page(HTMLParser):
    """What in a page could run, load or turn something that was sent."""

    def __init__(self, text):
        super().__init__()
        self.wrong, self._open = [], []
        for sheet in SHEETS:  # which pages of evidence links have inside
            text = text.replace(f"<style>{sheet}</style>", "")
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.wrong += [f"<{tag} {name}>" for name in values if name.startswith("on") or name == "style"]
        self.wrong += [f"<{tag}>"] if tag in ("style", "base", "object", "embed", "i") else []
        if tag == "script" and not values.get("src", "").startswith("/static/"):
            self.wrong.append(f"<script> {values}")
        for name in ("href", "src", "action", "formaction", "srcset", "xlink:href"):
            if name in values and not re.match(r"[/?#](?!/)|$", values[name]):
                self.wrong.append(f"<{tag} {name}={values[name][:40]}>")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if MARK in data and not {"bdi", "title", "option", "textarea"} & set(self._open):
            self.wrong.append(f"not in <bdi>: {data[:40]!r} in {self._open[-3:]}")


def text_of(server, address):
    """The status and text of a page, as a browser gets it."""
    reply = server.ask("GET", address, Accept="text/html", Accept_Encoding="gzip")
    body = gzip.decompress(reply.body) if reply.headers.get("Content-Encoding") == "gzip" else reply.body
    return reply.status, body.decode()


def test_every_text_column_has_something_hostile(site, up_server):
    tables = ("suite_runs", "test_case_results", "test_step_results", "test_checkpoints", "test_console_logs",
              "test_network_logs", "test_artifacts", "errors")  # fmt: skip
    columns = up_server.rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_name = ANY(%s)"
        " AND udt_name IN ('text', 'varchar', 'jsonb', '_text', '_varchar')",
        list(tables),
    )
    assert {table for table, _ in columns} == set(tables)
    for table, column in columns:
        if column not in NOT_FREE:
            query = f"SELECT count(*) FROM {table} WHERE {column}::text ~ 'alert|onclick|onx|7.7'"
            assert up_server.rows(query)[0][0], (table, column)


@pytest.mark.parametrize("path", page_paths())
def test_what_was_sent_is_text(site, up_server, path):
    for address in site.addresses()[path]:
        status, text = text_of(up_server, address)
        assert status in (200, 302, 303), (address, status, text[:500])
        assert Page(text).wrong == [], address
        assert "\x1b" not in text and len(text) < 1_000_000, (address, len(text))


QUERIES = {
    "/": ("project", "branch", "name", "environment", "tag", "cursor", "status", "since", "part", "runs", "newest"),
    "/runs": ("project", "branch", "name", "environment", "tag", "cursor", "status", "until"),
    "/runs/{suite_id}": ("q", "tag", "status", "error", "group", "cursor", "part", "failed"),
    "/results/{case_id}": ("step", "view", "with", "log", "files", "from", "part", "steps"),
    "/results/{case_id}/steps/{at}": ("view", "with"),
    "/results/{case_id}/files/{artifact_id}": ("view", "find", "line", "page", "wrap", "entry", "step"),
    "/tests": ("branch", "browser", "environment", "cursor", "id", "project"),
    "/results/{case_id}/compare": ("with", "diff"),
    "/compare": ("base", "head", "list"),
    "/errors": ("project", "cursor"),
    "/errors/{project}/{fingerprint}": ("cursor", "branch"),
    "/search": ("q", "project", "in"),
    "/insights": ("project", "show", "days", "q"),
    "/latest": ("project", "name", "branch", "status"),
    "/admin/projects": ("cursor", "change", "done"),
    "/admin/people": ("cursor", "change", "done"),
    "/admin/tokens": ("cursor", "change", "done"),
    "/admin/links": ("cursor", "change", "done", "active"),
    "/admin/audit": ("action", "actor", "project", "since", "until", "cursor"),
    "/admin/webhooks": ("done",),
    "/sign-in": ("next",),
    "/shared/{link}": ("q", "tag", "status", "error", "group", "cursor", "page"),
    "/shared/{link}/test-case-results/{case_id}": ("step", "view", "with", "files", "whole"),
    "/shared/{link}/test-case-results/{case_id}/steps/{at}": ("view", "with"),
    "/help": ("x",),
}


@pytest.mark.parametrize("path", [path for path in page_paths() if path in QUERIES])
def test_what_an_address_says_is_text(site, up_server, path):
    """Any value of any parameter is shown as text or refused with a page, and never ends the request in an error."""
    (address, *_) = site.addresses()[path]
    for name, attack in itertools.product(QUERIES[path], ATTACKS):
        asked = f"{address}{'&' if '?' in address else '?'}{urlencode({name: attack})}"
        status, text = text_of(up_server, asked)
        assert status in (200, 303, 404, 422), (asked, status)
        assert "<html" in text or status == 303, asked
        assert Page(text).wrong == [], asked


@pytest.mark.parametrize("attack", [attack.replace("/", "") for attack in ATTACKS] + ["%00", "x" * 5000, "..%2f..%2f"])
def test_an_id_that_is_none_is_a_page(site, up_server, attack):
    (file, *_) = site.files.values()
    known = {
        "suite_id": site.run,
        "case_id": site.failed,
        "artifact_id": file,
        "at": f"1.{FAILED}",
        "project": "default",
    }
    known["link"] = site.link.removeprefix("/shared/")
    for path in page_paths():
        for name in re.findall(r"{(\w+)}", path):
            address = path.format_map({**known, "fingerprint": site.fingerprint, name: urlencode({"": attack})[1:]})
            status, text = text_of(up_server, address)
            assert status in (400, 404, 422), (address[:200], status)
            assert "<html" in text and Page(text).wrong == [], address[:200]
