"""Staff by the API: roles, sessions, and the record of what each did."""

import asyncio
import hashlib
import json
from datetime import timedelta
from uuid import uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.deps import CSRF_HEADER, SAFE_METHODS, SESSION_COOKIE
from api.routing import needed_permission
from api.sign_in import new_session
from database.base import Sessions
from database.events import IdempotentAnswer
from database.queries.staff import blocked_for, find_signed_in, hashed, note_failure
from database.staff import SignInFailure, Staff, StaffAction, StaffSession
from domain.passwords import hashed_password, is_right, judge_password, one_time_password
from domain.staff import (
    FIRST_WAIT,
    FREE_FAILURES,
    LONGEST_WAIT,
    PERMISSIONS,
    Permission,
    wait_after,
)
from domain.tasks import Role
from tests.api.conftest import MakeCustomer, assert_problem

Json = dict[str, object]


async def _made(api: httpx2.AsyncClient, role: Role) -> str:
    staff_id = f"{role.replace('_', '-')}-{uuid4().hex[:8]}"
    body = {"id": staff_id, "email": f"{staff_id}@example.com", "name": "Ana", "role": role}
    answer = await api.post("/api/v1/staff", json=body)
    assert answer.status_code == 201, answer.text
    assert_problem(await api.post("/api/v1/staff", json=body), 409, "conflict")
    return staff_id


async def _signed_in(
    app: FastAPI,
    sessions: Sessions,
    staff_id: str,
    *,
    one_time: bool = False,
    address: str = "127.0.0.1",
) -> httpx2.AsyncClient:
    async with sessions.begin() as session:
        staff = await session.get_one(Staff, staff_id)
        staff.one_time_password = one_time
        token = await new_session(session, staff_id, "tests")
        signed_in = await find_signed_in(session, token)
    assert signed_in is not None
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False, client=(address, 1)),
        base_url="http://crm",
        cookies={SESSION_COOKIE: token},
        headers={CSRF_HEADER: signed_in.session.csrf_token},
    )


def test_what_changes_something_says_who_may(app: FastAPI) -> None:
    """Without it only programs may; those are written down here."""
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    undeclared = {
        route.endpoint.__name__
        for route in routes
        if isinstance(route, APIRoute)
        and route.path_format.startswith("/")
        and not SAFE_METHODS.issuperset(route.methods or ())
        and route.endpoint.__module__.startswith("api.")
        and needed_permission(route.endpoint) is None
    }
    pages = {"confirm_consent", "change_preferences", "answer_survey", "unsubscribe_customer"}
    webhooks = {"take_resend_event", "take_twilio_event", "take_twilio_text"}
    programs = {
        *("report_event", "upsert_customers", "start_simulation"),
        *("take_received_mail", "take_received_text"),
    }
    assert undeclared == pages | webhooks | programs


def test_every_permission_belongs_to_somebody() -> None:
    assert set.union(*map(set, PERMISSIONS.values())) == set(Permission)
    assert all(Permission.READ in may for may in PERMISSIONS.values())
    assert Permission.MANAGE_STAFF not in PERMISSIONS[Role.MANAGER]


