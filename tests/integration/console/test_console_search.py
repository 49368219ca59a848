"""Search in a real browser: from the question to feedback in the database, at every weight, by keys alone."""

import asyncio
import re

import asyncpg
import pytest
from console_page import CODEBASE, Console

from gateway.client.client import Client
from gateway.local.stack import Stack

QUESTION = "how are sockets opened"


async def fetch(stack: Stack, sql: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack._gateway_environment["DUOVEC_DATABASE_URL"])
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def logged_count(stack: Stack, query: str) -> int:
    return len(await fetch(stack, "SELECT FROM searches WHERE query_text = $1", query))


async def said_of(stack: Stack, query: str) -> list[tuple[str, bool, bool | None]]:
    """Path, whether it was opened, and whether it was useful, of what was said of the searches for a query."""
    records = await fetch(
        stack,
        "SELECT c.path, f.opened_time IS NOT NULL AS opened, f.useful FROM feedback f"
        " JOIN searches s USING (search_key) JOIN chunks c USING (chunk_id) WHERE s.query_text = $1 ORDER BY c.path",
        query,
    )
    return [tuple(record) for record in records]


async def test_from_a_question_to_feedback_in_the_database(console: Console, stack: Stack, indexed: Client) -> None:
    """Ask, see coloured code where it lies, open it, say that it was of use, and follow it."""
    page = console.page
    question = "how are sockets opened, and closed after use"
    await console.sign_in()
    # Unless told so it searches all that its user sees, other tests' codebases among it.
    await console.show(f"search?in={CODEBASE}")
    await page.get_by_label("What to look for").fill(question)
    await page.get_by_role("button", name="Search", exact=True).click()
    first = page.locator(".hit").first
    await first.wait_for()
    expected = indexed.search(CODEBASE, question, unlogged=True).hits
    assert await first.get_attribute("data-chunk-id") == str(expected[0].chunk_id)
    assert expected[0].chunk.path in (await first.locator(".place").inner_text())
    assert await first.locator("pre code").text_content() == expected[0].chunk.content.rstrip("\n") + "\n"
    assert "def" in await console.texts(".hit .t-keyword")
    assert "open_socket" in await console.texts(".hit .t-function")
    await first.get_by_role("button", name="Useful", exact=True).click()
    await page.get_by_text("Recorded as useful.").wait_for()
    await first.get_by_role("button", name="Open").click()
    reader = page.get_by_role("dialog")
    for neighbour in ("open_socket", "close_socket"):  # in one file
        await reader.locator(".t-function", has_text=neighbour).wait_for()
    assert await reader.locator(".sought .t-function").first.inner_text() == expected[0].chunk.symbol
    await reader.get_by_role("button", name="Close").click()
    await first.locator("button[aria-pressed=true]", has_text="Open").wait_for()
    path = expected[0].chunk.path
    assert await said_of(stack, question) == [(path, True, True)]
    await first.get_by_role("button", name="More like this").click()
    await page.get_by_text("More like chunk").wait_for()
    await console.settled()
    assert f"like={expected[0].chunk_id}" in page.url
    similar = indexed.search(CODEBASE, like_chunk_id=expected[0].chunk_id, unlogged=True).hits
    shown = [await hit.get_attribute("data-chunk-id") for hit in await page.locator(".hit").all()]
    assert shown == [str(hit.chunk_id) for hit in similar]
    await page.go_back()
    await page.locator(f".hit[data-chunk-id='{expected[0].chunk_id}']").wait_for()
    assert await page.get_by_label("What to look for").input_value() == question


async def test_the_blend_is_weighed_at_once_and_as_the_service_does(
    console: Console, stack: Stack, indexed: Client
) -> None:
    """What the page works out from both encoders' scores while the slider moves is what a search gives."""
    page = console.page
    await console.hold_key()
    question = "sum of two numbers"
    await console.show(f"search?in={CODEBASE}&q={question}")
    before = await scores(console)
    calls = []
    # Not replies: that to the search before may be told of after the page has shown it.
    page.on("request", lambda call: calls.append(call) if call.url.endswith("/Search") else None)
    slider = page.get_by_label("Blend")
    for share in (1.0, 0.0):
        # As a hand that moves it and has not let go: no change yet, and no call.
        await slider.evaluate(f"it => {{ it.value = {share * 100}; it.dispatchEvent(new Event('input')); }}")
        expected = indexed.search(CODEBASE, question, blend=share, unlogged=True).hits
        at_once = await scores(console)
        assert calls == []
        assert list(at_once) == [hit.chunk_id for hit in expected]
        assert list(at_once.values()) == pytest.approx([hit.score for hit in expected], abs=1e-3)
        assert at_once != before
    await slider.evaluate("it => it.dispatchEvent(new Event('change'))")
    await page.wait_for_url(re.compile("blend=0.00"))
    await console.settled()
    assert await scores(console) == pytest.approx(at_once, abs=1e-3)
    assert len(calls) == 1
    # Fiddling is in no log; what is said of the hits is, with the search that it is of.
    async with asyncio.timeout(60):  # the log is written behind the reply
        while not await logged_count(stack, question):
            await asyncio.sleep(0.05)
    assert await logged_count(stack, question) == 1
    await page.locator(".hit").first.get_by_role("button", name="Not useful").click()
    await page.get_by_text("Recorded as not useful.").wait_for()
    assert await logged_count(stack, question) == 2
    assert [useful for _, _, useful in await said_of(stack, question)] == [False]


