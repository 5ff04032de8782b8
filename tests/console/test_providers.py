"""Each provider account as operators see it: what it serves, how fast, and what it has put off."""

from datetime import date

from console.providers import provider_lines
from domain.policies import SendingPolicy


def test_a_provider_says_what_it_serves_how_fast_and_what_it_put_off() -> None:
    policy = SendingPolicy.model_validate(
        {
            "marketing": {"email": ["resend", "smtp"]},
            "resend": {"per_second": 5.0, "warm_up_from": "2026-11-20", "warm_up_start": 864.0},
        }
    )
    refusing = [("resend", 12, 3), ("twilio", 1, 1)]
    lines = {one.name: one for one in provider_lines(policy, refusing, date(2026, 11, 21))}
    assert set(lines) == {"smtp", "resend", "local_sms", "twilio"}
    resend = lines["resend"]
    assert (resend.serves, resend.per_second) == (["marketing by email"], 5.0)
    assert round(resend.selling_per_second * 86_400) == 2 * 864
    assert (resend.put_off, resend.tries) == (12, 3)
    assert lines["smtp"].serves[-1] == "marketing by email, after resend"
    assert (lines["smtp"].per_second, lines["smtp"].put_off) == (0.0, 0)
    assert (lines["twilio"].serves, lines["twilio"].put_off) == ([], 1)
