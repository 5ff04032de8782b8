"""Names of failures that retrying cannot cure; workflows and the API match on these."""

from enum import StrEnum


class Refusal(StrEnum):
    UNKNOWN_CUSTOMER = "unknown_customer"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_CASE = "unknown_case"
    NOT_ALLOWED_NOW = "not_allowed_now"
