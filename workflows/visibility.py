"""What an operator sees and filters by in the Temporal web UI: ids and words, nothing personal."""

from datetime import datetime
from uuid import UUID

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

CUSTOMER_ID = SearchAttributeKey.for_keyword("CustomerId")
PROCESS = SearchAttributeKey.for_keyword("Process")
STAGE = SearchAttributeKey.for_keyword("Stage")
OWNER = SearchAttributeKey.for_keyword("Owner")
DUE_AT = SearchAttributeKey.for_datetime("DueAt")


def search_attributes(
    customer_id: UUID, process: str, stage: str = "starting", due_at: datetime | None = None
) -> TypedSearchAttributes:
    """The attributes a process starts with; `due_at` is machine time."""
    pairs = [
        SearchAttributePair(CUSTOMER_ID, str(customer_id)),
        SearchAttributePair(PROCESS, process),
        SearchAttributePair(STAGE, stage),
    ]
    if due_at is not None:
        return TypedSearchAttributes([*pairs, SearchAttributePair(DUE_AT, due_at)])
    return TypedSearchAttributes(pairs)
