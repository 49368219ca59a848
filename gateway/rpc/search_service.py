"""SearchService: a query in, ranked chunks out."""

from collections.abc import Mapping
from typing import Any

import grpc

from duovec.v1 import search_service_pb2 as pb
from duovec.v1 import search_service_pb2_grpc as pb_grpc
from gateway.embedding.blend import CODE_WEIGHT, reweighted
from gateway.embedding.embedder import NO_TEXTS, QueryVector, TokenizedTexts
from gateway.embedding.space import InputType
from gateway.rpc import feedback_request
from gateway.rpc.admission import SEARCH_TOKENS, Admission
from gateway.rpc.chunk_messages import chunk_message
from gateway.rpc.encoder_similarities import add_encoder_similarities
from gateway.rpc.paging import digest
from gateway.rpc.quotas import Quotas
from gateway.rpc.revisions import revision_message
from gateway.rpc.search_request import (
    CheckedRequest,
    Page,
    check,
    decode_page,
    encode_page,
    partial_reasons,
)
from gateway.spaces.serving import ServedSpace, Serving
from gateway.store.caller import current_key_id
from gateway.store.feedback import FeedbackStore
from gateway.store.rows import HitRow, SearchQuery, SearchResult
from gateway.store.search import SearchStore
from gateway.store.search_log import AnsweredSearch, QueryKind, SearchLog, ShownHit
from gateway.store.search_plan import Method

Context = grpc.aio.ServicerContext[Any, Any]

_METHODS = {
    Method.EXACT: pb.SEARCH_METHOD_EXACT,
    Method.HNSW: pb.SEARCH_METHOD_HNSW,
    Method.BINARY: pb.SEARCH_METHOD_BINARY,
}
_KINDS: dict[str, QueryKind] = {"query": "QUERY", "code": "CODE", "like_chunk_id": "LIKE"}


