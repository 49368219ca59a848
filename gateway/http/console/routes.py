"""The console's files, each by its name; for all else the page asks the services as JSON, with its user's key."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Self

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from gateway.http.door import Call, Door

_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
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


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> Self:
        return cls(content, _TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def reply(self, call: Call) -> Response:
        """The file, or that the browser has it."""
        headers = _HEADERS | {"etag": self.tag}
        known = [each.strip().removeprefix("W/") for each in call.request.headers.get("if-none-match", "").split(",")]
        if self.tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def routes(door: Door) -> list[Route]:
    """The page at /console, and what it loads; open to all, as it knows nothing of anybody."""
    folder = files("gateway.http.console") / "static"
    found = {file.name: _File.of(file.name, file.read_bytes()) for file in folder.iterdir()}
    page = found.pop(_PAGE)

    async def send_page(call: Call) -> Response:
        return page.reply(call)

    async def send_file(call: Call) -> Response:
        file = found.get(call.request.path_params["name"])
        if file is None:
            raise HTTPException(404, "the console has no such file")
        return file.reply(call)

    return [
        door.route("/console", send_page, needs_key=False),
        door.route("/console/{name}", send_file, needs_key=False),
    ]
