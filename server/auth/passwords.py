"""Password hashing: argon2id (RFC 9106, second recommended option), one at a time and off the event loop."""

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
_MOST_WAITING = 16  # logins; each takes about 0.1 s, and 64 MiB while it is hashed

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """The text to store for a password: argon2's format with salt and parameters. Slow by design: about 0.1 s."""
    return _hasher.hash(prepared(password))


def problem_of(password: str, name: str) -> str | None:
    """A sentence that says what is wrong with a new password; None when it is accepted.

    Only the length matters: there are no composition rules (NIST SP 800-63B, 3.1.1.2).
    """
    if len(password) < SHORTEST:
        return f"A password must have at least {SHORTEST} characters."
    if len(password) > LONGEST:
        return f"A password must have at most {LONGEST} characters."
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in password):
        return "A password must be text in valid UTF-8 without NUL characters. Otherwise nobody could log in with it."
    if name.lower() in password.lower() and len(password) < len(name) + SHORTEST:
        return f"A password that contains the name must have at least {SHORTEST} more characters."
    return None


class Passwords:
    """Verifies passwords one at a time, in a thread of its own. argon2 releases the GIL, so the event loop goes on."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "reportd-password")
        self._waiting = 0
        self._dummy_hash = ""

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A slot for one login. Raises Overloaded when no slot is free."""
        if self._waiting >= _MOST_WAITING:
            raise Overloaded()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def match(self, stored: str | None, password: str) -> bool:
        """Whether `password` has the hash `stored`. False for None, after the same time: the duration must not reveal
        whether an account exists."""
        return await self._work(lambda: self._matches(stored, password))

    async def renewed(self, stored: str, password: str) -> str | None:
        """A new hash of the password when argon2's parameters have changed since `stored` was made, else None."""
        if not _hasher.check_needs_rehash(stored):
            return None
        return await self._work(lambda: hash_password(password))

    async def hashed(self, password: str) -> str:
        """The hash of a new password."""
        return await self._work(lambda: hash_password(password))

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _matches(self, stored: str | None, password: str) -> bool:
        # Make the dummy hash even when it is not needed: otherwise the first login with an unknown name takes longer.
        self._dummy_hash = self._dummy_hash or hash_password("nobody's")
        try:
            return _hasher.verify(stored or self._dummy_hash, prepared(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def prepared(text: str) -> str:
    """A password or name in Unicode form NFC: keyboards differ in how they encode `é` (RFC 8265, 3.3.2 and 4.2.2)."""
    return unicodedata.normalize("NFC", text)
