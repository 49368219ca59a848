"""The views beside search: each shows what its service says, and everybody can read and use it, dark and light."""

import json
from collections.abc import Iterator

import asyncpg
import pytest
from axe_playwright_python.async_playwright import Axe
from console_page import CODEBASE, Console
from playwright.async_api import expect

from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import training_service_pb2 as training_pb
from gateway.client.client import Client
from gateway.local.stack import Stack

# What `training.publication.gate` records.
VERDICT = {
    "better": False,
    "against": "c" * 64,
    "limits": {"min_gain": 0.0, "slice_tolerance": 0.02, "least_queries": 10, "names": "named"},
    "faults": ["MRR@10 0.651, live 0.640 on 600 queries: all of the gain must be above +0.000"],
    "comparisons": [
        {
            "condition": condition,
            "slice": name,
            "queries": 600,
            "mrr": {"candidate": 0.651, "live": 0.64, "untrained base": 0.541, "BM25": 0.584},
            "gain": 0.011,
            "low": -0.004,
            "high": 0.026,
            "tolerance": 0.02,
            "judged": name != "all",
        }
        for condition in ("named", "blanked")
        for name in ("all", "style docstring", "language python")
    ],
}


async def execute(stack: Stack, sql: str, *arguments: object) -> None:
    connection = await asyncpg.connect(stack._gateway_environment["DUOVEC_DATABASE_URL"])
    try:
        await connection.execute(sql, *arguments)
    finally:
        await connection.close()


@pytest.fixture
def run_id(indexed: Client) -> Iterator[int]:
    """A training run that is queued."""
    recipe = 'encoder = "compact-code"\n# <b>a recipe</b>\n'
    run = indexed.training.start(training_pb.TrainingSpec(recipe=recipe, codebase_ids=[CODEBASE]))
    yield run.run_id
    if indexed.training.get(run.run_id).state in {
        training_pb.TRAINING_STATE_QUEUED,
        training_pb.TRAINING_STATE_RUNNING,
    }:
        indexed.training.cancel(run.run_id)


async def test_a_role_is_granted_changed_and_revoked(console: Console, indexed: Client) -> None:
    """What the page says was done is done."""

    def roles() -> dict[str, int]:
        return {grant.principal_id: grant.role for grant in indexed.access.list_grants(CODEBASE)}

    indexed.access.create_principal("console-alice")
    page = console.page
    console.witness.expected = ("404",)
    await console.hold_key()
    await console.show("codebases")
    await page.get_by_role("button", name=f"Grants on {CODEBASE}").click()
    await page.get_by_label("Grant to").fill("console-nobody")
    await page.get_by_role("button", name="Grant", exact=True).click()
    assert "console-nobody" in await page.get_by_role("alert").inner_text()
    await page.get_by_label("Grant to").fill("console-alice")
    await page.get_by_role("button", name="Grant", exact=True).click()
    role = page.get_by_label("Role of console-alice", exact=True)
    await role.wait_for()
    assert roles()["console-alice"] == codebase_pb.ROLE_READ
    await role.select_option("owner")
    await page.get_by_text(f"console-alice may own {CODEBASE}.").wait_for()
    assert roles()["console-alice"] == codebase_pb.ROLE_OWNER
    revoke = page.get_by_role("button", name="Revoke the role of console-alice")
    await revoke.click()
    await page.get_by_role("button", name="Leave it").click()
    assert "console-alice" in roles()
    await revoke.click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await revoke.wait_for(state="detached")
    assert "console-alice" not in roles()
    indexed.access.delete_principal("console-alice")


async def test_similar_code_lies_together_on_the_map(console: Console) -> None:
    """Sockets near sockets, numbers near numbers; the list beside a chunk is that of the service."""
    page = console.page
    await console.hold_key()
    await console.show(f"map?codebase={CODEBASE}")
    await page.locator("[data-arranged=true]").wait_for()
    points = await page.locator(".map-dots circle").evaluate_all(
        "dots => dots.map(dot => [dot.textContent, Number(dot.getAttribute('cx')), Number(dot.getAttribute('cy'))])"
    )
    kinds = [title.split("/")[0] for title, _, _ in points]
    assert set(kinds) == {"net", "math"}
    apart: dict[bool, list[float]] = {True: [], False: []}
    for n, (_, x, y) in enumerate(points):
        for other, (_, u, v) in enumerate(points[:n]):
            apart[kinds[n] == kinds[other]].append(((x - u) ** 2 + (y - v) ** 2) ** 0.5)
    assert sum(apart[True]) / len(apart[True]) < sum(apart[False]) / len(apart[False])


