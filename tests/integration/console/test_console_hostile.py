"""Keys, names and code that mean harm: said or shown as what they are, and nothing of them is run."""

import pytest
from console_page import CODEBASE, HOSTILE, HOSTILE_FILES, IMAGE_NAME, TURNED_NAME, Console
from playwright.async_api import Error

from gateway.client.client import Client
from gateway.local.stack import Stack


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("wrong", "API key"),
        ("duovec_aaaaaaaaaaaa_" + "0" * 64, "The API key is not one of this service's"),
        ("<img src=x onerror=alert(1)>", "API key"),
    ],
)
async def test_a_wrong_key_is_refused_in_the_services_words(console: Console, key: str, words: str) -> None:
    """And not kept."""
    console.witness.expected = ("401",)
    page = console.page
    await page.goto(console.url)
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    assert words in await page.get_by_role("alert").inner_text()
    assert await page.get_by_role("button", name="Sign out").count() == 0
    assert await page.evaluate("JSON.stringify([sessionStorage, localStorage])") == "[{},{}]"


async def test_the_tab_alone_holds_the_key(console: Console) -> None:
    """It survives a reload, and is in no cookie, no address, and no other tab."""
    page = console.page
    await console.sign_in()
    await console.show(f"search?in={CODEBASE}&q=socket")
    await page.reload()
    await page.locator(".hit").first.wait_for()
    assert await page.evaluate("Object.values(sessionStorage)") == [console.api_key]
    assert await page.evaluate("[document.cookie, JSON.stringify(localStorage)]") == ["", "{}"]
    assert console.api_key not in page.url
    other = await page.context.new_page()
    await other.goto(console.url)
    await other.get_by_label("API key").wait_for()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("API key").wait_for()
    assert await page.evaluate("JSON.stringify(sessionStorage)") == "{}"
    assert await page.locator(".hit").count() == 0


async def test_a_key_that_is_revoked_ends_the_session(console: Console, indexed: Client) -> None:
    console.witness.expected = ("401", "403")
    indexed.access.create_principal("console-leaver")
    indexed.access.set_grant(CODEBASE, "console-leaver", "read")
    key = indexed.access.create_api_key("console-leaver").key
    await console.sign_in(key)
    await console.show(f"search?in={CODEBASE}&q=socket")
    assert await console.texts("#top nav a") == ["Search", "Map", "Codebases", "Quality"]  # what takes no administrator
    await console.show(f"quality?codebase={CODEBASE}")
    assert "takes the role OWNER" in await console.page.get_by_role("alert").inner_text()
    await console.show(f"search?in={CODEBASE}&q=socket")
    indexed.access.revoke_api_key(key.split("_")[1])
    await console.page.get_by_role("button", name="Search", exact=True).click()
    assert "was revoked" in await console.page.get_by_role("alert").inner_text()
    assert await console.page.locator(".hit").count() == 0
    indexed.access.delete_principal("console-leaver")


async def test_hostile_names_and_code_are_shown_and_nothing_of_them_runs(console: Console) -> None:
    """The fixture saw no dialog, no error, and nothing that the page's policy had to stop."""
    page = console.page
    await console.sign_in()
    await console.show(f"search?in={HOSTILE}&q=evil disguised")
    hits = {await hit.locator(".place").text_content(): hit for hit in await page.locator(".hit").all()}
    assert {place.split(":")[0] for place in hits} == {IMAGE_NAME, TURNED_NAME.replace("\u202e", "⟨U+202E⟩")}
    for place, hit in hits.items():
        is_image = place.startswith(IMAGE_NAME)
        content = HOSTILE_FILES[IMAGE_NAME if is_image else TURNED_NAME]
        # Nothing hides, and nothing turns the rest around.
        shown = content.replace("\u202e", "⟨U+202E⟩").replace("\u2066", "⟨U+2066⟩").replace("\u2069", "⟨U+2069⟩")
        assert await hit.locator("pre code").text_content() == shown
    for view in (f"map?codebase={HOSTILE}", f"codebases?codebase={HOSTILE}"):
        await console.show(view)
    await console.show(f"map?codebase={HOSTILE}")
    await page.locator(".map-drawing").focus()
    await page.keyboard.press("ArrowRight")
    await page.get_by_role("button", name="Open").click()
    await page.get_by_role("dialog").locator(".sought").wait_for()
    await page.keyboard.press("Escape")
    await console.show("<img src=x onerror=alert(4)>?q=<script>alert(5)</script>")
    console.witness.expected = ("400",)
    await console.show("search?q=<script>alert(6)</script>&in=<svg onload=alert(7)>")
    assert "<svg onload=alert(7)>" in await page.get_by_role("alert").inner_text()
    assert (
        await page.evaluate("document.querySelectorAll('main script, main img, main [onerror], main [onload]').length")
        == 0
    )


