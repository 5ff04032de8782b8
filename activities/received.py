"""Takes in what comes back from outside: what was stored when it arrived is acted on here."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from temporalio import activity
from temporalio.client import Client

from activities.delivery_reports import take_in_reports
from activities.received_mail import take_in_mail
from activities.received_texts import take_in_texts
from database.base import Sessions
from domain.delivery_reports import ReportKind
from domain.messages import IntakeCounts, IntakeRound

_FASTEST_LOOK, _SLOWEST_LOOK = 0.1, 1.0  # seconds between two looks that find nothing


@dataclass(frozen=True)
class ReceivedActivities:
    sessions: Sessions
    client: Client
    signing_key: bytes  # of the tokens in the addresses that mail comes back to

    @activity.defn
    async def take_in(self, request: IntakeRound) -> IntakeCounts:
        """Take in whatever arrives for as long as the request says; answers with the counts.

        May be killed at any moment, run again, or twice at the same time: what one has locked the
        other leaves alone. Temporal repeats it while PostgreSQL or Temporal itself is away.
        """
        over = time.monotonic() + request.lasts.total_seconds()
        counts, pause = IntakeCounts(), _FASTEST_LOOK
        while time.monotonic() < over and not activity.is_worker_shutdown():
            activity.heartbeat(counts)
            found = await self._turn()
            counts = counts.plus(found)
            if found != IntakeCounts():
                pause = _FASTEST_LOOK
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _SLOWEST_LOOK)
        return counts

    async def _turn(self) -> IntakeCounts:
        """Once around all that may have arrived."""
        mails = await take_in_mail(self.sessions, self.client, self.signing_key)
        texts = await take_in_texts(self.sessions, self.client)
        reports = _counted(await take_in_reports(self.sessions, self.client))
        return reports.plus(IntakeCounts(mails=len(mails), texts=len(texts)))


def _counted(kinds: list[ReportKind]) -> IntakeCounts:
    of = Counter(kinds)
    return IntakeCounts(
        reports=len(kinds),
        delivered=of[ReportKind.DELIVERED],
        bounced=of[ReportKind.BOUNCED],
        complained=of[ReportKind.COMPLAINED],
    )
