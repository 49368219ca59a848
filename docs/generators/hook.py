"""What MkDocs calls while it builds the site: pages that are made from the code, and text that lies elsewhere."""

import re
from pathlib import Path

from alert_table import alert_table
from benchmark_pages import benchmark_page, embedding_table
from command_pages import command_pages
from error_page import error_page
from metric_table import metric_table
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from proto_pages import proto_pages
from settings_page import settings_page

ROOT = Path(__file__).parents[2]
# Documents of the repository that are pages of the site, too: where they lie, and where they stand.
WHOLE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "DECISIONS.md": "project/decisions.md",
    "deploy/SCALING.md": "operations/scale.md",
    "deploy/SECURITY.md": "operations/security.md",
}
# Tables that are made from files stand where these comments do.
TABLES = {
    "<!-- alerts -->": alert_table,
    "<!-- embedding table -->": embedding_table,
    "<!-- metrics -->": metric_table,
}
DRAWING = re.compile(r"^<!-- drawing (?P<path>\S+) -->$", re.MULTILINE)
INCLUDE = re.compile(
    r"^<!-- include (?P<path>\S+) # (?P<heading>[^#]+?)(?: # (?P<first>.+) … (?P<after>.+))? -->$", re.MULTILINE
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files in `docs`."""
    pages = {
        "benchmarks.md": benchmark_page(),
        "reference/errors.md": error_page(),
        "reference/settings.md": settings_page(),
        **command_pages(),
        **proto_pages(),
        **{uri: _adopted(path) for path, uri in WHOLE.items()},
    }
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in sections of other documents, and drawings.

    `<!-- include PATH # HEADING -->` is a section; `<!-- include PATH # HEADING # FIRST … AFTER -->` what is in it
    from the line that begins with FIRST up to the one that begins with AFTER. A drawing is part of its page, so that it
    has the page's colours: `<!-- drawing PATH -->`.
    """
    del page, config, files
    markdown = DRAWING.sub(lambda match: (ROOT / match["path"]).read_text(encoding="utf-8"), markdown)
    for place, made in TABLES.items():
        if place in markdown:
            markdown = markdown.replace(place, made())
    return INCLUDE.sub(_included, markdown)


def _included(match: re.Match[str]) -> str:
    text = section(match["path"], match["heading"])
    if match["first"] is None:
        return text
    part = re.search(
        rf"^{re.escape(match['first'])}.*?(?=^{re.escape(match['after'])})", text, re.MULTILINE | re.DOTALL
    )
    if part is None:
        raise ValueError(f"{match['path']} has nothing in {match['heading']!r} from {match['first']!r}")
    return part[0]


def section(path: str, heading: str) -> str:
    """The text below a second-level heading of a document of the repository, without the heading.

    Raises:
        ValueError: The document has no such heading, or several.
    """
    parts = re.split(r"^## (.+)\n", _adopted(path), flags=re.MULTILINE)
    found = [text for title, text in zip(parts[1::2], parts[2::2], strict=True) if title == heading]
    if len(found) != 1:
        raise ValueError(f"{path} has {len(found)} sections {heading!r}")
    return found[0].strip()


def _adopted(path: str) -> str:
    """A document of the repository, its links to other files as names: the site has only some of them."""
    text = (ROOT / path).read_text(encoding="utf-8")
    # A test's file and name in one would be wider than a column.
    text = re.sub(r"`([^`\s]+)::(\w+)`", r"`\1`: `\2`", text)
    # Python-Markdown takes a list only after an empty line, GitHub also without one.
    text = re.sub(r"^(?![-|#>\s])(.+)\n(?=- )", r"\1\n\n", text, flags=re.MULTILINE)
    return re.sub(r"\[([^]]+)\]\((?!https?://|#)[^)]+\)", r"`\1`", text)