async def test_even_a_fault_of_the_page_would_run_nothing(console: Console) -> None:
    """A browser refuses markup out of text, and scripts that are not the page's own."""
    console.witness.expected = ("violation", "violates", "TrustedHTML", "TrustedScript", "404")
    await console.sign_in()
    for attempt in (
        "document.body.innerHTML = '<img src=x onerror=alert(1)>'",
        "document.body.insertAdjacentHTML('beforeend', '<b>')",
        "new DOMParser().parseFromString('<b>', 'text/html')",
    ):
        with pytest.raises(Error, match="TrustedHTML"):
            await console.page.evaluate(attempt)
    ran = await console.page.evaluate(
        """async () => {
            const script = document.createElement("script");
            try {
                script.textContent = "window.ran = true";
                document.head.append(script);
            } catch {
                // Refused already.
            }
            const image = document.createElement("img");
            try {
                image.setAttribute("onerror", "window.ran = true");
            } catch {
                // Likewise.
            }
            const failed = new Promise((done) => image.addEventListener("error", done));
            image.src = "console/none.png";
            document.body.append(image);
            await failed;
            image.remove();
            return window.ran ?? false;
        }"""
    )
    assert ran is False


async def test_the_colours_never_change_the_code(console: Console, stack: Stack) -> None:
    """Pieces joined are the text, in every language, however broken it is; and it ends."""
    await console.page.goto(console.url)
    wrong = await console.page.evaluate(
        """async () => {
            const { pieces } = await import("/console/highlight.js");
            const languages = ["python", "javascript", "typescript", "go", "rust", "java", "c", "cpp", "shell", "sql",
                "json", "yaml", "toml", "ruby", "html", "css", "kotlin", "text", "__proto__", "constructor", ""];
            const nasty = ['"', "'", "`", "/*", "#", " ", "\\\\", "a", "1", "<!--", "r#", "@", "\\u202e", "é😀"];
            const texts = nasty.map((part) => part.repeat(20000));
            texts.push(...nasty.map((part) => `${part}\\n${nasty.join("")}`));
            return languages.flatMap((name) =>
                texts.filter((text) => pieces(text, name).map(([, piece]) => piece).join("") !== text).map(() => name));
        }"""
    )
    assert wrong == []


async def test_what_is_long_is_shown_in_part_and_says_so(console: Console) -> None:
    """A chunk may have a million characters, and a line, too."""
    page = console.page
    await page.goto(console.url)
    await page.evaluate(
        """async () => {
            const { codeBlock } = await import("/console/code.js");
            const content = ["x".repeat(5000), ...Array.from({ length: 39 }, (_, n) => `line ${n + 2}`)].join("\\n");
            document.getElementById("main").replaceChildren(
                codeBlock({ content, language: "python", startLine: 1 }, { maxLines: 12 }));
        }"""
    )
    lines = page.locator("pre .line")
    assert await lines.count() == 12
    first = await lines.first.text_content()
    assert (len(first.split(" … ")[0]), first.split(" … ")[1]) == (2000, "3,000 more characters\n")
    await page.get_by_role("button", name="Show all 40 lines").click()
    assert await lines.count() == 40
    assert await lines.last.text_content() == "line 40\n"
