"""Secrets made at first start, one file each, readable by their owner only."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def ensure_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in `path`; made and stored durably when there is none yet."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and (stored := path.read_text().strip()):
        return stored
    secret = make()
    write_private(path, secret + "\n")
    return secret


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step, mode 0600, on disk before this returns."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def new_password() -> str:
    return secrets.token_urlsafe(24)


def new_api_key() -> str:
    return "crm_" + secrets.token_urlsafe(32)


def new_signing_key() -> str:
    return secrets.token_hex(32)
