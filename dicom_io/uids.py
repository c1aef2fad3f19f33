"""Unique identifiers for objects that Hepar creates.

Nothing we write gets a random UID. A UID is derived from what the object is made from, so that the
same work done twice, on another day or after a crash, ends in the same object under the same name.
"""

import hashlib

UUID_ROOT = "2.25"
"""Root of UIDs made from a UUID (PS3.5 B.2)."""


def derive_uid(*parts: str) -> str:
    """Return the UID that belongs to `parts`.

    The first 128 bits of a SHA-256 digest, marked as a custom UUID (RFC 9562 version 8), under the
    root 2.25 (PS3.5 B.2). Each part is measured before it is hashed, so that ``("a", "bc")`` and
    ``("ab", "c")`` differ.

    Parameters
    ----------
    parts
        What the object is and what it is made from, the role first.

    Returns
    -------
    str
        A UID of at most 44 characters. Same parts, same UID.

    Raises
    ------
    ValueError
        If there are no parts.
    """
    if not parts:
        raise ValueError("a UID is derived from at least one part")
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    number = int.from_bytes(digest.digest()[:16], "big")
    return f"{UUID_ROOT}.{_mark_as_uuid(number)}"


def _mark_as_uuid(number: int) -> int:
    """Set the version (8, custom) and variant bits of RFC 9562 in a 128-bit number."""
    number &= ~(0xF << 76)
    number |= 0x8 << 76
    number &= ~(0x3 << 62)
    return number | 0x2 << 62
