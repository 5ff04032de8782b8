"""What our sending is measured beside is aiosmtplib with the very bytes that we sent."""

from benchmarks.messages import hand_over_bare, newest_mails
from messaging.provider import OutgoingMessage
from messaging.smtp import SmtpAccount, SmtpProvider
from tests.messaging.post_office import PostOffice

SELLING = OutgoingMessage(
    effect="e",
    message_id="m@perennial.example",
    address="ada@example.com",
    name="Ada Łovelace",
    subject="We miss you",
    text="Hello\n.\n",
    html="<p>Hello</p>",
    unsubscribe_url="https://crm.example.com/u/token",
    return_path="bounce+token@mail.example",
    reply_to="reply+token@mail.example",
)


async def test_bare_sends_the_envelope_and_the_bytes_of_ours(post_office: PostOffice) -> None:
    account = SmtpAccount("127.0.0.1", post_office.port, "Us <us@perennial.example>")
    ours = SmtpProvider(account)
    await ours.send(SELLING)
    await ours.close()
    mails = newest_mails(post_office.path, 1)
    await hand_over_bare(post_office.port, mails)
    bare, sent = newest_mails(post_office.path, 2)
    assert bare == sent
    assert sent.sender == SELLING.return_path
    for header in (b"List-Unsubscribe: <", b"List-Unsubscribe-Post: ", b"Reply-To: reply+token@"):
        assert header in sent.raw
