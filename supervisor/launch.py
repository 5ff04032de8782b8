"""Becomes a child of the supervisor: drops privileges, ties its life to the parent's, then execs.

Run as a script (`python -I -S launch.py OPTIONS -- COMMAND…`) so that none of this happens between
fork and exec of a process that has threads. Only the standard library, and little of that.
"""

import ctypes
import os
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522


def become_user(uid: int, gid: int, capability: int) -> None:
    """Leave root for good, keeping at most one capability (-1: none) across the exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    if capability >= 0:
        # Without this bit access(2) ignores capabilities, and PostgreSQL asks it for its binaries.
        _check(libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability >= 0:
        bits = 1 << capability
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
        _check(libc.capset(ctypes.byref(header), ctypes.byref(sets)))
        _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def yield_to_others(niceness: int) -> None:
    """Run at a lower priority, as nice(1).

    Linux shares the processors between sessions first (autogroup, sched(7)), and in each by
    niceness; a child is a session of its own, so the session is what must be nice.
    """
    os.nice(niceness)
    for _ in range(30):
        try:
            with open("/proc/self/autogroup", "w") as session:
                session.write(str(niceness))
        except BlockingIOError:  # whoever isn't root may do it ten times a second, all together
            time.sleep(0.1)
        except OSError:
            return  # a kernel without it
        else:
            return


def die_with_parent(parent: int, signal: int) -> None:
    """Ask the kernel for `signal` when the parent goes. Must follow any change of user."""
    if sys.platform == "linux":
        _check(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0))
    if os.getppid() != parent:  # it went before we asked
        sys.exit(1)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(arguments: list[str]) -> None:
    separator = arguments.index("--")
    parent, signal, uid, gid, capability, niceness = map(int, arguments[:separator])
    command = arguments[separator + 1 :]
    if uid >= 0:
        become_user(uid, gid, capability)
    if niceness:
        yield_to_others(niceness)
    die_with_parent(parent, signal)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
