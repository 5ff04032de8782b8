"""Whether something outside is away or we stumbled, and what a log may say of it."""

import traceback

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from temporalio.service import RPCError, RPCStatusCode

_AWAY = (
    *(RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED),  # a key that ran out
    *(RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED),
    *(RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.ABORTED, RPCStatusCode.UNKNOWN),
)


def is_away(problem: Exception) -> bool:
    """Whether it says that PostgreSQL or Temporal is away, rather than that we stumbled."""
    if isinstance(problem, RPCError):
        return problem.status in _AWAY
    # InternalError: what PostgreSQL says after it has ended a transaction that rested for too long.
    # A time-out is an OSError.
    return isinstance(problem, (OperationalError, InterfaceError, InternalError, OSError))


def where(problem: Exception) -> str:
    """For the log: not what it says, which may quote what a customer wrote."""
    frames = "".join(traceback.format_tb(problem.__traceback__))
    return f"{type(problem).__name__}\n{frames}"
