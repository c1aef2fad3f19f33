"""The token of the first start: who can read the data folder or the log makes the first user."""

import hmac
import os
from pathlib import Path

from node.web.access import new_secret

_NAME = "first-user-token"


def make_setup_token(data_dir: Path) -> str:
    """Give the token, a new one unless there is one; only the owner of the folder can read it."""
    path = data_dir / _NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        token = new_secret()
        file.write(f"{token}\n")
    return token


def is_setup_token(data_dir: Path, token: str) -> bool:
    """Say whether it is the token."""
    try:
        known = (data_dir / _NAME).read_text(encoding="ascii").strip()
    except OSError:
        return False
    return bool(known) and hmac.compare_digest(known.encode(), token.encode())


def remove_setup_token(data_dir: Path) -> None:
    """Forget the token, once there is a user."""
    (data_dir / _NAME).unlink(missing_ok=True)
