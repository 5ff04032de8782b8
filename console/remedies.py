"""What a person at the console can do when something did not go.

The remedies of the API speak to programs, of headers and fields; most of them help nobody who looks
at a page. Those that do are told as they are.
"""

from collections.abc import Mapping
from typing import Any

from api.errors import EXPLAINED, Code

_AGAIN = "Wait a moment, then try again; nothing that was typed is lost."
_GONE = "The link may be old or cut short: search for it above, or begin at home."
_LOOK = "Load the page again: it shows how things stand now, and what can be done."
_REMEDIES: dict[Code, str] = {
    Code.INVALID_REQUEST: "Correct what is named here, then send it again.",
    Code.MALFORMED_FORM: "Load the page again, and send its form.",
    Code.UNKNOWN_PARAMETER: "Open the list anew, and choose its filters there.",
    Code.INVALID_CURSOR: "Open the list anew: this was a page of another one.",
    Code.INVALID_CSRF_TOKEN: "The page was open for long: look it over, then send it again.",
    Code.TOO_MANY_SIGN_INS: "Wait a few minutes, then try again.",
    Code.NOT_FOUND: _GONE,
    Code.UNKNOWN_ROUTE: _GONE,
    Code.UNKNOWN_CUSTOMER: _GONE,
    Code.UNKNOWN_ORDER: _GONE,
    Code.UNKNOWN_CASE: _GONE,
    Code.CONFLICT: _LOOK,
    Code.NOT_ALLOWED_NOW: _LOOK,
    Code.MILESTONE_OUT_OF_ORDER: _LOOK,
    Code.IMPOSSIBLE_DATE: "Choose a day that is neither before 1990 nor still to come.",
    Code.KEY_REUSED: "It was sent before with other content: look it over, then send it again.",
    Code.KEY_IN_USE: _AGAIN,
    Code.PRECONDITION_REQUIRED: _LOOK,
    Code.PRECONDITION_FAILED: "Look at what has changed, then send yours again or leave it.",
    Code.INTERNAL: "Try it once more; if it stays, give your operator the reference below.",
    Code.PROCESS_ENGINE_AWAY: _AGAIN,
    Code.PROCESS_BUSY: _AGAIN,
    Code.DATABASE_AWAY: _AGAIN,
}


def remedy(problem: Mapping[str, Any]) -> str:
    """A remedy that a screen has put there itself stands."""
    code, said = problem.get("code"), str(problem["remedy"])
    if code not in _REMEDIES or said != EXPLAINED[Code(code)].remedy:
        return said
    return _REMEDIES[Code(code)]
