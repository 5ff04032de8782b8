"""Names of failures that retrying cannot cure, which workflows and the API match on; and what a log
may say of the others.
"""

import traceback
from enum import StrEnum


class Refusal(StrEnum):
    UNKNOWN_CUSTOMER = "unknown_customer"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_CASE = "unknown_case"
    NOT_ALLOWED_NOW = "not_allowed_now"


def where(problem: BaseException) -> str:
    """For the log: not what it says, which may quote what a customer or a colleague wrote."""
    frames = "".join(traceback.format_tb(problem.__traceback__))
    return f"{type(problem).__name__}\n{frames}"
