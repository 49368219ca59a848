"""The console's files, each by its name; for all else the page asks the services as JSON, with its user's key."""

import hashlib
from importlib.resources import files

from starlette.responses import Response
from starlette.routing import Route

from gateway.http.door import Call, Door, Handler

_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE = "index.html"
# Nothing but the page's own files is loaded or asked, and no text ever becomes markup or script, whatever a fault of
# the page's would do with it: a browser refuses both.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # Asked for again each time, and not sent again: a gateway of another version has other files.
    "cache-control": "no-cache",
}


def routes(door: Door) -> list[Route]:
    """The page at /console, and what it loads; open to all, as it knows nothing of anybody."""
    found = []
    for file in sorted((files("gateway.http.console") / "static").iterdir(), key=lambda file: file.name):
        suffix = file.name[file.name.rindex(".") :]
        path = "/console" if file.name == _PAGE else f"/console/{file.name}"
        found.append(door.route(path, _sender(file.read_bytes(), _TYPES[suffix]), needs_key=False))
    return found


def _sender(content: bytes, media_type: str) -> Handler:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = _HEADERS | {"etag": tag}

    async def send(call: Call) -> Response:
        known = [each.strip().removeprefix("W/") for each in call.request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return send
