"""What customers were sent, as a document of its own: in a frame that runs and fetches nothing."""

from fastapi.responses import HTMLResponse

_NOTHING_RUNS = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


def mail_frame(html: str) -> HTMLResponse:
    """Pictures and everything else from elsewhere stay away: nobody learns that staff looked."""
    return HTMLResponse(html, headers=_NOTHING_RUNS)
