"""What becomes of chunks: what is there stays, what has a vector gets it, the rest is embedded; and all is stored."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.embedding.embedder import NO_TEXTS, TokenizedTexts
from gateway.embedding.space import InputType
from gateway.embedding.triton import Priority
from gateway.errors import DuovecError, NotFound
from gateway.rpc.admission import Admission
from gateway.rpc.quotas import Quotas
from gateway.rpc.texts_in_work import TextKey, TextsInWork
from gateway.spaces.filling import BesideFiller
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.caller import current_principal_key
from gateway.store.chunks import ChunkStore
from gateway.store.rows import ChunkRow, PendingChunk, StoredChunk

# Four times what ordinary code has for both encoders, so that only what they cut is counted by characters.
_CHARS_PER_TOKEN = 8
# What is there is looked up before a batch stands in line, on few of the database's connections: searches need some.
_LOOK_UPS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Item:
    """A valid chunk on its way.

    Attributes:
        passage: The text that is embedded for it.
        truncate: Cut it at the encoders' limits instead of failing.
        space: Fingerprint of the space that its caller relies on; empty for any.
    """

    item_id: str
    row: ChunkRow
    passage: str
    truncate: bool
    space: str


@dataclass(frozen=True, slots=True)
class Indexed:
    """What became of it."""

    stored: StoredChunk
    truncated: bool


Outcomes = dict[int, Indexed | Exception]
"""Of items, by their index; those that are missing are to be tried again."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done for items, which are named by their index.

    Attributes:
        outcomes: What is known already.
        reused: Those whose text has a vector.
        new: Those whose text has none.
        tokenized: Texts that were read: those of `new`, and others that an encoder may have to cut.
        rows: Where a text is in `tokenized`, by its SHA-256.
    """

    outcomes: Outcomes
    reused: list[int]
    new: list[int]
    tokenized: TokenizedTexts
    rows: Mapping[bytes, int]

    def is_truncated(self, item: Item) -> bool:
        row = self.rows.get(item.row.text_sha256)
        return row is not None and self.tokenized.is_truncated(row)


class ChunkIndexer:
    """Indexes chunks batch by batch, in the active space and in those beside it that are filled."""

    def __init__(
        self,
        serving: Serving,
        chunks: ChunkStore,
        beside: BesideFiller,
        admission: Admission,
        quotas: Quotas,
        *,
        timeout_s: float,
    ) -> None:
        """Args as of `IndexServicer`; timeout_s is the budget of one batch, seconds."""
        self._serving = serving
        self._chunks = chunks
        self._beside = beside
        self._admission = admission
        self._quotas = quotas
        self._timeout_s = timeout_s
        self._in_work = TextsInWork()
        self._look_ups = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)

    async def index(
        self, codebase_key: int, items: Sequence[Item], *, update_number: int = 0
    ) -> list[Indexed | Exception]:
        """Index a batch; of texts that are the same, in this batch or in others of the principal, one is embedded.

        What another batch embeds is waited for once the rest is stored, and embedded here after all where that fails
        or takes longer than the budget of a batch.

        Args:
            codebase_key: Where they go.
            items: The batch.
            update_number: The update that they are stored by; 0 for none.

        Returns:
            The outcome of each item, in order.

        Raises:
            NotFound: The codebase is being deleted: nothing can be stored in it any more.
        """
        outcomes: Outcomes = {}
        patience_s = self._timeout_s
        while left := [index for index in range(len(items)) if index not in outcomes]:
            batch = [items[index] for index in left]
            work = partial(
                self._index,
                codebase_key=codebase_key,
                items=batch,
                update_number=update_number,
                shares=patience_s > 0,
            )
            try:
                found = await self._serving.call(work)
            except NotFound:
                raise
            except (DuovecError, TimeoutError) as exc:
                found = dict.fromkeys(range(len(batch)), exc)
            outcomes |= {left[at]: outcome for at, outcome in found.items()}
            space_key = self._serving.active.space_key
            elsewhere = [_key(codebase_key, space_key, item) for at, item in enumerate(batch) if at not in found]
            began = time.monotonic()
            await self._in_work.wait(elsewhere, timeout_s=patience_s)
            patience_s -= time.monotonic() - began
        return [outcomes[index] for index in range(len(items))]

    async def _index(
        self, space: ServedSpace, codebase_key: int, items: Sequence[Item], *, update_number: int, shares: bool
    ) -> Outcomes:
        """Index what nobody else has in work, or all."""
        keys = [_key(codebase_key, space.space_key, item) for item in items]
        with self._in_work.claimed(keys if shares else ()) as claimed:
            # Claimed before they are looked up: what is stored between the two would be embedded again.
            indices = [index for index, key in enumerate(keys) if not shares or key in claimed]
            plan = await self._plan(space, codebase_key, {index: items[index] for index in indices})
            self._in_work.release(claimed, claimed - {keys[index] for index in plan.new})
            if not plan.reused and not plan.new:
                return plan.outcomes
            texts = {items[index].row.text_sha256: plan.rows[items[index].row.text_sha256] for index in plan.new}
            embedded = plan.tokenized.select(list(texts.values()))
            # What it costs: a text that the encoders read only the beginning of is held, and stored, to its end.
            characters = sum(len(items[index].passage) for index in plan.reused + plan.new)
            work_tokens = max(embedded.token_count, characters // _CHARS_PER_TOKEN)
            async with (
                self._quotas.wait(embedded.token_count),
                self._admission.turn(work_tokens),
                self._serving.writing(),
            ):
                async with asyncio.timeout(self._timeout_s):
                    stored = await self._reuse(space, codebase_key, items, plan, update_number)
                    stored |= await self._embed(space, codebase_key, items, plan, embedded, list(texts), update_number)
                self._in_work.release(claimed, set(claimed))
                # What is new gets its vectors in the spaces beside the active one, too.
                await self._beside.fill(_pending(codebase_key, items, stored), timeout_s=self._timeout_s)
        return plan.outcomes | stored

    async def _plan(self, space: ServedSpace, codebase_key: int, items: Mapping[int, Item]) -> _Plan:
        """Look up what is there, and tokenize what is not.

        What is there is tokenized only where an encoder may have to cut it, for the reply says so.
        """
        if not items:
            return _Plan({}, [], [], NO_TEXTS, {})
        order = list(items)
        async with self._look_ups:
            existing = await self._chunks.find_existing(
                codebase_key, space.space_key, [items[index].row for index in order], timeout_s=self._timeout_s
            )
        unchanged = {order[at]: chunk_id for at, chunk_id in existing.unchanged.items()}
        outcomes: Outcomes = {}
        texts: dict[bytes, str] = {}
        for index, item in items.items():
            # Another space may have been activated since the item was looked at.
            if error := space.mismatch(item.space):
                outcomes[index] = error
            elif (
                index not in unchanged and item.row.text_sha256 not in existing.reusable
            ) or space.embedder.may_exceed(item.passage):
                texts.setdefault(item.row.text_sha256, item.passage)
        tokenized = NO_TEXTS
        if texts:
            tokenized = await space.embedder.tokenize(list(texts.values()), InputType.PASSAGE)
        plan = _Plan(outcomes, [], [], tokenized, {text_sha256: row for row, text_sha256 in enumerate(texts)})
        for index, item in items.items():
            if index in outcomes:
                continue
            row = plan.rows.get(item.row.text_sha256)
            excess = None if row is None else space.embedder.excess(tokenized, row, "chunk.content")
            if excess is not None and not item.truncate:
                outcomes[index] = excess
            elif index in unchanged:
                outcomes[index] = Indexed(StoredChunk(unchanged[index], "UNCHANGED"), plan.is_truncated(item))
            elif item.row.text_sha256 in existing.reusable:
                plan.reused.append(index)
            else:
                plan.new.append(index)
        return plan

    async def _reuse(
        self, space: ServedSpace, codebase_key: int, items: Sequence[Item], plan: _Plan, update_number: int
    ) -> Outcomes:
        rows = [items[index].row for index in plan.reused]
        ids = await self._chunks.insert_reused(
            codebase_key, space.space_key, rows, update_number=update_number, timeout_s=self._timeout_s
        )
        return {
            index: Indexed(StoredChunk(chunk_id, "REUSED"), plan.is_truncated(items[index]))
            for index, chunk_id in zip(plan.reused, ids, strict=True)
            # None where the chunk that had this text was deleted meanwhile.
            if chunk_id is not None
        }

    async def _embed(
        self,
        space: ServedSpace,
        codebase_key: int,
        items: Sequence[Item],
        plan: _Plan,
        tokenized: TokenizedTexts,
        texts: Sequence[bytes],
        update_number: int,
    ) -> Outcomes:
        if not texts:
            return {}
        vectors = await space.embedder.encode(tokenized, priority=Priority.BULK, timeout_s=self._timeout_s)
        position = {text_sha256: at for at, text_sha256 in enumerate(texts)}
        at = {index: position[items[index].row.text_sha256] for index in plan.new}
        good = [index for index in plan.new if at[index] not in vectors.errors]
        chunk_ids = await self._chunks.insert(
            codebase_key,
            space.space_key,
            [items[index].row for index in good],
            vectors.vectors_BV[[at[index] for index in good]],
            update_number=update_number,
            timeout_s=self._timeout_s,
        )
        outcomes: Outcomes = {index: vectors.errors[at[index]] for index in plan.new if at[index] in vectors.errors}
        for index, chunk_id in zip(good, chunk_ids, strict=True):
            outcomes[index] = Indexed(StoredChunk(chunk_id, "EMBEDDED"), plan.is_truncated(items[index]))
        return outcomes


def _key(codebase_key: int, space_key: int, item: Item) -> TextKey:
    return (current_principal_key(), codebase_key, space_key, item.row.text_sha256)


def _pending(codebase_key: int, items: Sequence[Item], outcomes: Outcomes) -> list[PendingChunk]:
    return [
        PendingChunk(outcome.stored.chunk_id, codebase_key, row.symbol, row.content, row.text_sha256)
        for index, outcome in outcomes.items()
        if isinstance(outcome, Indexed) and (row := items[index].row)
    ]
