"""`console.<screen>.p95_ms`: what a person waits for a screen, at the size of a large installation.

Beside each a bare page of FastAPI answers the same bytes, and nothing else, in the same run.
"""

import asyncio
import json
import os
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx2
import psycopg

from api.deps import SESSION_COOKIE
from benchmarks.installation import Installation
from database.queries.staff import hashed
from replay.fill.filling import Size, fill
from supervisor.postgres_url import libpq_url

FULL, QUICK = Size(), Size(2_000, 6_000, 20_000)
_TIMES, _WARM_UP = 60, 5

# The screens: under their names the paths they are at. {customer} and {name} are of one that was
# filled. What begins with /console is a page, as it comes to an administrator.
SCREENS = {
    "page_home": "/console",
    "page_customers": "/console/customers",
    "page_customers_found": "/console/customers?q=mul",
    "page_customer_360": "/console/customers/{customer}",
    "page_orders": "/console/orders",
    "page_orders_late": "/console/orders?tab=late",
    "page_orders_board": "/console/orders?view=board",
    "page_cases": "/console/cases",
    "page_tasks": "/console/tasks",
    "page_messages": "/console/messages",
    "page_processes": "/console/processes",
    "page_feedback": "/console/feedback",
    "page_figures": "/console/figures",
    "page_journey": "/console/customers/{customer}/journey",
    "page_search": "/console/search?q={name}",
    "page_palette_as_typed": "/console/palette?q=mul",
    "customers": "/api/v1/customers",
    "customers_by_name": "/api/v1/customers?sort=name",
    "customers_in_support": "/api/v1/customers?stage=support&sort=-stage_since",
    "customers_silent": "/api/v1/customers?sort=silence_due_at",
    "customers_with_consent": "/api/v1/customers?consent=email/marketing",
    "customers_found": "/api/v1/customers?q=mul",
    "customers_misspelt": "/api/v1/customers?q=nihtingale",
    "customer": "/api/v1/customers/{customer}",
    "timeline": "/api/v1/customers/{customer}/timeline",
    "orders": "/api/v1/orders",
    "orders_at_risk": "/api/v1/orders?at_risk=true&sort=promised_on",
    "orders_overdue": "/api/v1/orders?overdue=true",
    "orders_returned": "/api/v1/orders?state=returned",
    "cases": "/api/v1/cases?state=open",
    "cases_urgent": "/api/v1/cases?priority=urgent",
    "tasks": "/api/v1/tasks?state=open&role=support_agent",
    "tasks_overdue": "/api/v1/tasks?overdue=true",
    "messages": "/api/v1/messages",
    "messages_held": "/api/v1/messages?state=held",
    "messages_bounced": "/api/v1/messages?state=bounced",
    "messages_by_text": "/api/v1/messages?channel=sms",
    "processes": "/api/v1/processes",
    "processes_late": "/api/v1/processes?kind=delivery&state=running&step=late",
    "feedback": "/api/v1/feedback?verdict=detractor",
    "search_name": "/api/v1/search?q={name}",
    "search_two_letters": "/api/v1/search?q=ma",
    "search_misspelt": "/api/v1/search?q=nihtingale",
    "search_nothing": "/api/v1/search?q=xylophonist",
    "search_order": "/api/v1/search?q=FILL-O-0000",
    "search_script": "/api/v1/search?q=%E6%B8%A1%E8%BE%BA",
    "search_phone": "/api/v1/search?q=7700900",
    "search_tasks": "/api/v1/search?q=!{name}",
}


class _Measured(NamedTuple):
    p50_ms: float
    p95_ms: float
    body: bytes


async def measure_console(
    installation: Installation, say: Callable[[str], None], size: Size
) -> dict[str, Any]:
    """By screen: p50_ms, p95_ms, bytes, and the bare page's p95_ms."""
    say(f"console: {size.customers} customers, {size.orders} orders, {size.lines} lines")
    begun = time.perf_counter()
    await asyncio.to_thread(_fill, installation.database_url, size)
    figures: dict[str, Any] = {"fill_s": round(time.perf_counter() - begun, 1)}
    known = await asyncio.to_thread(_somebody, installation.database_url)
    token = await asyncio.to_thread(_sign_in, installation.database_url)
    headers = {"Authorization": f"Bearer {installation.api_key}"}
    with installation.api() as address, installation.bare_pages() as bare:
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as program,
            httpx2.AsyncClient(cookies={SESSION_COOKIE: token}, timeout=30) as person,
        ):
            for screen, path in SCREENS.items():
                client = person if path.startswith("/console") else program
                seen = await _measure(client, address + path.format(**known))
                await client.put(f"{bare}/{screen}", content=seen.body)
                beside = await _measure(client, f"{bare}/{screen}")
                figures[screen] = {
                    "p50_ms": seen.p50_ms,
                    "p95_ms": seen.p95_ms,
                    "bytes": len(seen.body),
                    "bare_p95_ms": beside.p95_ms,
                }
                say(f"console.{screen}: {json.dumps(figures[screen])}")
    return figures


def _fill(url: str, size: Size) -> None:
    fill(
        *(url, size),
        seed=1,
        now=datetime.now(UTC),
        processes=os.cpu_count() or 1,
        beside_real=False,
        progress=lambda *_: None,
    )


def _somebody(url: str) -> dict[str, str]:
    """The customer with the longest timeline."""
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute(
            "SELECT c.id, split_part(c.name, ' ', 1) FROM customers c JOIN ("
            " SELECT customer_id FROM timeline GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
            ") t ON t.customer_id = c.id"
        ).fetchone()
    assert row is not None
    return {"customer": str(row[0]), "name": str(row[1])}


def _sign_in(url: str) -> str:
    """The token of a session of an administrator."""
    token = secrets.token_urlsafe()
    with psycopg.connect(libpq_url(url)) as connection:
        connection.execute(
            "INSERT INTO staff (id, email, name, role, password_hash, one_time_password, version)"
            " VALUES ('bench', 'bench@example.com', 'Bench', 'admin', '', false, 1)"
        )
        connection.execute(
            "INSERT INTO staff_sessions (token_hash, csrf_token, staff_id, browser, expires_at)"
            " VALUES (%s, '', 'bench', '', now() + interval '1 day')",
            (hashed(token),),
        )
    return token


async def _measure(client: httpx2.AsyncClient, url: str) -> _Measured:
    took = []
    for _ in range(_WARM_UP + _TIMES):
        begun = time.perf_counter()
        answer = await client.get(url)
        took.append(1000 * (time.perf_counter() - begun))
        if not answer.is_success:
            sys.exit(f"{url} answered {answer.status_code}: {answer.text[:200]}")
    took = took[_WARM_UP:]
    p95 = statistics.quantiles(took, n=20)[-1]
    return _Measured(round(statistics.median(took), 1), round(p95, 1), answer.content)
