"""Passwords: what is asked of them, and how they are kept (argon2id, RFC 9106)."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from node.errors import WrongCall

MIN_CHARACTERS = 12
MAX_CHARACTERS = 1000
"""More would only keep the processor busy."""
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash("")


class WeakPassword(WrongCall):
    """A password is too easy to guess."""


def hash_password(password: str, name: str) -> str:
    """Hash a new password, with a salt of its own.

    Raises
    ------
    WeakPassword
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise WeakPassword(f"A password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters.")
    if len(set(password)) < 5 or name.casefold() in password.casefold():
        raise WeakPassword("The password is easy to guess: it repeats itself, or holds the name.")
    return _HASHER.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Say whether it is the password; of nobody (None) it never is, after as long a time."""
    try:
        _HASHER.verify(password_hash or _NOBODY, password[: MAX_CHARACTERS + 1])
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Say whether a hash is weaker than those made now."""
    return _HASHER.check_needs_rehash(password_hash)
