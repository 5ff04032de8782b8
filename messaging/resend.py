"""E-mail through Resend's HTTP API, or any with its shape (resend.com/docs/api-reference).

Each request carries an idempotency key: for 24 hours a repeat of the same request is answered as
the first was and sends nothing. So a lost answer is found out by asking again. The key is chosen,
and kept with the claim, by activities/message_claims.py.
"""

from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx2

from messaging.compose import (
    BadAddress,
    check_header,
    check_subject,
    headers_of,
    recipient_of,
    sender_header,
)
from messaging.http_provider import (
    LONGEST_ANSWER,
    HttpProvider,
    fields_of,
    out_of_reach,
    retry_after,
)
from messaging.provider import Answer, Outcome, OutgoingMessage

# A fault of ours that a person must mend: key, domain, address of the API. Messages wait for it.
_OURS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
)
_OUR_FAULTS = ("missing_api_key", "invalid_api_key", "invalid_from_address")


class ResendProvider(HttpProvider):
    """`mail_from` is "Name <address>", for messages whose stream has no sender of its own."""

    name = "resend"
    # The provider keeps the key for 24 hours; one is for clocks, and for requests under way.
    repeat_within = timedelta(hours=23)

    def __init__(self, url: str, api_key: str, mail_from: str, **limits: Any) -> None:
        super().__init__(url, headers={"Authorization": f"Bearer {api_key}"}, **limits)
        self._mail_from = mail_from

    def _request(self, message: OutgoingMessage) -> httpx2.Request | Answer:
        try:
            recipient = str(recipient_of(message))
        except BadAddress as problem:
            return Answer(Outcome.PERMANENT, str(problem), bad_address=True)
        sender = message.sender or self._mail_from
        sender_header(sender)  # raises when it is none
        check_subject(message.subject)
        check_header("Reply-To", message.reply_to)
        body = {
            "from": sender,
            "to": [recipient],
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "reply_to": message.reply_to,
            "headers": headers_of(message),
            "tags": [{"name": "effect", "value": message.effect}],
        }
        return self._client.build_request(
            "POST",
            "/emails",
            json={name: value for name, value in body.items() if value},
            headers={"Idempotency-Key": message.key},
        )

    def _answer(self, response: httpx2.Response) -> Answer:
        fields = fields_of(response)
        name = str(fields.get("name", ""))
        said = f"{response.status_code} {name} {fields.get('id') or fields.get('message', '')}"
        said = " ".join(said.split())[:LONGEST_ANSWER]
        status = response.status_code
        if response.is_success:
            return Answer(Outcome.ACCEPTED, said)
        if name == "invalid_idempotent_request":
            words = "taken before for the same address, in other words"
            return Answer(Outcome.ACCEPTED, f"{words}: {said}")
        if status == HTTPStatus.CONFLICT:  # our own first request is still being looked at
            return Answer(Outcome.UNKNOWN, said, retry_after(response))
        if status == HTTPStatus.TOO_MANY_REQUESTS or status in _OURS or name in _OUR_FAULTS:
            return out_of_reach(said, retry_after(response))
        if response.is_client_error:
            bad_address = name == "validation_error" and "`to`" in said
            return Answer(Outcome.PERMANENT, said, bad_address=bad_address)
        return Answer(Outcome.UNKNOWN, said, retry_after(response), nobody=True)
