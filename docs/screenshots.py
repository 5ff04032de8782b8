"""Takes the pictures of the README anew: `make screenshots`, against a running instance.

With `--console` those of every screen of the console instead, to be looked at.

It plays a few orders through the public API on a clock of their own, then looks at them as a person
would: in the API docs, the Temporal web UI, the inbox and the survey behind a mail's link.
"""

# ruff: noqa: T201  (a command prints)

import html
import re
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2

from docs.browser import NoPicture, Page, opened_browser
from docs.console_pictures import take_all
from domain.processes import delivery_workflow_id, lifecycle_workflow_id, order_id_of
from domain.tasks import Role
from replay.staff import demo_staff
from settings import Settings
from supervisor.errors import Refused
from supervisor.run_file import RunFile, running_instance

PICTURES = Path(__file__).resolve().parent / "pictures"
LARGEST = 250_000  # bytes
_DAY = 3.0  # seconds that a day of the story takes
_MONDAY = datetime.fromisoformat("2026-03-02T09:30:00+00:00")
_PATIENCE = 120.0


class Story:
    """One customer whose order comes late, and a few whose orders are on their way."""

    def __init__(self, run: RunFile) -> None:
        self._http = httpx2.Client(
            base_url=run.addresses.api,
            headers={"Authorization": f"Bearer {run.api_key}"},
            timeout=30,
        )
        self._inbox = run.addresses.inbox
        # Other ids on every run: a story can be told again on the same instance.
        self.name = f"story-{uuid4().hex[:6]}"
        speed = timedelta(days=1).total_seconds() / _DAY
        begun = self._post(
            "/api/v1/simulations",
            {"name": self.name, "business_origin": _MONDAY.isoformat(), "speed": speed},
        )
        self._simulation = begun["id"]

    def customer(self, reference: str, name: str) -> str:
        body = {
            "name": name,
            "email": f"{self.mailbox(reference)}@example.com",
            "simulation_id": self._simulation,
            "consents": [{"channel": "email", "purpose": "marketing", "source": "newsletter-form"}],
        }
        path = f"/api/v1/customers/by-reference/{self.name}:{reference}"
        answer = self._http.put(path, json=body)
        answer.raise_for_status()
        customer_id: str = answer.json()["id"]
        return customer_id

    def mailbox(self, reference: str) -> str:
        """Of this story only: an inbox that has seen others shows what belongs to it."""
        return f"{reference}.{self.name.removeprefix('story-')}"

    def report(self, kind: str, **fields: Any) -> None:
        event = {
            "event_id": f"{self.name}/{kind}/{uuid4().hex[:8]}",
            "source": self.name,
            "occurred_at": self._now(),
            "kind": kind,
            **fields,
        }
        self._post("/api/v1/events", event)

    def order(self, customer: str, reference: str, days: int, product: str) -> None:
        promised = datetime.fromisoformat(self._now()) + timedelta(days=days)
        self.report(
            "order_placed",
            customer_id=customer,
            order_reference=reference,
            total_minor=12_900,
            lines=[{"product": product, "price_minor": 12_900}],
            promised_on=f"{promised:%Y-%m-%d}",
        )

    def wait_for_message(self, customer: str, template: str) -> None:
        query = {"customer_id": customer, "template": template, "state": "accepted"}
        deadline = time.monotonic() + _PATIENCE
        while not self._get("/api/v1/messages", query)["items"]:
            if time.monotonic() > deadline:
                raise NoPicture(f"no {template} was sent to the customer within {_PATIENCE:.0f} s")
            time.sleep(0.3)

    def mail(self, reference: str, subject: str) -> str:
        """Where the customer's mail with such a subject is read."""
        listed = self._http.get(self._inbox, params={"to": self.mailbox(reference)}).text
        for path, found in re.findall(r'<a href="(/inbox/\d+)">([^<]*)</a>', listed):
            if subject in html.unescape(found):
                return str(self._http.base_url.join(path))
        raise NoPicture(f"no mail to {reference} has {subject!r} in its subject")

    def page(self, url: str) -> str:
        return html.unescape(self._http.get(url).text)

    def _now(self) -> str:
        found = self._get(f"/api/v1/simulations/{self._simulation}", {})
        now: str = found["business_now"]
        return now

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(path, json=body)
        if answer.is_error:
            raise NoPicture(f"POST {path}: {answer.text}")
        return answer.json()

    def _get(self, path: str, query: dict[str, str]) -> Any:
        answer = self._http.get(path, params=query)
        answer.raise_for_status()
        return answer.json()


