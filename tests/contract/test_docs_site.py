"""The documentation's site is built without a warning, loads nothing from elsewhere, and shows all there is."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from deployed_commands import APPS, check_command
from docs_pages import APART, DOCS, NOT_RUN, OUTPUT, OWN_TERMINAL, ROOT, Block, blocks, pages
from test_help import ALL

from duovec.v1.error_reason_pb2 import ErrorReason
from gateway.settings import Settings

BLOCKS = [block for page in pages() for block in blocks(page)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does: broken links, missing anchors and pages outside of the navigation are errors."""
    output = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        # Not --quiet, which keeps the warnings from `--strict`, too.
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", output],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return output


class _Loaded(HTMLParser):
    """What a browser fetches for a page, what the page links to, and the places that may be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in {"canonical", "next", "prev"}:
            self.fetched.append(values["href"])
        elif "src" in values:
            self.fetched.append(values["src"])


def documents(site: Path) -> dict[Path, _Loaded]:
    return {path: _Loaded(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    """Pages and style sheets: the site works without a network. Mermaid alone would be fetched by the theme."""
    found = documents(site)
    assert len(found) > 40
    assert [one for page in found.values() for one in page.fetched if urlsplit(one).netloc] == []
    sheets = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [url for sheet in sheets for url in re.findall(r"url\(\s*[\"']?(https?:[^)]*)", sheet)] == []
    assert [path for path in found if 'class="mermaid"' in path.read_text(encoding="utf-8")] == []


def test_every_link_leads_to_a_place_that_is_there(site: Path) -> None:
    """Also those in HTML and in generated pages, which MkDocs does not look at."""
    found = documents(site)
    broken = []
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in found[target].ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


@pytest.mark.parametrize("page", pages())
def test_files_that_a_page_names_exist(page: str) -> None:
    """Names in backquotes that begin with one of our folders, and tests, which are in `tests/faults` without one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:deploy|docs|export|gateway|protos|tests|training)/[^`\s]*)`", text)
    named += [f"tests/faults/{name}" for name in re.findall(r"`(test_\w+\.py)`", text)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def text_of(site: Path, page: str) -> str:
    return (site / f"{page}.html").read_text(encoding="utf-8")


def test_the_references_are_whole(site: Path) -> None:
    """Every setting, reason, command and service is where it is looked for."""
    settings, errors = text_of(site, "reference/settings"), text_of(site, "reference/errors")
    assert [name for name in Settings.model_fields if f"DUOVEC_{name.upper()}" not in settings] == []
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert [name for name in reasons if f">{name}<" not in errors] == []
    commands = text_of(site, "reference/cli/duovec")
    assert [words for words in ALL if f"{' '.join(words)}<" not in commands] == []
    protos = {path.stem for path in (ROOT / "protos" / "duovec" / "v1").glob("*.proto")}
    assert {path.stem for path in (site / "reference" / "grpc").glob("*.html")} == protos | {"index"}


def test_every_metric_is_on_the_page(site: Path) -> None:
    """Those that the collector names, and those that alerts and dashboards ask for, as they ask."""
    shown = set(re.findall(r"<code>(duovec_\w+)</code>", text_of(site, "operations/observe")))
    source = (ROOT / "gateway" / "telemetry" / "collector.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(duovec_\w+)"', source))
    assert len(named) > 30
    assert [name for name in named if not {name, f"{name}_total"} & shown] == []
    deployed = [ROOT / "deploy/prometheus/alerts.yml", *(ROOT / "deploy/grafana/dashboards").glob("*.json")]
    asked = {name for path in deployed for name in re.findall(r"\bduovec_\w+", path.read_text(encoding="utf-8"))}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= shown


def test_a_variable_says_who_reads_it(site: Path) -> None:
    """A setting that commands read, too, and what clients read by themselves, whatever program they are in."""
    text = text_of(site, "reference/settings")
    rows = {
        re.sub("<[^>]+>", "", cells[0]): re.sub("<[^>]+>", "", cells[2])
        for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
        if len(cells := re.findall(r"<td>(.*?)</td>", row, re.DOTALL)) == 3
    }
    clients = "duovec, duovec-batch, duovec-train, gateway.client"
    assert rows["DUOVEC_DATABASE_URL"] == "duovec-train, the gateway"
    assert rows["DUOVEC_API_KEY"] == rows["DUOVEC_CA_FILE"] == clients
    assert rows["DUOVEC_ALLOW_INSECURE"] == f"{clients}, the gateway"


def test_a_setting_says_what_it_may_be(site: Path) -> None:
    """Limits and defaults come from the field itself."""
    found = text_of(site, "reference/settings").split('id="duovec_max_pending_tokens"')[1].split("<h3")[0]
    plain = re.sub(r"<[^>]+>", "", found)
    assert "whole number, from 1,024 to 1,073,741,824; default 262144" in plain
    assert "above it: RESOURCE_EXHAUSTED" in plain


def test_every_block_is_of_a_kind_that_tests_know() -> None:
    """A command that is neither run nor says why would be believed."""
    odd = []
    for block in BLOCKS:
        known = {
            "bash": block.is_run or block.title.startswith(NOT_RUN) or block.title == OWN_TERMINAL,
            "python": block.is_file,
            "toml": block.is_file,
            "json": bool(block.title),
            "text": block.title == OUTPUT,
        }
        if not known.get(block.language, False):
            odd.append(f"docs/{block.page}:{block.line}")
    assert odd == []
    assert set(APART) <= set(pages())


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.title.startswith(NOT_RUN) or "duovec up" in block.source],
    ids=lambda block: f"{block.page}:{block.line}",
)
def test_what_is_not_run_parses(block: Block) -> None:
    """Programs of ours, and targets of the Makefile."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in block.commands():
        if words[0] in APPS:
            check_command(words)
        elif words[0] == "make":
            assert set(words[1:]) <= set(targets)