class SearchServicer(pb_grpc.SearchServiceServicer):
    """Translates between the protos, the embedder and the store."""

    def __init__(
        self,
        serving: Serving,
        search: SearchStore,
        admission: Admission,
        quotas: Quotas,
        log: SearchLog | None,
        feedback: FeedbackStore,
        *,
        timeout_s: float,
    ) -> None:
        """Args: log: Keeps what was answered; None for no log. timeout_s: Budget of each step, seconds."""
        self._serving = serving
        self._search = search
        self._admission = admission
        self._quotas = quotas
        self._log = log
        self._feedback = feedback
        self._timeout_s = timeout_s

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:  # noqa: N802
        """Rank the chunks of codebases by similarity to a query."""
        checked = check(request)
        return await self._serving.call(lambda space: self._search_in(space, checked, request), expected=request.space)

    async def _search_in(
        self, space: ServedSpace, checked: CheckedRequest, request: pb.SearchRequest
    ) -> pb.SearchResponse:
        request_digest = digest(request)
        page = decode_page(request.page_token, request_digest, space.fingerprint)
        self._quotas.check_tokens()
        embedded = page is None and checked.text
        guess = space.embedder.guess_tokens([checked.text]) if embedded else 0
        with self._admission.tokens(SEARCH_TOKENS + guess) as held:
            tokenized = await _tokenize(space, checked, truncate=request.truncate) if embedded else NO_TEXTS
            held.correct(SEARCH_TOKENS + tokenized.token_count)
            if page is not None:
                vector = QueryVector(page.vector_V, page.scale, page.truncated, page.missing_encoder, page.vector_V)
            elif checked.like_chunk_id is not None:
                vector = await self._stored_vector(space, checked, checked.like_chunk_id)
            else:
                with self._quotas.spend(tokenized.token_count):
                    vector = await space.embedder.embed_query(
                        tokenized,
                        timeout_s=self._timeout_s,
                        blend=checked.blend,
                        allow_degraded=request.allow_degraded,
                        use_cache=True,
                    )
            result = await self._search.search(
                checked.codebase_ids,
                space.space_key,
                SearchQuery(
                    vector_D=vector.vector_V,
                    scale=vector.scale,
                    text=checked.text,
                    lexical_weight=checked.lexical_weight,
                    filter=checked.filter,
                    min_score=checked.min_score,
                    excluded_chunk_id=checked.like_chunk_id,
                    limit=checked.page_size,
                    pool=page.pool if page is not None else None,
                    after=(page.score, page.chunk_id) if page is not None else None,
                    word_weights=page.word_weights if page is not None else None,
                ),
                timeout_s=self._timeout_s,
            )
        hits = [_hit(hit, result.codebase_ids) for hit in result.hits]
        if request.encoder_similarities:
            stored = await self._search.get_vectors(
                list(result.codebase_ids), space.space_key, [hit.chunk_id for hit in hits], timeout_s=self._timeout_s
            )
            add_encoder_similarities(hits, vector.plain_V, stored)
        token = ""
        if result.has_more:
            last = result.hits[-1]
            token = encode_page(
                request_digest,
                space.fingerprint,
                Page(
                    vector_V=vector.vector_V,
                    scale=vector.scale,
                    truncated=vector.truncated,
                    missing_encoder=vector.missing_encoder,
                    pool=result.pool,
                    word_weights=dict(result.word_weights),
                    score=last.score,
                    chunk_id=last.chunk_id,
                ),
            )
        reasons = partial_reasons(result, vector.missing_encoder)
        search_id = ""
        if self._log is not None and page is None and not request.unlogged:
            search_id = self._log.add(_answered(checked, space.fingerprint, vector, result))
        return pb.SearchResponse(
            hits=hits,
            space=space.fingerprint,
            exact=result.method is Method.EXACT,
            method=_METHODS[result.method],
            candidate_count=result.candidate_count,
            searched_chunk_count=result.searched_chunk_count,
            pending_chunk_count=result.pending_chunk_count,
            query_truncated=vector.truncated,
            next_page_token=token,
            partial=bool(reasons),
            partial_reasons=reasons,
            lexical_weight=checked.lexical_weight,
            missing_encoder=vector.missing_encoder,
            search_id=search_id,
            revisions=[
                pb.SearchedRevision(codebase_id=codebase_id, revision=revision_message(result.revisions[key]))
                for key, codebase_id in result.codebase_ids.items()
                if key in result.revisions
            ],
        )

    async def RecordFeedback(  # noqa: N802
        self, request: pb.RecordFeedbackRequest, context: Context
    ) -> pb.RecordFeedbackResponse:
        """Record what the caller made of hits."""
        search_id, said = feedback_request.check(request)
        await self._feedback.record(search_id, said, timeout_s=self._timeout_s)
        return pb.RecordFeedbackResponse()

    async def _stored_vector(self, space: ServedSpace, checked: CheckedRequest, chunk_id: int) -> QueryVector:
        stored_V = await self._search.get_vector(
            checked.codebase_ids, space.space_key, chunk_id, timeout_s=self._timeout_s
        )
        vector_V, scale = reweighted(stored_V, checked.blend)
        return QueryVector(vector_V, scale, truncated=False, missing_encoder="", plain_V=stored_V)


async def _tokenize(space: ServedSpace, checked: CheckedRequest, *, truncate: bool) -> TokenizedTexts:
    return await space.embedder.tokenize_query(
        checked.text,
        field=checked.input,
        truncate=truncate,
        input_type=InputType.QUERY if checked.input == "query" else InputType.PASSAGE,
    )


def _answered(checked: CheckedRequest, space: str, vector: QueryVector, result: SearchResult) -> AnsweredSearch:
    # With one encoder, or another blend, the vector's halves weigh differently than those of other queries.
    comparable = not vector.missing_encoder and checked.blend == CODE_WEIGHT
    return AnsweredSearch(
        key_id=current_key_id(),
        space=space,
        query_kind=_KINDS[checked.input],
        query_text=checked.text,
        like_chunk_id=checked.like_chunk_id,
        vector_D=vector.vector_V if comparable else None,
        codebase_keys=list(result.codebase_ids),
        hits=[ShownHit(hit.chunk_id, hit.codebase_key, hit.chunk.text_sha256, hit.score) for hit in result.hits],
    )


def _hit(hit: HitRow, ids_by_key: Mapping[int, str]) -> pb.SearchHit:
    return pb.SearchHit(
        chunk_id=hit.chunk_id,
        chunk=chunk_message(hit.chunk),
        score=hit.score,
        codebase_id=ids_by_key[hit.codebase_key],
        similarity=hit.similarity,
        lexical_score=hit.lexical_score,
    )
