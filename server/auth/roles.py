"""Roles: what a caller may do in a project. server/routes.py and server/http/route.py define which a route needs."""

from enum import IntEnum
from typing import Literal, cast

Word = Literal["viewer", "uploader", "admin"]


class Role(IntEnum):
    """In ascending order: each role includes the rights of the roles before it."""

    VIEWER = 1  # reads
    UPLOADER = 2  # also creates and changes, but removes nothing: for CI
    ADMIN = 3  # everything

    @property
    def word(self) -> Word:
        """The role's name in the API, the commands and the database."""
        return cast(Word, self.name.lower())

    @classmethod
    def of(cls, word: str) -> "Role":
        """The role with this name. Raises KeyError."""
        return cls[word.upper()]
