"""The files of the console as they are sent: their headers, what is not there, and what no script of it does."""

import re
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from importlib.resources import files

import pytest

from gateway.local.stack import Stack

FILES = {file.name: file.read_text("utf-8") for file in (files("gateway.http.console") / "static").iterdir()}
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))


class Site:
    """One connection."""

    def __init__(self, endpoint: str) -> None:
        self.connection = HTTPConnection(endpoint, timeout=30)

    def get(self, path: str, verb: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        self.connection.request(verb, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        reply = self.connection.getresponse()
        return reply, reply.read()


@pytest.fixture
def site(stack: Stack) -> Iterator[Site]:
    site = Site(stack.http_endpoint)
    yield site
    site.connection.close()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_is_sent_as_what_it_is_and_runs_nothing_else(site: Site, name: str) -> None:
    """Without a key, for it knows nothing of anybody; a browser is told to refuse all that is not the page's own."""
    reply, body = site.get("/console" if name == "index.html" else f"/console/{name}")
    assert (reply.status, body.decode()) == (200, FILES[name])
    assert reply.headers["content-type"].startswith(TYPES[name.split(".")[-1]])
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    policy = reply.headers["content-security-policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} <= set(policy)
    assert not re.search(r"unsafe|https?:|\*|data:|blob:", reply.headers["content-security-policy"])
    assert "set-cookie" not in reply.headers
    assert "access-control-allow-origin" not in reply.headers


def test_what_a_browser_has_is_not_sent_again(site: Site) -> None:
    """It asks each time: a gateway of another version has other files."""
    reply, _ = site.get("/console/app.js")
    assert reply.headers["cache-control"] == "no-cache"
    tag = reply.headers["etag"]
    reply, body = site.get("/console/app.js", if_none_match=f'"another", W/{tag}')
    assert (reply.status, body, reply.headers["etag"]) == (304, b"", tag)
    reply, body = site.get("/console/app.js", if_none_match='"another"')
    assert (reply.status, body.decode()) == (200, FILES["app.js"])
    other, _ = site.get("/console/dom.js")
    assert other.headers["etag"] != tag
    head, body = site.get("/console/app.js", verb="HEAD")
    assert (head.status, body, head.headers["etag"]) == (200, b"", tag)


@pytest.mark.parametrize(
    "path",
    [
        "/console/",
        "/console/none.js",
        "/console/index.html",
        "/console/../http/door.py",
        "/console/%2e%2e/routes.py",
        "/console/..%2froutes.py",
        "/console/routes.py",
        "/console//etc/passwd",
        "/console/app.js/",
        "/console/app.js%00",
    ],
)
def test_what_is_no_file_of_it_is_not_found(site: Site, path: str) -> None:
    """Files are looked up by name in what was read at the start; no path leads anywhere else."""
    assert site.get(path)[0].status == 404


def test_it_is_only_read(site: Site) -> None:
    assert site.get("/console", verb="POST")[0].status == 405


def test_the_page_loads_what_is_there_and_has_nothing_inline() -> None:
    """The policy would refuse it; and every file is asked for by another."""
    page = FILES["index.html"]
    loaded = {name.removeprefix("console/") for name in re.findall(r'(?:src|href)="([^"#]+)"', page)}
    assert loaded <= set(FILES)
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", page)
    imported = {name for script in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', FILES[script])}
    assert imported <= set(FILES)
    assert loaded | imported | {"index.html"} == set(FILES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_text(name: str) -> None:
    """What comes from code, paths and people goes in as text; and nothing of another's is loaded."""
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|import\(",
        FILES[name],
    )
    # Names of namespaces and sources of ideas are no addresses that are asked.
    addresses = set(re.findall(r"https?://[^\s\"')]+", FILES[name]))
    assert addresses <= {"http://www.w3.org/2000/svg", "https://trojansource.codes"}
    assert len(FILES[name].splitlines()) <= 320
