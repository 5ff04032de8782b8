"""Passwords: judged, hashed, and made for once."""

import secrets
import string
import unicodedata
from base64 import b64encode

import argon2
from pwdlib import PasswordHash

# NIST SP 800-63B §5.1.1.2: length matters, composition rules don't; no rotation by the calendar.
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 256

HASHING = PasswordHash.recommended()  # argon2id with the parameters of RFC 9106 §4
_LETTERS = sorted(set(string.ascii_lowercase + string.digits) - set("l1o0"))
# An account nobody has takes as long to refuse as one with another password: random bytes in place
# of a hash, since a real one would cost every start the time that is meant for guessing.
NOBODYS = "$argon2id$v={}$m={},t={},p={}${}${}".format(
    argon2.low_level.ARGON2_VERSION,
    argon2.DEFAULT_MEMORY_COST,
    argon2.DEFAULT_TIME_COST,
    argon2.DEFAULT_PARALLELISM,
    *(b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (16, 32)),
)


def is_right(password: str, password_hash: str | None) -> bool:
    """Whether it is the one that was hashed; takes as long (some 50 ms) where there is none."""
    normal = unicodedata.normalize("NFKC", password[: 2 * LONGEST_PASSWORD])
    return HASHING.verify(normal, password_hash or NOBODYS) and password_hash is not None


def hashed_password(password: str, *, about: str) -> str:
    """Raises ValueError with what to do. `about`: as in `judge_password`."""
    return HASHING.hash(judge_password(password, about=about))


def one_time_password() -> str:
    """Four groups of five letters, easy to read aloud: 100 bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


def judge_password(password: str, *, about: str) -> str:
    """The password in the form that is hashed (NFKC). Raises ValueError with what to do.

    `about`: what it must not be made of, such as the e-mail address.
    """
    password = unicodedata.normalize("NFKC", password)
    if len(password) < SHORTEST_PASSWORD:
        raise ValueError(f"is too short: take at least {SHORTEST_PASSWORD} characters")
    if len(password) > LONGEST_PASSWORD:
        raise ValueError(f"is too long: at most {LONGEST_PASSWORD} characters")
    if len(set(password)) < 5 or password.casefold() in (about.casefold(), "passwordpassword"):
        raise ValueError("is too easy to guess: take a few words that don't belong together")
    return password
