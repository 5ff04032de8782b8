"""`uvicorn benchmarks.bare_pages:app`: FastAPI answers the bytes it was given, and does nothing."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

app = FastAPI()
_pages = {"ready": b"{}"}


@app.put("/{name}", status_code=204)
async def keep_page(name: str, request: Request) -> None:
    _pages[name] = await request.body()


@app.get("/{name}")
async def show_page(name: str) -> Response:
    return Response(_pages[name], media_type="application/json")
