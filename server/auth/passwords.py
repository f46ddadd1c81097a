"""Passwords: argon2id (RFC 9106, its second recommended choice), one at a time and off the event loop."""

import asyncio
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from server.errors import Overloaded

R = TypeVar("R")

SHORTEST, LONGEST = 12, 1000  # characters
_MOST_WAITING = 16  # each takes about a tenth of a second and, in its turn, 64 MiB

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """What is stored of a password: argon2's own text, with salt and parameters. Takes its time."""
    return _hasher.hash(prepared(password))


def problem_of(password: str, name: str) -> str | None:
    """What is wrong with a new password, as a sentence; None when it will do.

    Length is what counts; no rules of composition (NIST SP 800-63B, 3.1.1.2).
    """
    if len(password) < SHORTEST:
        return f"A password must have at least {SHORTEST} characters."
    if len(password) > LONGEST:
        return f"A password must have at most {LONGEST} characters."
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in password):
        return "A password must be text in UTF-8, without NUL: nobody could log in with it."
    if name.lower() in password.lower() and len(password) < len(name) + SHORTEST:
        return "A password must not be made of the name."
    return None


class Passwords:
    """Verifies passwords, one after the other in a thread of its own: argon2 lets go of Python's lock meanwhile."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "reportd-password")
        self._waiting = 0
        self._nobodys = ""

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A slot among those who log in. Raises Overloaded when all are taken."""
        if self._waiting >= _MOST_WAITING:
            raise Overloaded()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def match(self, stored: str | None, password: str) -> bool:
        """Whether it is the password of which that is stored; for None never, and that takes as long."""
        return await self._work(lambda: self._matches(stored, password))

    async def renewed(self, stored: str, password: str) -> str | None:
        """The same password hashed anew, where argon2's parameters have changed since it was."""
        if not _hasher.check_needs_rehash(stored):
            return None
        return await self._work(lambda: hash_password(password))

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _matches(self, stored: str | None, password: str) -> bool:
        # Also when it is not needed: the first one would tell.
        self._nobodys = self._nobodys or hash_password("nobody's")
        try:
            return _hasher.verify(stored or self._nobodys, prepared(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def prepared(text: str) -> str:
    """The same password or name from every keyboard (RFC 8265, 3.3.2 and 4.2.2)."""
    return unicodedata.normalize("NFC", text)
