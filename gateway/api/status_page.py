"""`GET /`: the status page. Static files that need no token; the page asks for one and keeps it for its own session."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from gateway.api.admin.call import Asked, Call, Handler

_FOLDER = Path(__file__).parent / "dashboard"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
FILES = {"/": "index.html", "/dashboard/page.css": "page.css", "/dashboard/page.js": "page.js"}

HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_calls() -> tuple[Call, ...]:
    """One call for each file; they are read once."""
    return tuple(Call("GET", path, None, _file(_FOLDER / name)) for path, name in FILES.items())


def _file(path: Path) -> Handler:
    content, kind = path.read_bytes(), _KINDS[path.suffix]

    async def show(asked: Asked) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return show
