"""Roles: what a caller may do in a project. Which role a request needs is said in server/routes.py."""

from enum import IntEnum
from typing import Literal, cast

Word = Literal["viewer", "uploader", "admin"]


class Role(IntEnum):
    """Each may do what those before it may, and more."""

    VIEWER = 1  # reads
    UPLOADER = 2  # sends and changes, removes nothing: for CI
    ADMIN = 3  # everything

    @property
    def word(self) -> Word:
        """As people and the database write it."""
        return cast(Word, self.name.lower())

    @classmethod
    def of(cls, word: str) -> "Role":
        """The role that is written so. Raises KeyError."""
        return cls[word.upper()]
