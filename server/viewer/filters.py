"""The address of a page: its filters are in it, so that it can be kept, sent to others, and gone back to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class FilteredAddress:
    """A path of this server with its filters. Calling it gives the address with some of them changed."""

    path: str
    filters: Mapping[str, Any]

    @classmethod
    def of(cls, path: str, sent: Mapping[str, str], names: Iterable[str]) -> "FilteredAddress":
        """The address of a page with those of its filters (`names`) that were `sent` and are not empty."""
        return cls(path, {name: sent[name] for name in names if sent.get(name)})

    def __call__(self, **changes: Any) -> str:
        """This address with other filters; None removes one. Always the first page, unless `cursor` is given."""
        return self.alone(**{**self.filters, "cursor": None, **changes})

    def alone(self, **filters: Any) -> str:
        """The address with these filters and no others. Empty when the page has no address of its own (`path`)."""
        query = urlencode({name: str(value) for name, value in filters.items() if value not in (None, "")})
        return f"{self.path}?{query}" if query and self.path else self.path
