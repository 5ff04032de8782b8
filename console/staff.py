"""Staff accounts and the record of what everybody did."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from console.desk import AtDesk, Refused
from console.routes import ConsoleRoute
from domain.staff import PERMISSIONS, Permission
from domain.tasks import Role

router = APIRouter(route_class=ConsoleRoute)

StaffIdPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]


@router.get("/staff")
async def list_staff(desk: AtDesk) -> Response:
    desk.require(Permission.MANAGE_STAFF)
    people = await desk.get("/staff", limit=200, cursor=desk.filters("cursor").get("cursor"))
    return desk.page("staff/list.html", people=people, roles=list(Role), problem=None, typed={})


@router.post("/staff")
async def add_staff(desk: AtDesk) -> Response:
    """Make an account; its password is shown on the answer and never again."""
    typed = {name: desk.text(name) for name in ("id", "email", "name", "role")}
    try:
        made = await desk.act("POST", "/staff", typed)
    except Refused as refused:
        people = await desk.get("/staff", limit=200)
        return desk.page(
            "staff/list.html",
            status=refused.status,
            people=people,
            roles=list(Role),
            problem=refused.problem,
            typed=typed,
        )
    return desk.page("staff/password.html", made=made, said_why="The account is made")


@router.get("/staff/{staff_id}")
async def show_staff(desk: AtDesk, staff_id: StaffIdPath) -> Response:
    desk.require(Permission.MANAGE_STAFF)
    return desk.page(
        "staff/one.html",
        person=await desk.get(f"/staff/{staff_id}"),
        sessions=(await desk.get(f"/staff/{staff_id}/sessions"))["items"],
        roles=list(Role),
        permissions={role: sorted(PERMISSIONS[role]) for role in Role},
    )


@router.post("/staff/{staff_id}")
async def change_staff(desk: AtDesk, staff_id: StaffIdPath) -> Response:
    change = desk.given("name", "email", "role")
    await desk.act("PATCH", f"/staff/{staff_id}", change, version=desk.text("version"))
    return desk.back("Account changed", to=f"/console/staff/{staff_id}")


@router.post("/staff/{staff_id}/disabled")
async def disable_staff(desk: AtDesk, staff_id: StaffIdPath) -> Response:
    disabled = desk.text("disabled") == "yes"
    await desk.act("PATCH", f"/staff/{staff_id}", {"disabled": disabled}, version="*")
    said = "Account closed; its sessions have ended" if disabled else "Account open again"
    return desk.back(said, to=f"/console/staff/{staff_id}")


@router.post("/staff/{staff_id}/password")
async def reset_password(desk: AtDesk, staff_id: StaffIdPath) -> Response:
    made = await desk.act("POST", f"/staff/{staff_id}/password-resets")
    return desk.page("staff/password.html", made=made, said_why="The password is a new one")


@router.post("/staff/{staff_id}/sessions")
async def end_sessions(desk: AtDesk, staff_id: StaffIdPath) -> Response:
    ended = await desk.act("DELETE", f"/staff/{staff_id}/sessions")
    return desk.back(f"{ended['ended']} sessions ended", to=f"/console/staff/{staff_id}")


@router.get("/audit")
async def show_audit(desk: AtDesk) -> Response:
    filters = desk.filters("staff_id", "target", "cursor")
    actions = await desk.get("/staff-actions", **filters)
    return desk.page("staff/audit.html", actions=actions)