async def test_a_role_does_what_it_may_and_signs_with_its_own_id(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    customer = await make_customer()
    rep = await _made(api, Role.SALES_REP)
    async with await _signed_in(app, sessions, rep) as client:
        me = (await client.get("/api/v1/staff/me")).json()
        assert me["id"] == rep
        assert set(me["permissions"]) == PERMISSIONS[Role.SALES_REP]
        refused = await client.post("/api/v1/policies/delivery", json={"document": {}})
        assert_problem(refused, 403, "forbidden")
        case = {"kind": "support", "customer_id": str(customer), "text": "x"}
        key = {"Idempotency-Key": uuid4().hex}
        assert_problem(
            await client.post("/api/v1/processes", json=case, headers=key), 403, "forbidden"
        )
        assert_problem(await client.get("/api/v1/staff-actions"), 403, "forbidden")
        assert_problem(await client.post("/api/v1/events", json={}), 403, "forbidden")

        seen = await client.get(f"/api/v1/customers/{customer}")
        changed = await client.patch(
            f"/api/v1/customers/{customer}",
            json={"name": "Ada King"},
            headers={"If-Match": seen.headers["etag"]},
        )
        assert changed.status_code == 200, changed.text
    async with sessions() as session:
        action = (
            await session.scalars(sa.select(StaffAction).where(StaffAction.staff_id == rep))
        ).one()
    assert action.operation == "change_customer"
    assert action.target == f"/customers/{customer}"
    assert action.before == {"name": "Ada Lovelace"}
    assert action.after == {"name": "Ada King"}

    admin = await _made(api, Role.ADMIN)
    async with await _signed_in(app, sessions, admin) as client:
        policy = (await client.get("/api/v1/policies/delivery")).json()["current"]
        body = {"document": policy["document"], "by": rep}
        assert_problem(await client.post("/api/v1/policies/delivery", json=body), 403, "forbidden")
        body = {"document": policy["document"], "replaces": policy["version"] + 5}
        stale = await client.post("/api/v1/policies/delivery", json=body)
        assert assert_problem(stale, 412, "precondition_failed")["current"] == policy
        listed = await client.get("/api/v1/staff-actions", params={"staff_id": rep})
        assert [one["operation"] for one in listed.json()["items"]] == ["change_customer"]


@pytest.mark.parametrize("role", list(Role))
async def test_only_who_manages_staff_reads_their_addresses(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, role: Role
) -> None:
    new, other = await _made(api, role), await _made(api, Role.ADMIN)
    async with await _signed_in(app, sessions, other) as admin:
        body = {"email": f"changed-{new}@example.com", "name": "Zoe"}
        path, match = f"/api/v1/staff/{new}", {"If-Match": "*"}
        assert (await admin.patch(path, json=body, headers=match)).status_code == 200
    async with await _signed_in(app, sessions, new) as client:
        listed = await client.get("/api/v1/staff", params={"limit": 200})
        one = await client.get(path)
        done = await client.get(
            "/api/v1/staff-actions", params={"target": path.removeprefix("/api/v1")}
        )
    manages = Permission.MANAGE_STAFF in PERMISSIONS[role]
    assert [one.json()] == [row for row in listed.json()["items"] if row["id"] == new]
    for answer in (listed, one, done):
        assert ("@example.com" in answer.text) is manages
    if not manages:
        assert one.json() == {"id": new, "name": "Zoe", "role": role, "enabled": True}
    assert done.is_error or done.json()["items"][0]["after"]["name"] == "Zoe"


async def test_nobody_signs_as_somebody_else(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    manager = await _made(api, Role.MANAGER)
    claim = {
        "id": f"signed_{uuid4().hex[:8]}",
        "wordings": {"en": "Ten years of guarantee."},
        "evidence": "price list",
        "expires_on": "2099-12-31",
    }
    claims, learnings = "/api/v1/marketing-claims", f"/api/v1/orders/{uuid4()}/learnings"
    learned = {"kind": "preference", "name": "colour", "value": "blue", "author": "agent-7"}
    async with await _signed_in(app, sessions, manager) as client:
        assert_problem(await client.post(learnings, json=learned), 403, "forbidden")
        refused = await client.post(claims, json={**claim, "approved_by": "agent-7"})
        assert_problem(refused, 403, "forbidden")
        signed = await client.post(claims, json=claim)
    assert signed.status_code == 201, signed.text
    assert signed.json()["approved_by"] == manager


async def test_without_its_token_a_session_changes_nothing(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    async with await _signed_in(app, sessions, await _made(api, Role.ADMIN)) as client:
        for token in ("", "x"):
            answer = await client.delete(
                f"/api/v1/saved-views/{uuid4()}", headers={CSRF_HEADER: token}
            )
            assert_problem(answer, 403, "invalid_csrf_token")
        answer = await client.delete(f"/api/v1/saved-views/{uuid4()}")
        assert_problem(answer, 404, "not_found")


async def test_a_password_for_once_opens_nothing_else(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    staff_id = await _made(api, Role.ADMIN)
    once = (await api.post(f"/api/v1/staff/{staff_id}/password-resets")).json()["password"]
    async with await _signed_in(app, sessions, staff_id, one_time=True) as client:
        assert_problem(await client.get("/api/v1/customers"), 403, "password_change_required")
        others = await client.delete(f"/api/v1/staff/{await _made(api, Role.OPS)}/sessions")
        assert_problem(others, 403, "forbidden")
        mine = one_time_password()
        body = {"current_password": "wrong", "new_password": mine}
        wrong = await client.post("/api/v1/staff/me/password", json=body)
        assert_problem(wrong, 422, "invalid_request")
        body = {"current_password": once, "new_password": mine}
        assert (await client.post("/api/v1/staff/me/password", json=body)).status_code == 200
        assert (await client.get("/api/v1/customers")).status_code == 200
    async with sessions() as session:
        recorded = (
            await session.scalars(sa.select(StaffAction).where(StaffAction.staff_id == staff_id))
        ).all()
    assert [one.after for one in recorded] == [{}]  # no password is kept


async def test_an_open_session_does_not_find_out_its_password(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    """Neither by the API with and without a key, nor by the page; the sign-in waits with it."""
    staff_id = await _made(api, Role.OPS)
    once = (await api.post(f"/api/v1/staff/{staff_id}/password-resets")).json()["password"]
    body = {"current_password": "wrong", "new_password": one_time_password()}
    change = "/api/v1/staff/me/password"
    sent = {"email": f"{staff_id}@example.com", "password": once}
    address, elsewhere = uuid4().hex, uuid4().hex
    from_elsewhere = httpx2.ASGITransport(app, client=(elsewhere, 1))
    async with (
        await _signed_in(app, sessions, staff_id, address=address) as client,
        httpx2.AsyncClient(transport=from_elsewhere, base_url="http://crm") as stranger,
    ):
        typed = {**body, "repeated_password": body["new_password"]}
        typed["csrf_token"] = client.headers[CSRF_HEADER]
        for _ in range(FREE_FAILURES - 2):
            assert_problem(await client.post(change, json=body), 422, "invalid_request")
        keyed = await client.post(change, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert_problem(keyed, 422, "invalid_request")
        assert (await client.post("/console/password", data=typed)).status_code == 422
        right = {**body, "current_password": once}
        waits = await client.post(change, json=right)
        assert_problem(waits, 429, "too_many_sign_ins")
        assert 0 < int(waits.headers["retry-after"]) <= FIRST_WAIT.total_seconds()
        page = await client.post("/console/password", data={**typed, "current_password": once})
        assert page.status_code == 429
        assert "try again in" in page.text
        assert (await stranger.post("/console/sign-in", data=sent)).status_code == 429
        async with sessions.begin() as session:  # it has waited
            await session.execute(sa.update(SignInFailure).values(blocked_until=sa.func.now()))
        assert (await client.post(change, json=right)).status_code == 200
    async with sessions() as session:
        known = hashed(f"account {staff_id}@example.com")
        assert await session.get(SignInFailure, known) is None
        noted = await session.get(SignInFailure, hashed(f"address {address}"))
    assert noted is not None
    assert noted.failures == FREE_FAILURES  # the page's too: of the person, not of the server


async def test_many_guesses_at_once_count_one_after_the_other(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    staff_id = await _made(api, Role.OPS)
    address = uuid4().hex
    transport = httpx2.ASGITransport(app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://crm") as stranger:

        async def status(password: str) -> int:
            sent = {"email": f"{staff_id}@example.com", "password": password}
            return (await stranger.post("/console/sign-in", data=sent)).status_code

        guesses = await asyncio.gather(*(status(f"guess {n}") for n in range(12)))
        assert sorted(guesses) == [401] * FREE_FAILURES + [429] * (12 - FREE_FAILURES)


async def test_signing_in_takes_no_failure_of_others_away_and_adds_none(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    staff_id = await _made(api, Role.OPS)
    once = (await api.post(f"/api/v1/staff/{staff_id}/password-resets")).json()["password"]
    address = uuid4().hex
    transport = httpx2.ASGITransport(app, client=(address, 1))
    about = sa.select(SignInFailure.failures, SignInFailure.blocked_until).where(
        SignInFailure.subject == hashed(f"address {address}")
    )
    long_ago = sa.func.now() - timedelta(hours=20)
    async with httpx2.AsyncClient(transport=transport, base_url="http://crm") as browser:
        nobody = {"email": f"{uuid4().hex}@example.com", "password": "wrong"}
        assert (await browser.post("/console/sign-in", data=nobody)).status_code == 401
        async with sessions.begin() as session:
            mine = sa.update(SignInFailure).where(
                SignInFailure.subject == hashed(f"address {address}")
            )
            await session.execute(mine.values(blocked_until=long_ago))
            before = (await session.execute(about)).one()
        sent = {"email": f"{staff_id}@example.com", "password": once}
        assert (await browser.post("/console/sign-in", data=sent)).status_code == 303
    async with sessions() as session:
        assert (await session.execute(about)).one() == before


async def test_no_password_stays_with_the_answer_to_a_key(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    staff_id = await _made(api, Role.OPS)
    path, key = f"/api/v1/staff/{staff_id}/password-resets", {"Idempotency-Key": uuid4().hex}
    once = (await api.post(path, headers=key)).json()["password"]
    assert_problem(await api.post(path, headers=key), 409, "conflict")
    async with await _signed_in(app, sessions, staff_id, one_time=True) as client:
        body = {"current_password": once, "new_password": one_time_password()}
        for _ in range(2):
            changed = await client.post("/api/v1/staff/me/password", json=body, headers=key)
            assert changed.status_code == 200, changed.text
    async with sessions() as session:
        kept = sa.select(IdempotentAnswer).where(IdempotentAnswer.key == key["Idempotency-Key"])
        answers = (await session.scalars(kept)).all()
    guess = json.dumps(body, sort_keys=True).encode() + b"?"
    assert len(answers) == 2
    assert hashlib.sha256(guess).hexdigest() not in {one.fingerprint for one in answers}
    assert not [one for one in answers if once in json.dumps(one.body)]


async def test_a_session_ends_at_once(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    staff_id = await _made(api, Role.OPS)

    async def seen(client: httpx2.AsyncClient) -> int:
        return (await client.get("/api/v1/customers", params={"limit": 1})).status_code

    async with await _signed_in(app, sessions, staff_id) as client:
        assert await seen(client) == 200
        assert (await api.delete(f"/api/v1/staff/{staff_id}/sessions")).json() == {"ended": 1}
        assert await seen(client) == 401
    async with await _signed_in(app, sessions, staff_id) as client:
        async with sessions.begin() as session:  # it has rested for too long
            await session.execute(
                sa.update(StaffSession)
                .where(StaffSession.staff_id == staff_id)
                .values(seen_at=sa.func.now() - timedelta(hours=13))
            )
        assert await seen(client) == 401
    async with await _signed_in(app, sessions, staff_id) as client:
        account = await api.get(f"/api/v1/staff/{staff_id}")
        match = {"If-Match": account.headers["etag"]}
        closed = await api.patch(
            f"/api/v1/staff/{staff_id}", json={"disabled": True}, headers=match
        )
        assert closed.json()["disabled_at"]
        assert await seen(client) == 401
        again = await api.patch(f"/api/v1/staff/{staff_id}", json={"name": "B"}, headers=match)
        assert_problem(again, 412, "precondition_failed")


async def test_a_page_that_looks_by_itself_keeps_no_session_awake(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    staff_id = await _made(api, Role.OPS)

    async def seen_again(client: httpx2.AsyncClient, **headers: str) -> bool:
        long_ago = sa.func.now() - timedelta(hours=1)
        mine = sa.update(StaffSession).where(StaffSession.staff_id == staff_id)
        async with sessions.begin() as session:
            await session.execute(mine.values(seen_at=long_ago))
        assert (await client.get("/api/v1/staff/me", headers=headers)).status_code == 200
        async with sessions() as session:
            lately = StaffSession.seen_at > sa.func.now() - timedelta(minutes=1)
            return bool(await session.scalar(sa.select(lately).filter_by(staff_id=staff_id)))

    async with await _signed_in(app, sessions, staff_id) as client:
        assert not await seen_again(client, **{"X-Unattended": "yes"})
        assert not await seen_again(client, Accept="text/event-stream")
        assert await seen_again(client)


async def test_views_are_kept_for_oneself_or_for_all(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    mine, other = await _made(api, Role.SALES_REP), await _made(api, Role.OPS)
    async with (
        await _signed_in(app, sessions, mine) as me,
        await _signed_in(app, sessions, other) as they,
    ):
        body = {"screen": "customers", "name": f"silent {mine}", "query": "stage=retention"}
        kept = (await me.post("/api/v1/saved-views", json=body)).json()
        shared = {**body, "name": f"all {mine}", "shared": True}
        await me.post("/api/v1/saved-views", json=shared)
        seen = (await they.get("/api/v1/saved-views", params={"screen": "customers"})).json()
        assert shared["name"] in [one["name"] for one in seen["items"]]
        assert body["name"] not in [one["name"] for one in seen["items"]]
        refused = await they.delete(f"/api/v1/saved-views/{kept['id']}")
        assert_problem(refused, 404, "not_found")
        assert (await me.delete(f"/api/v1/saved-views/{kept['id']}")).status_code == 200


async def test_somebody_who_manages_staff_stays(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    admin = await _made(api, Role.ADMIN)
    async with sessions.begin() as session:
        others = sa.update(Staff).where(Staff.role == Role.ADMIN, Staff.id != admin)
        await session.execute(others.values(disabled_at=sa.func.now()))
    for change in ({"disabled": True}, {"role": "ops"}):
        refused = await api.patch(f"/api/v1/staff/{admin}", json=change, headers={"If-Match": "*"})
        assert_problem(refused, 409, "conflict")


async def test_two_administrators_cannot_close_each_other(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    one, other = await _made(api, Role.ADMIN), await _made(api, Role.ADMIN)
    async with sessions.begin() as session:
        rest = sa.update(Staff).where(Staff.role == Role.ADMIN, Staff.id.not_in([one, other]))
        await session.execute(rest.values(disabled_at=sa.func.now()))
    async with sessions.begin() as session:  # as a request that is not committed yet
        closing = sa.update(Staff).where(Staff.id == one).values(disabled_at=sa.func.now())
        await session.execute(closing)
        path, match = f"/api/v1/staff/{other}", {"If-Match": "*"}
        meanwhile = asyncio.create_task(api.patch(path, json={"disabled": True}, headers=match))
        await asyncio.wait([meanwhile], timeout=0.5)
    assert_problem(await meanwhile, 409, "conflict")


@pytest.mark.parametrize("taken", ["api", "me"])
async def test_nobody_is_called_as_programs_are(api: httpx2.AsyncClient, taken: str) -> None:
    body = {"id": taken, "email": f"{uuid4().hex}@example.com", "name": "Ana", "role": "ops"}
    assert_problem(await api.post("/api/v1/staff", json=body), 422, "invalid_request")


def test_waiting_grows_with_failures() -> None:
    assert wait_after(FREE_FAILURES - 1) == timedelta(0)
    waits = [wait_after(n) for n in range(FREE_FAILURES, 40)]
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT


async def test_failures_of_long_ago_count_no_more(sessions: Sessions) -> None:
    about = f"account {uuid4().hex}"
    async with sessions.begin() as session:
        for _ in range(FREE_FAILURES):
            await note_failure(session, about)
        assert await blocked_for(session, [about]) > 0
        await session.execute(
            sa.update(SignInFailure)
            .where(SignInFailure.subject == hashed(about))
            .values(blocked_until=sa.func.now() - timedelta(hours=25))
        )
        await note_failure(session, about)
        assert await blocked_for(session, [about]) == 0


@pytest.mark.parametrize(
    "word", ["short", "x" * 300, "aaaaaaaaaaaaaa", "ana.lima@example.com", "ababababababab"]
)
def test_a_password_that_is_guessed_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is too"):
        judge_password(word, about="ana.lima@example.com")


def test_a_password_is_known_by_its_hash_alone() -> None:
    """Composed otherwise on another keyboard it is the same (NFKC)."""
    known = hashed_password("caf\u00e9 au lait, no sugar", about="x")
    assert is_right("cafe\u0301 au lait, no sugar", known)
    assert not is_right("cafe au lait, no sugar", known)
    assert not is_right("caf\u00e9 au lait, no sugar", None)
