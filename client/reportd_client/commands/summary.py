"""The findings about a run as text for a terminal, and as Markdown for the page of a CI job.

Texts that come from tests, such as names and errors, may have anything in them. On a terminal they are one line without
control characters. In Markdown each is a code span, in which nothing is markup: no HTML, link, mention or table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterator, Optional, Sequence
from urllib.parse import quote

from reportd_client.commands.findings import SHOWN, Findings
from reportd_client.formats.result import plain

_SHOWN_ON_TERMINAL = 5
_NAME, _TEXT, _COMMIT = 200, 300, 8  # characters that are shown
# What changes how the text around it is shown, or cannot be written: controls, directions, invisible characters.
_HIDDEN = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_COMPARED = 10_000


class Terminal:
    """Plain lines."""

    shown = _SHOWN_ON_TERMINAL

    def text(self, value: object, most: int = _TEXT) -> str:
        return one_line(value, most)

    def link(self, text: str, address: str) -> str:
        return text


class Markdown:
    """GitHub's and GitLab's."""

    shown = SHOWN

    def text(self, value: object, most: int = _TEXT) -> str:
        text = one_line(value, most) or "(no text)"
        fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        space = " " if text.startswith("`") or text.endswith("`") else ""
        return f"{fence}{space}{text}{space}{fence}"

    def link(self, text: str, address: str) -> str:
        return f"[{text}]({quote(address, safe=':/?&=%#[]@~-._')})"


def one_line(value: object, most: int) -> str:
    """A text as one line without what is invisible, at most `most` characters."""
    text = " ".join(_HIDDEN.sub("\ufffd", " ".join(str(plain(str(value))).split())).split())
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass
class Section:
    """A title, and items of one or more lines. `count`: how many items there are, more than are listed."""

    title: str
    items: list[list[str]] = field(default_factory=list)
    count: int = 0
    at_least: bool = False  # the server does not list all

    def lines(self) -> list[str]:
        """For a terminal."""
        items = [": ".join(item) for item in self.items]
        return [self.title, *(f"  {text}" for text in (*items, self.more()) if text)]

    def more(self) -> Optional[str]:
        left = max(self.count - len(self.items), 0)
        return f"and {'at least ' if self.at_least else ''}{left:,} more" if left or self.at_least else None


class Summary:
    """`site`: the address of the server, for links."""

    def __init__(self, findings: Findings, site: str) -> None:
        self._found, self._site = findings, site
        self.url = f"{site}/runs/{findings.run['id']}"

    def terminal(self) -> str:
        style = Terminal()
        lines = [f"{style.text(self._found.run['name'], _NAME)}: {self._facts(style)}"]
        for section in self._sections(style):
            lines += section.lines()
        return "\n".join([*lines, self.url, ""])

    def markdown(self) -> str:
        style = Markdown()
        lines = [f"## {style.text(self._found.run['name'], _NAME)}", ""]
        lines.append(f"{self._facts(style)} · {style.link('page of the run', self.url)}")
        for section in self._sections(style):
            lines += ["", f"### {section.title}"]
            for first, *others in section.items:
                lines += ["", f"- {first}"] if lines[-1].startswith("###") else [f"- {first}"]
                lines += [f"  - {text}" for text in others]
            lines += [f"- {text}" for text in filter(None, [section.more()])]
        return "\n".join([*lines, ""])

    # --- what is said ---

    def _facts(self, style: Any) -> str:
        """`Failed · 118 tests · 5 failed · 1 flaky · branch main · commit 8f14e45c`."""
        run, found = self._found.run, self._found
        tests = (found.completeness or {}).get("tests_received", run["test_counts"].get("total", 0))
        facts = [str(run["status"]), counted(tests, "test")]
        failed = run["test_counts"].get("failed", 0)
        if found.comparison is not None:
            failed = found.comparison["counts"]["new_failures"] + found.comparison["counts"]["still_failing"]
        facts += [f"{failed:,} failed"] if failed else []
        facts += [f"{len(found.flaky):,} flaky"] if found.flaky else []
        facts += [f"branch {style.text(run['branch'], _NAME)}"] if run["branch"] else []
        facts += [f"commit {style.text(str(run['commit_sha'])[:_COMMIT])}"] if run["commit_sha"] else []
        return " · ".join(facts)

    def _sections(self, style: Any) -> Iterator[Section]:
        found = self._found
        if found.comparison is not None:
            yield from self._failures(style, found.comparison)
        if found.flaky:
            title = f"{counted(len(found.flaky), 'flaky test')}, which failed first and passed then"
            items = [[self._test(style, test)] for test in found.flaky[: style.shown]]
            yield Section(title, items, len(found.flaky))
        if found.completeness is not None:
            yield from missing(style, found.completeness)
        if found.unknown:
            yield Section(f"The server is older than this client: it does not say {', '.join(found.unknown)}")

    def _failures(self, style: Any, comparison: dict[str, Any]) -> Iterator[Section]:
        counts, base = comparison["counts"], comparison["base"]
        if base is None:
            title = "There is no finished run of this name on the main branch yet, so no failure counts as new"
            title += f". {counted(counts['new_failures'], 'test')} failed" if counts["new_failures"] else ""
        else:
            address = f"{self._site}/compare?base={quote(str(base['id']))}&head={quote(str(comparison['head']['id']))}"
            title = (
                f"{counted(counts['new_failures'], 'new failure')} against {style.link(_named(style, base), address)}"
            )
            title += f"; {counts['still_failing']:,} failed there, too" if counts["still_failing"] else ""
            title += f"; {counts['fixed']:,} fixed" if counts["fixed"] else ""
        if "tests" in comparison["limited"]:
            title += f". Only {_COMPARED:,} tests were compared"
        items = [self._failure(style, test) for test in self._found.failures[: style.shown]]
        yield Section(title, items, counts["new_failures"])

    def _failure(self, style: Any, test: dict[str, Any]) -> list[str]:
        head = test["head"]
        difference = self._found.differences.get(head["test_case_result_id"])
        lines = [self._test(style, {**test, "test_case_result_id": head["test_case_result_id"]})]
        lines += [style.text(head["error"])] if head["error"] else []
        return lines + (_reason(style, difference) if difference else [])

    def _test(self, style: Any, test: dict[str, Any]) -> str:
        name = style.link(style.text(test["name"], _NAME), f"{self._site}/results/{test['test_case_result_id']}")
        return f"{name} ({style.text(test['browser'], _NAME)})" if test["browser"] else str(name)


_WITHOUT_DIFFERENCE = {
    "never_passed": "never passed before",
    "no_difference": "its steps are those of its last green",
    "too_long": "too many steps to be compared",
}


def _reason(style: Any, difference: dict[str, Any]) -> list[str]:
    """Why a test fails now and did not before."""
    if difference["sentence"]:
        return [style.text(difference["sentence"])]
    known = _WITHOUT_DIFFERENCE.get(str(difference["reason"]))
    return [known] if known else []


def _named(style: Any, run: dict[str, Any]) -> str:
    commit = f" {style.text(str(run['commit_sha'])[:_COMMIT])}" if run["commit_sha"] else ""
    return f"{style.text(run['branch'] or 'the main branch', _NAME)}{commit}"


def missing(style: Any, completeness: dict[str, Any]) -> Iterator[Section]:
    """What of a run never came."""
    if completeness["complete"]:
        yield Section("Nothing is missing")
        return
    shards, files = completeness["shards"], completeness["artifacts_missing"]
    items = [[text] for text in _shards(shards)]
    items += [[f"shard {each['index']}: {style.text(each['error'])}"] for each in shards["errors"][: style.shown]]
    expected, received = completeness["tests_expected"] or 0, completeness["tests_received"]
    if expected > received:
        items.append([f"{expected - received:,} of {counted(expected, 'test')} did not come"])
    yield Section("The run is not complete", items, len(items))
    if files:
        listed = [_file(style, each) for each in files[: style.shown]]
        more = completeness["truncated"]
        title = f"{'more than ' if more else ''}{counted(len(files), 'file')} did not come"
        yield Section(title, listed, len(files), at_least=more)


def _shards(shards: dict[str, Any]) -> Iterator[str]:
    total = shards["total"]
    for words, numbers in (("silent", shards["silent"]), ("still running", shards["running"])):
        if numbers and total == 1:
            yield "the run has not ended"
        elif len(numbers) == 1:
            yield f"shard {numbers[0]} of {total} is {words}"
        elif numbers:
            yield f"{len(numbers)} of {total} shards are {words}: {listed(numbers)}"


def _file(style: Any, file: dict[str, Any]) -> list[str]:
    reason = "it never came" if file["reason"] == "later" else style.text(file["reason"])
    return [f"{style.text(file['file_name'] or 'a file', _NAME)} of {style.text(file['test_id'], _NAME)}", reason]


def listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ", ".join(map(str, numbers[:SHOWN])) + more


def counted(number: int, what: str) -> str:
    return f"{number:,} {what if number == 1 else f'{what}s'}"
