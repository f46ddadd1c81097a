"""XML of which only some elements matter: each of these is built whole, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Iterator, Mapping, Optional

from reportd_client.formats import markup
from reportd_client.formats.junit_case import Text, plain
from reportd_client.formats.result import Empty, Result, Source, Unreadable

MAX_ELEMENTS = 20_000  # within one; those that follow are left out
MAX_SIZE = 96 << 20  # characters of the texts and attributes within one, likewise
_FAR = 50  # times as many are no report
KEPT = 1 << 20  # characters of a text
KEPT_OUTPUT = 8 << 20
_NOTHING: Mapping[str, int] = {}


@dataclass
class Element:
    """`parents`: the tags and attributes of the elements around it, the outermost first."""

    tag: str
    attributes: dict[str, str]
    text: Text
    parents: list[tuple[str, dict[str, str]]]
    children: list[Element] = field(default_factory=list)

    def get(self, name: str) -> str:
        return plain(self.attributes.get(name, "")).strip()

    def all(self, *path: str) -> Iterator[Element]:
        """The elements at a path below this one, as in all("Output", "StdOut")."""
        for child in self.children:
            if child.tag == path[0]:
                if len(path) > 1:
                    yield from child.all(*path[1:])
                else:
                    yield child

    def value(self, *path: str) -> str:
        """The text of the first element at a path; empty when there is none."""
        return next((found.text.value() for found in self.all(*path)), "")

    def parent(self, tag: str) -> dict[str, str]:
        """The attributes of the nearest element around it with this tag; none when there is none."""
        return next((attributes for name, attributes in reversed(self.parents) if name == tag), {})


class _Trees:
    def __init__(
        self, source: Source, what: str, root: tuple[str, ...], wanted: tuple[str, ...], long: Mapping[str, int]
    ) -> None:
        self._source, self._what, self._root, self._wanted, self._long = source, what, root, wanted, long
        self.lost: set[str] = set()  # elements of `long` whose text was cut
        self._parents: list[tuple[str, dict[str, str]]] = []
        self._open: list[Optional[Element]] = []  # of a wanted element; None for those that are left out
        self._count = self._size = 0  # of elements and characters within the one that is open
        self.found: list[Element] = []
        self.is_cut = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._parents and tag not in self._root:
            expected = " or ".join(self._root)
            raise Unreadable(
                f"{self._source.path} is no {self._what}: its first element is {tag[:100]}, not {expected}"
            )
        if not self._open and tag not in self._wanted:
            self._parents.append((tag, attributes))
            return
        if not self._open:
            self._count = self._size = 0
        self._count += 1
        if self._count > MAX_ELEMENTS * _FAR:
            raise Unreadable(f"{self._source.path} has too many elements in one test")
        self._size += sum(map(len, attributes.values()))
        element = Element(tag, attributes, Text(self._long.get(tag, KEPT)), [] if self._open else list(self._parents))
        parent = self._open[-1] if self._open else None
        if self._open and (parent is None or self._count > MAX_ELEMENTS or self._size > MAX_SIZE):
            self._open.append(None)
            return
        if parent is not None:
            parent.children.append(element)
        self._open.append(element)

    def data(self, text: str) -> None:
        if self._open and self._open[-1] is not None and self._size <= MAX_SIZE:
            self._size += len(text)
            self._open[-1].text.add(text)

    def end(self, tag: str) -> None:
        if not self._open:
            self._parents.pop()
            return
        element = self._open.pop()
        if element is not None and element.text.length > self._long.get(tag, element.text.length):
            self.lost.add(tag)
        if not self._open and element is not None:
            self.found.append(element)

    def cut(self) -> None:
        self.is_cut = True


def elements(
    source: Source, what: str, root: tuple[str, ...], wanted: tuple[str, ...], long: Mapping[str, int] = _NOTHING
) -> Iterator[Optional[Element]]:
    """The `wanted` elements of a file whose first element is one of `root`; None at last when the end of the file is
    missing. `what` it should be, for errors; `long`: how many characters of some elements are kept. Raises Unreadable,
    Empty."""
    trees = _Trees(source, what, root, wanted, long)
    for _ in markup.read(source.path, trees):
        yield from trees.found
        trees.found.clear()
    for tag in sorted(trees.lost):
        source.note(f"{source.path}: more than {long[tag] >> 20} MiB of {tag} of a test are cut")
    if trees.is_cut:
        yield None


def results(
    source: Source, found: Iterator[Optional[Element]], make: Callable[[Element], Iterator[Result]]
) -> Iterator[Result]:
    """The results that `make` makes of elements. Raises Unreadable, Empty."""
    count, is_cut = 0, False
    for element in found:
        is_cut = element is None
        for result in make(element) if element is not None else ():
            count += 1
            yield result
    if not count and is_cut:
        raise Unreadable(f"{source.path} is cut or damaged before the end of its first test")
    if not count:
        raise Empty(f"{source.path} is empty: it has no test")
    if is_cut:
        source.note(f"{source.path} is cut or damaged: {count:,} whole results were read")


def add_error(source: Source, text: str) -> None:
    """Something failed outside of tests: the run is Failed, whatever they say."""
    errors = source.suite.setdefault("metadata", {}).setdefault("errors", [])
    source.suite["status"] = "Failed"
    if len(errors) < 20 and text[:2_000] not in errors:
        errors.append(text[:2_000])
