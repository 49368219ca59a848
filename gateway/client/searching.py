"""Searching, and how good it is: a part of the client."""

from collections.abc import AsyncGenerator, Sequence

import grpc

from duovec.v1 import quality_service_pb2 as quality_pb
from duovec.v1 import search_service_pb2 as search_pb
from gateway.client.dual import Mode, Part, dual, dual_iterator
from gateway.client.errors import ClientError
from gateway.client.rpc import Rpc

_LIST_QUALITY = Rpc("duovec.v1.QualityService/ListQuality", quality_pb.ListQualityResponse)
_RECORD_FEEDBACK = Rpc("duovec.v1.SearchService/RecordFeedback", search_pb.RecordFeedbackResponse)
_SEARCH = Rpc("duovec.v1.SearchService/Search", search_pb.SearchResponse)


class Searching(Part[Mode]):
    """Methods of a client."""

    @dual
    async def search(
        self,
        codebase_ids: str | Sequence[str],
        query: str = "",
        *,
        code: str = "",
        like_chunk_id: int | None = None,
        limit: int = 10,
        page_token: str = "",
        paths: Sequence[str] = (),
        languages: Sequence[str] = (),
        kinds: Sequence[str] = (),
        min_score: float | None = None,
        blend: float | None = None,
        lexical_weight: float | None = None,
        allow_degraded: bool = False,
        encoder_similarities: bool = False,
        truncate: bool = False,
        space: str = "",
        unlogged: bool = False,
    ) -> search_pb.SearchResponse:
        """Rank the chunks of codebases by similarity to a query; gives one page, whose reply says how it came about.

        Args:
            codebase_ids: One codebase, or up to 100.
            query: Words or identifiers. Exactly one of `query`, `code` and `like_chunk_id` is required.
            code: A piece of code that hits are to resemble.
            like_chunk_id: A stored chunk that hits are to resemble; it is not among them.
            limit: Hits of a page at most, 1 to 100.
            page_token: `next_page_token` of the page before, all else as it was there.
            paths: Patterns of paths, such as `src/**/*.py`; one must match.
            languages: One must be that of the chunk.
            kinds: One must be that of the chunk.
            min_score: Leaves out hits with a lower score.
            blend: The code encoder's share of the similarity, 0 to 1; None means 0.5.
            lexical_weight: The share of matching words in the score, 0 to 1; None leaves it to the service.
            allow_degraded: When one encoder is down, search by the other; the reply says so.
            encoder_similarities: Say of each hit what each encoder alone finds, too.
            truncate: Cut a query that exceeds an encoder's token limit instead of refusing it.
            space: Fingerprint of the space that is to be searched; "" for the active one.
            unlogged: Keep no log of it; the reply has no `search_id`.
        """
        request = search_pb.SearchRequest(
            codebase_ids=[codebase_ids] if isinstance(codebase_ids, str) else codebase_ids,
            page_size=limit,
            page_token=page_token,
            filter=search_pb.SearchFilter(path_globs=paths, languages=languages, kinds=kinds),
            min_score=min_score,
            blend=blend,
            lexical_weight=lexical_weight,
            allow_degraded=allow_degraded,
            encoder_similarities=encoder_similarities,
            truncate=truncate,
            space=space,
            unlogged=unlogged,
        )
        if sum((bool(query), bool(code), like_chunk_id is not None)) > 1:
            raise ClientError(
                "search: give one of query, code and like_chunk_id", code=grpc.StatusCode.INVALID_ARGUMENT
            )
        if code:
            request.code = code
        elif like_chunk_id is not None:
            request.like_chunk_id = like_chunk_id
        else:
            request.query = query
        return await self._connection.call(_SEARCH, request)

    @dual
    async def record_feedback(
        self,
        search_id: str,
        *,
        opened: Sequence[int] = (),
        useful: Sequence[int] = (),
        not_useful: Sequence[int] = (),
    ) -> None:
        """Say what you made of hits of a search; the same again changes nothing.

        Args:
            search_id: `search_id` of the search's first page.
            opened: Chunk ids of hits that were looked at.
            useful: Of hits that are what was looked for.
            not_useful: Of hits that are not. Of one hit the last word of these two counts.
        """
        request = search_pb.RecordFeedbackRequest(search_id=search_id)
        for chunk_ids, signal in (
            (opened, search_pb.FEEDBACK_SIGNAL_OPENED),
            (useful, search_pb.FEEDBACK_SIGNAL_USEFUL),
            (not_useful, search_pb.FEEDBACK_SIGNAL_NOT_USEFUL),
        ):
            for chunk_id in chunk_ids:
                request.items.add(chunk_id=chunk_id, signal=signal)
        await self._connection.call(_RECORD_FEEDBACK, request)

    @dual_iterator
    async def list_quality(
        self, codebase_id: str = "", *, space: str = "", week_count: int = 12
    ) -> AsyncGenerator[quality_pb.SearchQuality]:
        """Yield how good search was by codebase, space and week, page by page; for owners and administrators.

        Args:
            codebase_id: Only this one; "" for all that the caller owns, and for administrators every one, and all
                together, whose `codebase_id` is "".
            space: Only the space of this fingerprint.
            week_count: Weeks to look back, the present one included, 1 to 520.
        """
        request = quality_pb.ListQualityRequest(
            codebase_id=codebase_id, space=space, week_count=week_count, page_size=1000
        )
        async for response in self._connection.pages(_LIST_QUALITY, request):
            for item in response.rows:
                yield item
