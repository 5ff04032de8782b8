"""Finds a user PostgreSQL can run as: it refuses root, and we may have been started as root."""

import os
import pwd
from pathlib import Path

from supervisor.children import User
from supervisor.errors import Refused

_CANDIDATES = ("postgres", "nobody")
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAP_SETPCAP = 8


def user_for_postgres(existing: Path, must_reach: list[Path]) -> User | None:
    """None: run as ourselves. As root: the owner of `existing`, else a system user.

    A path under a directory closed to others (a clone in /root, a temporary directory) is reached
    with the one capability that lets that user search directories; where the container does not
    have it, the start is refused.
    """
    owner = existing.stat() if existing.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise Refused(
                f"{existing} belongs to user {_name(owner.st_uid)}: start as that user, "
                "or set CRM_DATA_DIR to a directory of yours"
            )
        return None
    if owner is not None and owner.st_uid == 0:
        raise Refused(
            f"{existing} belongs to root and PostgreSQL does not run as root: "
            f"give it away with `chown -R {_name(_system_user().uid)} {existing}`"
        )
    user = User(owner.st_uid, owner.st_gid) if owner else _system_user()
    blocked = next((b for path in must_reach if (b := _blocked_at(path, user))), None)
    if blocked is None:
        return user
    capability = _capability_to_search()
    if capability is None:
        raise Refused(
            f"PostgreSQL does not run as root and user {_name(user.uid)} may not enter {blocked}: "
            "start as an ordinary user, or move the checkout and CRM_DATA_DIR to a place "
            "others may enter"
        )
    return user._replace(capability=capability)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _system_user() -> User:
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid)
    raise Refused(
        "PostgreSQL does not run as root and there is no user postgres or nobody: "
        "start as an ordinary user"
    )


def _blocked_at(path: Path, user: User) -> Path | None:
    """The first directory on the way to `path` that `user` may not search."""
    for directory in [*reversed(path.absolute().parents), path.absolute()]:
        if not directory.is_dir():
            break
        found = directory.stat()
        bit = 0o100 if found.st_uid == user.uid else 0o010 if found.st_gid == user.gid else 0o001
        if not found.st_mode & bit:
            return directory
    return None


def _capability_to_search() -> int | None:
    """The least capability we can hand on that opens directories closed to others."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    ours = next(int(fields[1], 16) for fields in lines if fields and fields[0] == "CapEff:")
    if not ours & (1 << _CAP_SETPCAP):
        return None
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if ours & (1 << capability):
            return capability
    return None
