"""Text messages through Twilio's REST API (twilio.com/docs/messaging/api/message-resource).

It knows no idempotency key: an answer that got lost leaves the outcome unknown until a delivery
report settles it, or the class of the message.
"""

from http import HTTPStatus
from typing import Any

import httpx2

from messaging.http_provider import (
    LONGEST_ANSWER,
    HttpProvider,
    fields_of,
    out_of_reach,
    retry_after,
)
from messaging.provider import Answer, Outcome, OutgoingMessage

# twilio.com/docs/api/errors
_OPTED_OUT = 21610  # answered STOP
_NO_SUCH_NUMBER = (21211, 21614, 21635)  # not a number, not a mobile one, a landline
_OURS = (20003, 21603, 21606, 21609, 21611, 63038)  # login, sender, callback, queue or day full
_LONGEST_TEXT = 1600  # characters


class TwilioProvider(HttpProvider):
    """`sender` is a number, a name, or the SID of a messaging service (MG…).

    `reports_to` is where Twilio posts what becomes of a message; empty: nowhere. Its address must
    be one that Twilio can reach.
    """

    name = "twilio"

    def __init__(
        self,
        url: str,
        account_sid: str,
        auth_token: str,
        sender: str,
        reports_to: str = "",
        **limits: Any,
    ) -> None:
        super().__init__(url, login=(account_sid, auth_token), **limits)
        self._path = f"/2010-04-01/Accounts/{account_sid}/Messages.json"
        self._sender = {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}
        self._reports_to = reports_to

    def _request(self, message: OutgoingMessage) -> httpx2.Request | Answer:
        if not (message.address.startswith("+") and message.address[1:].isdecimal()):
            return Answer(Outcome.PERMANENT, "not a phone number", bad_address=True)
        text = message.text.strip()
        if not 0 < len(text) <= _LONGEST_TEXT:
            raise ValueError(f"it has {len(text)} characters, and may have {_LONGEST_TEXT}")
        form = {**self._sender, "To": message.address, "Body": text}
        if self._reports_to:
            form["StatusCallback"] = f"{self._reports_to}?effect={message.effect}"
        return self._client.build_request("POST", self._path, data=form)

    def _answer(self, response: httpx2.Response) -> Answer:
        fields = fields_of(response)
        code = fields.get("code")
        told = fields.get("sid") or f"{code or ''} {fields.get('message', '')}"
        said = " ".join(f"{response.status_code} {told}".split())[:LONGEST_ANSWER]
        match response.status_code:
            case status if response.is_success:
                return Answer(Outcome.ACCEPTED, said)
            case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
                return out_of_reach(said, retry_after(response))
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN | HTTPStatus.NOT_FOUND:
                return out_of_reach(said)
            case _ if code in _OURS:
                return out_of_reach(said)
            case status if 400 <= status < 500:
                refused = code in _NO_SUCH_NUMBER or code == _OPTED_OUT
                return Answer(Outcome.PERMANENT, said, bad_address=refused)
        return Answer(Outcome.UNKNOWN, said, nobody=True)
