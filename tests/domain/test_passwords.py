"""What a password costs whoever guesses it."""

from pwdlib import PasswordHash

from domain.passwords import NOBODYS


def test_a_guess_costs_what_rfc_9106_recommends_whether_or_not_the_account_exists(
    usual_hashing: PasswordHash,
) -> None:
    known = usual_hashing.hash("cafe au lait, no sugar")
    assert known.startswith("$argon2id$v=19$m=65536,t=3,p=4$")  # §4, the second recommended option
    assert [*map(len, known.split("$"))] == [*map(len, NOBODYS.split("$"))]
    assert known.split("$")[:4] == NOBODYS.split("$")[:4]
    assert not usual_hashing.verify("cafe au lait, no sugar", NOBODYS)
