"""A real headless Chromium, a little code to search, and pages that notice what must not happen in them."""

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from console_page import CODEBASE, FILES, HOSTILE, HOSTILE_FILES, Console, Witness
from playwright.async_api import Browser, Dialog, async_playwright

from gateway.client.client import Client
from gateway.client.indexer import index_tree
from gateway.local.stack import Stack

# As root it has no sandbox of its own; the rest keeps it from asking for what is not there.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium: Playwright's own builds are in no registry."""
    executable = shutil.which("chromium")
    assert executable is not None, "the console's tests need Chromium: `make browser`, or Debian's package chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS])
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def indexed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """An administrator's client of a service that holds both codebases."""
    with Client(stack.endpoint, api_key=stack.api_key) as client:
        for codebase, files in ((CODEBASE, FILES), (HOSTILE, HOSTILE_FILES)):
            root = tmp_path_factory.mktemp(codebase)
            for name, content in files.items():
                path = root / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(content)
            index_tree(client, root, codebase)
        yield client
        for codebase in (CODEBASE, HOSTILE):
            client.delete_codebase(codebase)


@pytest.fixture
async def console(browser: Browser, stack: Stack, indexed: Client) -> AsyncIterator[Console]:
    """A new tab, in which in the end nothing was run that the page did not bring, and nothing failed."""
    witness = Witness()
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    page = await context.new_page()
    page.on("pageerror", lambda error: witness.seen.append(f"error: {error}"))
    page.on("console", witness.console)

    async def refuse(dialog: Dialog) -> None:
        witness.dialog(dialog)
        await dialog.dismiss()

    page.on("dialog", refuse)
    await page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error('violation', event.violatedDirective))"
    )
    yield Console(page, f"http://{stack.http_endpoint}/console", stack.api_key, witness)
    await context.close()
    assert witness.seen == []
