"""Every table, imported: what Alembic and the tests look at."""

from database import (
    customers,
    delivery_reports,
    events,
    feedback,
    messages,
    orders,
    policies,
    processes,
    promises,
    reactions,
    received_mails,
    received_texts,
    staff,
    support,
    tasks,
    templates,
    timeline,
)
from database.base import Base
from database.search import prepare_search

prepare_search(Base.metadata)

__all__ = [
    "Base",
    "customers",
    "delivery_reports",
    "events",
    "feedback",
    "messages",
    "orders",
    "policies",
    "processes",
    "promises",
    "reactions",
    "received_mails",
    "received_texts",
    "staff",
    "support",
    "tasks",
    "templates",
    "timeline",
]