async def test_a_space_shows_its_coverage_and_a_run_its_report(
    console: Console, stack: Stack, indexed: Client, run_id: int
) -> None:
    """As the services have them."""
    page = console.page
    await console.hold_key()
    (space,) = (space for space in indexed.spaces.list().spaces if space.activate_time.seconds)
    await console.show("spaces")
    card = page.get_by_label(f"Space {space.fingerprint[:12]}")
    text = await card.inner_text()
    assert f"{space.chunk_count:,} of {space.chunk_count:,} chunks have a vector" in text
    assert "active" in text and "compact-code" in text and "compact-text" in text
    await console.show("training")
    await page.get_by_role("link", name=f"Run {run_id}", exact=True).click()
    await page.get_by_text("# <b>a recipe</b>").wait_for()
    await execute(
        stack,
        "UPDATE training_runs SET state = 'FAILED', stage = 'evaluate', start_time = now(), finish_time = now(),"
        " error = 'no gain', error_reason = 'NOT_BETTER', loss = 0.5, metrics = $2 WHERE run_id = $1",
        run_id,
        json.dumps(VERDICT),
    )
    # The page looks again by itself, since the run had not ended.
    report = page.get_by_label("Evaluation")
    await report.wait_for()
    text = await report.inner_text()
    assert "not better" in text and VERDICT["faults"][0] in text
    assert await report.locator("svg").count() == 2
    await report.get_by_text("The figures").click()
    assert "0.651" in await report.get_by_role("table").inner_text()


async def test_a_space_without_vectors_says_so_and_why_it_cannot_be_filled(
    console: Console, stack: Stack, indexed: Client
) -> None:
    """A refusal stands above in the service's words, and the rest of the page stays."""
    console.witness.expected = ("409",)
    page = console.page
    fingerprint = "d" * 64
    await execute(
        stack,
        "INSERT INTO spaces (fingerprint, manifest, state) SELECT $1, manifest, 'BUILDING' FROM spaces"
        " WHERE state = 'ACTIVE'",
        fingerprint,
    )
    try:
        await console.hold_key()
        await console.show("spaces")
        (space,) = (space for space in indexed.spaces.list().spaces if space.fingerprint == fingerprint)
        card = page.get_by_label(f"Space {fingerprint[:12]}")
        assert f"0 of {space.chunk_count:,} chunks have a vector" in await card.inner_text()
        assert await card.get_by_role("progressbar").get_attribute("value") == "0"
        assert await card.get_by_role("button", name="Activate").count() == 0
        await card.get_by_role("button", name="Re-embed").click()
        assert "SPACE_" in await page.get_by_role("alert").inner_text()
        assert await card.get_by_role("button", name="Re-embed").count() == 1
    finally:
        await execute(stack, "DELETE FROM spaces WHERE fingerprint = $1", fingerprint)


async def test_quality_shows_what_was_said_of_searches(console: Console, indexed: Client) -> None:
    page = console.page
    answer = indexed.search(CODEBASE, "norm of a vector, for quality")
    indexed.record_feedback(answer.search_id, useful=[answer.hits[0].chunk_id])
    await console.hold_key()
    await console.show(f"quality?codebase={CODEBASE}")
    (row,) = indexed.list_quality(CODEBASE)
    card = page.locator("section.card", has=page.get_by_role("heading", name=CODEBASE))
    assert f"{row.search_count} searches" in (await card.inner_text()).replace("1 search,", "1 searches,")
    await card.get_by_text("The figures").click()
    cells = await card.get_by_role("cell").all_inner_texts()
    assert cells[1:4] == [str(row.search_count), str(row.zero_hit_count), str(row.judged_count)]
    assert cells[7:9] == [f"{row.mrr:.3f}", f"{row.ndcg_at_10:.3f}"]
    assert "every search compares every chunk" in await page.get_by_label("Recall", exact=True).inner_text()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
async def test_everybody_can_read_and_use_it(
    console: Console, stack: Stack, run_id: int, theme: str, width: int
) -> None:
    """axe finds nothing: contrast of 4.5 and more, names of fields, roles, headings; and nothing is wider than it."""
    page = console.page
    await execute(
        stack,
        "UPDATE training_runs SET stage = 'evaluate', step = 3, step_count = 7, metrics = $2 WHERE run_id = $1",
        run_id,
        json.dumps(VERDICT),
    )
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=theme)
    await page.goto(console.url)
    faults = {"login": await axe(console)}
    await console.sign_in()
    question = f"search?in={CODEBASE}&q=how are sockets opened"
    views = ("search", question, "codebases", f"map?codebase={CODEBASE}", "quality", "spaces", f"training?run={run_id}")
    for view in (*views, "training", f"codebases?codebase={CODEBASE}", "nowhere"):
        await console.show(view)
        faults[view] = await axe(console)
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, view
    await console.show(question)
    await page.locator(".hit").first.get_by_role("button", name="Useful", exact=True).click()
    await expect(page.locator(".toast")).to_have_count(1, timeout=20_000)
    faults["a toast"] = await axe(console)
    await page.locator(".hit").first.get_by_role("button", name="Open").click()
    await page.get_by_role("dialog").locator(".sought").wait_for()
    faults["reader"] = await axe(console)
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    faults["help"] = await axe(console)
    assert {view: found for view, found in faults.items() if found} == {}


async def axe(console: Console) -> list[str]:
    """What axe finds, one line each."""
    found = await Axe().run(console.page)
    return [
        f"{fault['id']}: {node['target']} {node['failureSummary'][:200]}"
        for fault in found.response["violations"]
        for node in fault["nodes"]
    ]


async def test_a_theme_that_was_chosen_stays(console: Console) -> None:
    page = console.page
    await page.emulate_media(color_scheme="light")
    await page.goto(console.url)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    await page.get_by_role("button", name="Dark or light").click()
    dark = await page.evaluate(ground)
    assert light != dark
    await page.reload()
    assert await page.evaluate(ground) == dark
