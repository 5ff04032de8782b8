"""What marketing may claim: approved by a manager, seen by who writes, renewed and withdrawn."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from fastapi import FastAPI

from api.deps import CSRF_HEADER
from database.base import Sessions
from database.templates import TemplateVersion
from domain.messages import Template
from domain.tasks import Role
from tests.console.conftest import calling_as, post_form


def _day(days: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


async def test_a_claim_is_approved_used_renewed_and_withdrawn(
    app: FastAPI, sessions: Sessions
) -> None:
    claim = f"free_{uuid4().hex[:8]}"
    path = f"/console/claims/{claim}"
    typed = {
        "id": claim,
        **{"locale_1": "en", "wording_1": "Free <b>delivery</b>"},
        **{"locale_2": "pt-BR", "wording_2": "Frete grátis"},
        "evidence": "price list 2026, page 3",
    }
    async with calling_as(app, sessions, Role.MANAGER) as manager:
        refused = await post_form(manager, "/console/claims", **typed, expires_on="soon")
        assert refused.status_code == 422
        assert "/expires_on" in refused.text
        assert 'value="Frete grátis"' in refused.text, "nothing typed is lost"
        made = (await post_form(manager, "/console/claims", **typed, expires_on=_day(10))).text
        assert "Approved: a template says it by {{ claims." + claim in made
        assert "Free &lt;b&gt;delivery&lt;/b&gt;" in made
        assert "Soon" in made
        async with sessions.begin() as session:
            session.add(
                TemplateVersion(
                    template=Template.WIN_BACK,
                    number=900_000,
                    locale="de",
                    subject="",
                    body_text="",
                    body_mjml="",
                    claims=[claim],
                    author="agent-7",
                )
            )
        assert "/console/templates/win_back/versions/900000" in (await manager.get(path)).text

        stale = await post_form(manager, path, expires_on=_day(400), version="7")
        assert stale.status_code == 412
        renewed = (await post_form(manager, path, expires_on=_day(400), version="1")).text
        assert f"May be claimed until {_day(400)}" in renewed
        over = (await post_form(manager, path, expires_on=_day(-1), version="2")).text
        assert "May not be claimed any more" in over
        assert "Withdraw claim" not in over
        undo = {"expires_on": _day(400), "evidence": typed["evidence"], "version": "3"}
        for name, value in undo.items():
            assert f'name="{name}" value="{value}"' in over
        assert "Withdraw claim" in (await post_form(manager, path, **undo)).text
        assert (await manager.get("/console/claims/none")).status_code == 404

    async with calling_as(app, sessions, Role.ACCOUNT_MANAGER) as writer:
        listed = (await writer.get("/console/claims")).text
        assert claim in listed
        assert "Approve a claim" not in listed
        assert "Approve until that day" not in (await writer.get(path)).text
        assert (await writer.get("/console/approve-claim")).status_code == 403
        form = {"csrf_token": writer.headers[CSRF_HEADER], "key": uuid4().hex}
        answer = await writer.post(path, data={**form, "expires_on": _day(1)})
        assert answer.status_code == 403
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        assert (await rep.get(path)).status_code == 403
