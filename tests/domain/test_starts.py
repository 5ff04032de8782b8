"""Why a process would not start, said beforehand."""

import pytest

from domain.messages import Channel
from domain.processes import ProcessKind
from domain.starts import StartFacts, obstacle

_SELLING = (ProcessKind.MARKETING, ProcessKind.RETENTION)
_EMAIL = frozenset({Channel.EMAIL})
_WILLING = StartFacts(agrees=_EMAIL, reachable=_EMAIL)


@pytest.mark.parametrize("kind", _SELLING)
def test_selling_starts_with_consent_and_an_address_for_it(kind: ProcessKind) -> None:
    assert obstacle(kind, _WILLING) == ""
    assert "no consent" in obstacle(kind, StartFacts(reachable=_EMAIL))
    sms = frozenset({Channel.SMS})
    assert "no address for sms" in obstacle(kind, StartFacts(agrees=sms, reachable=_EMAIL))
    assert obstacle(kind, StartFacts(agrees=sms | _EMAIL, reachable=_EMAIL)) == ""


@pytest.mark.parametrize("kind", _SELLING)
def test_selling_waits_for_what_is_going_on(kind: ProcessKind) -> None:
    others = frozenset(ProcessKind) - {kind}
    assert obstacle(kind, _WILLING._replace(running=others)) == ""
    assert "running" in obstacle(kind, _WILLING._replace(running=frozenset({kind})))
    assert "recovery" in obstacle(kind, _WILLING._replace(recovering=True))
    assert "paused" in obstacle(kind, _WILLING._replace(paused=True))


def test_a_customer_may_always_be_helped() -> None:
    hard = StartFacts(running=frozenset(ProcessKind), recovering=True, paused=True)
    assert obstacle(ProcessKind.SUPPORT, hard) == ""