async def scores(console: Console) -> dict[int, float]:
    """Of the hits, in their order."""
    hits = await console.page.locator(".hit").all()
    return {
        int(await hit.get_attribute("data-chunk-id")): float(await hit.locator(".total").inner_text()) for hit in hits
    }


async def test_both_encoders_stand_side_by_side(console: Console, indexed: Client) -> None:
    """Each score alone is that of a search by that encoder alone."""
    await console.hold_key()
    await console.show(f"search?in={CODEBASE}&q={QUESTION}&words=0")
    hit = console.page.locator(".hit").first
    chunk_id = int(await hit.get_attribute("data-chunk-id"))
    for encoder, blend in (("code", 1.0), ("text", 0.0)):
        found = indexed.search(CODEBASE, QUESTION, blend=blend, lexical_weight=0, limit=100, unlogged=True).hits
        expected = next(one.score for one in found if one.chunk_id == chunk_id)
        assert float(await hit.locator(f".bar-row.{encoder} .figure").inner_text()) == pytest.approx(expected, abs=1e-3)


async def test_filters_narrow_the_hits_and_stand_in_the_address(console: Console) -> None:
    page = console.page
    await console.hold_key()
    await console.show(f"search?in={CODEBASE}&q={QUESTION}")
    await page.get_by_role("checkbox", name="go", exact=True).check()
    await page.wait_for_url(re.compile("language=go"))
    await console.settled()
    assert await console.texts(".hit .place") == ["math/add.go:3–6"]
    await page.get_by_role("checkbox", name="go", exact=True).uncheck()
    await page.get_by_label("Path").fill("net/**")
    await page.get_by_label("Path").press("Tab")
    await page.wait_for_url(re.compile("path=net"))
    await console.settled()
    assert {text.split(":")[0] for text in await console.texts(".hit .place")} == {"net/server.py", "net/sockets.py"}
    address = page.url
    await page.goto("about:blank")
    await page.goto(address)
    await console.settled()
    assert await page.get_by_label("Path").input_value() == "net/**"
    assert len(await console.texts(".hit")) > 1


async def test_everything_goes_by_keys(console: Console) -> None:
    """To the question, through the hits, into one and out again; and letters in a field are letters."""
    page = console.page
    await console.hold_key()
    await console.show("search")
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.type("jk? close a socket")
    await page.keyboard.press("Enter")
    await page.locator(".hit").nth(1).wait_for()
    await console.settled()
    assert await page.get_by_label("What to look for").input_value() == "jk? close a socket"
    await page.keyboard.press("Escape")
    focused = "[...document.querySelectorAll('.hit')].indexOf(document.activeElement)"
    places = []
    for key in "jjjk":
        await page.keyboard.press(key)
        places.append(await page.evaluate(focused))
    assert places == [0, 1, 2, 1]
    await page.keyboard.press("Enter")
    await page.get_by_role("dialog").locator(".sought").wait_for()
    await page.keyboard.press("Escape")
    assert await page.get_by_role("dialog").count() == 0
    assert await page.evaluate(focused) == 1
    chosen = await page.evaluate("document.activeElement.dataset.chunkId")
    await page.keyboard.press("]")
    await page.wait_for_url(re.compile("blend=0.55"))
    await console.settled()
    assert await page.evaluate("document.activeElement.dataset.chunkId") == chosen
    await page.keyboard.press("?")
    assert "Next hit" in await page.get_by_role("dialog").inner_text()
    await page.keyboard.press("Escape")
    await page.keyboard.type("gc")
    await page.get_by_role("heading", name="Codebases").wait_for()


async def test_what_was_wrong_is_said_in_the_services_words(console: Console) -> None:
    """With what to do next, and the fields as they were."""
    console.witness.expected = ("400", "404")
    await console.hold_key()
    await console.show("search?in=console-nowhere&q=x")
    text = await console.page.get_by_role("alert").inner_text()
    assert "Codebase 'console-nowhere' does not exist." in text
    assert "grant" in text
    await console.show(f"search?in={CODEBASE}&q=x&path=[{'*' * 20}")
    text = await console.page.get_by_role("alert").inner_text()
    assert "filter.path_globs" in text
    assert await console.page.get_by_label("What to look for").input_value() == "x"
