"""Whether something outside is away or we stumbled."""

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