def tell(story: Story) -> tuple[str, str]:
    """The customer and the order of the story, once the survey about it has been sent."""
    ada = story.customer("ada", "Ada Lovelace")
    for number, name in enumerate(("Grace Hopper", "Mary Somerville", "Emmy Noether"), start=2):
        other = story.customer(f"c{number}", name)
        story.order(other, f"A-100{number}", 20 + number, "Kettle")
    story.report("lead_received", customer_id=ada, campaign="spring")
    story.wait_for_message(ada, "marketing_welcome")
    story.order(ada, "A-1001", 6, "Desk lamp")
    story.report("order_approved", order_reference="A-1001")
    story.report("order_dispatched", order_reference="A-1001", carrier="Posta", tracking="PX-77")
    story.report("order_approved", order_reference="A-1002")
    story.wait_for_message(ada, "order_late")
    story.report("order_delivered", order_reference="A-1001")
    story.wait_for_message(ada, "survey_request")
    return ada, str(order_id_of(story.name, "A-1001"))


def take(run: RunFile, page: Page, story: Story, customer: str, order: str) -> None:
    """Each picture as a person would come to it; the clock runs, so what moves comes first."""
    lifecycle = _in_temporal(run, lifecycle_workflow_id(UUID(customer)))
    page.open(lifecycle, height=1060, showing="Follow-up of a delivery")
    page.press("Descending")  # it says how the list is; pressing it turns the list round
    _keep(page, "lifecycle")

    delivery = _in_temporal(run, delivery_workflow_id(UUID(order)))
    page.open(delivery, height=650, showing="record_delivered")
    page.press("Descending")
    page.scroll_down()
    _keep(page, "delivery")

    page.open(f"{run.addresses.inbox}?to={story.mailbox('ada')}", height=600, showing="A-1001")
    _keep(page, "inbox")
    page.open(story.mail("ada", "is late"), height=580, showing="A-1001")
    _keep(page, "mail")
    survey = re.search(r"https?://\S+/s/[\w.~-]+", story.page(story.mail("ada", "How did we")))
    if survey is None:
        raise NoPicture("the mail with the survey has no link to it")
    page.open(survey[0], height=290, showing="How did it go?")
    _keep(page, "survey")
    page.open(run.addresses.docs, height=760, showing="/api/v1/events")
    _keep(page, "api")


def take_console(run: RunFile, page: Page, customer: str) -> None:
    """The console's, as an administrator sees them."""
    console = run.addresses.console
    page.open(f"{console}/customers/{customer}", height=900, showing="Ada Lovelace")
    _keep(page, "customer")
    page.visit(f"{console}/messages?customer_id={customer}")
    told = [link for link in page.links() if re.fullmatch(r"/console/messages/[0-9a-f-]{36}", link)]
    page.visit(f"{run.addresses.api}{told[0]}", height=900)
    _keep(page, "message")
    cases: list[str] = []
    for state in ("", "&state=resolved", "&state=closed"):
        page.visit(f"{console}/cases?show=all{state}")
        cases += [one for one in page.links() if re.fullmatch(r"/console/cases/[0-9a-f-]{36}", one)]
    if not cases:
        raise NoPicture("there is no case to show: run it against `make demo`")
    page.visit(f"{run.addresses.api}{cases[0]}", height=900)
    _keep(page, "case")


def _in_temporal(run: RunFile, workflow_id: str) -> str:
    ui = f"{run.addresses.temporal_ui}/namespaces/{run.temporal_namespace}/workflows"
    return f"{ui}/{quote(workflow_id, safe='')}"


def _keep(page: Page, name: str) -> None:
    path = PICTURES / f"{name}.png"
    page.picture(path)
    if (size := path.stat().st_size) > LARGEST:
        raise NoPicture(f"{path.name} has {size:,} bytes, more than {LARGEST:,}: make it smaller")
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    run = running_instance(Settings.from_environment().data_dir.absolute())
    with opened_browser() as browser:
        if "--console" in sys.argv[1:]:
            directory = run.data_dir / "screens"
            print(f"{take_all(run, browser, directory)} pictures in {directory}")
            return
        staff = demo_staff(run)
        console = Page(browser)
        console.sign_in(run.addresses.console, staff.emails[Role.ADMIN], staff.password)
        console.visit(f"{run.addresses.console}/figures", height=900)  # of the demo, so far
        _keep(console, "figures")
        story = Story(run)
        print("playing the story; it takes about half a minute")
        customer, order = tell(story)
        take(run, Page(browser), story, customer, order)
        take_console(run, console, customer)


if __name__ == "__main__":
    try:
        main()
    except (NoPicture, Refused, httpx2.HTTPError) as problem:
        sys.exit(f"screenshots: {problem}")
