"""A search request, checked, and the tokens of its pages."""

import base64
import json
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from duovec.v1 import search_service_pb2 as pb
from gateway.embedding.blend import CODE_WEIGHT
from gateway.errors import InvalidInput, SpaceMismatch
from gateway.rpc import paging, validation
from gateway.rpc.path_globs import path_range, path_regex
from gateway.store.rows import DIMENSION, FilterRow, SearchResult
from gateway.store.search_plan import MAX_POOL
from gateway.store.search_words import LEXICAL_WEIGHT, MAX_WORDS

MAX_CODEBASES = 100
MAX_PAGE_SIZE = 100
DEFAULT_PAGE_SIZE = 10
MAX_LANGUAGES = 16
MAX_KINDS = 4
_MAX_INT64 = 2**63 - 1
# The norm of a query whose halves were weighed anew (`gateway.embedding.blend`) is 1 to √2, but for rounding.
_MIN_SCALE, _MAX_SCALE = 0.9, 1.5
# The logarithm of more chunks than there will be.
_MAX_WORD_WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request that can be carried out, defaults filled in."""

    codebase_ids: list[str]
    input: Literal["query", "code", "like_chunk_id"]
    text: str
    """The query or the code; empty for a stored chunk."""
    like_chunk_id: int | None
    page_size: int
    filter: FilterRow
    min_score: float | None
    blend: float
    lexical_weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Where a page begins, and the query as it was on the first page: a text that is embedded again may differ."""

    vector_V: NDArray[np.float32]
    scale: float
    truncated: bool
    missing_encoder: str
    pool: int
    word_weights: dict[str, float]
    score: float
    chunk_id: int


def check(request: pb.SearchRequest) -> CheckedRequest:
    """Check everything but the page token.

    Raises:
        InvalidInput: Names the field.
    """
    kind = request.WhichOneof("input")
    if kind is None:
        raise InvalidInput("input", "is not set; send query, code or like_chunk_id")
    text = validation.text(kind, getattr(request, kind)) if kind != "like_chunk_id" else ""
    if kind == "like_chunk_id" and request.like_chunk_id <= 0:
        raise InvalidInput("like_chunk_id", f"is {request.like_chunk_id}; send the chunk_id of a hit")
    if kind == "like_chunk_id" and request.lexical_weight > 0:
        raise InvalidInput("lexical_weight", "needs words; leave it unset for like_chunk_id")
    lexical_weight = LEXICAL_WEIGHT if kind == "query" else 0.0
    return CheckedRequest(
        codebase_ids=_codebase_ids(request),
        input=kind,
        text=text,
        like_chunk_id=request.like_chunk_id if kind == "like_chunk_id" else None,
        page_size=validation.page_size(request.page_size, default=DEFAULT_PAGE_SIZE, limit=MAX_PAGE_SIZE),
        filter=_filter(request.filter),
        min_score=_number(request, "min_score", -1.0, 1.0) if request.HasField("min_score") else None,
        blend=_number(request, "blend", 0.0, 1.0) if request.HasField("blend") else CODE_WEIGHT,
        lexical_weight=_number(request, "lexical_weight", 0.0, 1.0)
        if request.HasField("lexical_weight")
        else lexical_weight,
    )


def encode_page(request_digest: str, space: str, page: Page) -> str:
    """The token for the page after the hit that `page` names."""
    vector = base64.b64encode(page.vector_V.astype("<f2").tobytes()).decode()
    return paging.encode(
        request_digest,
        space,
        vector,
        repr(page.scale),
        str(int(page.truncated)),
        page.missing_encoder,
        str(page.pool),
        json.dumps(page.word_weights),
        repr(page.score),
        str(page.chunk_id),
    )


def decode_page(token: str, request_digest: str, space: str) -> Page | None:
    """What is in a token; None for the empty token of a first page.

    Raises:
        InvalidInput: The token is none of ours, or belongs to another query.
        SpaceMismatch: The list was begun in another space.
    """
    key = paging.decode(token, 10)
    if key is None:
        return None
    token_digest, token_space, vector, scale, truncated, missing_encoder, pool, word_weights, score, chunk_id = key
    if token_digest != request_digest:
        raise paging.other_query()
    if token_space != space:
        raise SpaceMismatch(
            f"the list was begun in space {token_space[:64]}, and space {space} is the active one now; begin it again"
        )
    try:
        halves_V = np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f2")
        page = Page(
            vector_V=halves_V.astype(np.float32),
            scale=float(scale),
            truncated=truncated == "1",
            missing_encoder=missing_encoder,
            pool=int(pool),
            word_weights=_word_weights(word_weights),
            score=float(score),
            chunk_id=int(chunk_id),
        )
    except (ValueError, RecursionError) as exc:
        raise paging.foreign_token() from exc
    sound = (
        page.vector_V.shape == (DIMENSION,)
        and abs(float(np.linalg.norm(page.vector_V)) - 1) < 0.01
        and _MIN_SCALE <= page.scale <= _MAX_SCALE
        and math.isfinite(page.score)
        and 0 <= page.pool <= MAX_POOL
        and 0 < page.chunk_id <= _MAX_INT64
    )
    if not sound:
        raise paging.foreign_token()
    return page


def _word_weights(text: str) -> dict[str, float]:
    """What each word weighs, of JSON.

    Raises:
        ValueError: It is something else, or a weight is none.
        RecursionError: It is nested too deeply to be read.
    """
    weights = json.loads(text)
    if not isinstance(weights, dict) or len(weights) > MAX_WORDS:
        raise ValueError("no weights of words")
    if not all(isinstance(weight, float) and 0 <= weight <= _MAX_WORD_WEIGHT for weight in weights.values()):
        raise ValueError("no weight of a word")
    return weights


def partial_reasons(result: SearchResult, missing_encoder: str) -> "list[pb.PartialReason]":
    """Why hits may be missing from a result."""
    reasons = []
    if result.pending_chunk_count:
        reasons.append(pb.PARTIAL_REASON_PENDING_CHUNKS)
    if result.candidates_exhausted:
        reasons.append(pb.PARTIAL_REASON_CANDIDATES_EXHAUSTED)
    if missing_encoder:
        reasons.append(pb.PARTIAL_REASON_ENCODER_DOWN)
    return reasons


def _codebase_ids(request: pb.SearchRequest) -> list[str]:
    ids = list(request.codebase_ids)
    if not 1 <= len(ids) <= MAX_CODEBASES:
        raise InvalidInput("codebase_ids", f"has {len(ids)} items; send 1 to {MAX_CODEBASES}")
    for codebase_id in ids:
        validation.codebase_id(codebase_id)
    if len(set(ids)) != len(ids):
        raise InvalidInput("codebase_ids", "has an item twice; send each once")
    return ids


def _filter(message: pb.SearchFilter) -> FilterRow:
    # Passed over, as protobuf does, it would let through what a newer client wants left out.
    unknown = UnknownFieldSet(message)
    if len(unknown):
        number = unknown[0].field_number
        raise InvalidInput("filter", f"has field {number}, which this service does not know; leave it out")
    if len(message.languages) > MAX_LANGUAGES:
        raise InvalidInput("filter.languages", f"has {len(message.languages)} items, the limit is {MAX_LANGUAGES}")
    languages = [
        validation.label(f"filter.languages[{index}]", language, limit=64, required=True)
        for index, language in enumerate(message.languages)
    ]
    if len(message.kinds) > MAX_KINDS:
        raise InvalidInput("filter.kinds", f"has {len(message.kinds)} items, the limit is {MAX_KINDS}")
    kinds = [validation.kind(f"filter.kinds[{index}]", kind) for index, kind in enumerate(message.kinds)]
    regex = path_regex("filter.path_globs", message.path_globs)
    path_from, path_below = path_range(message.path_globs)
    return FilterRow(languages, sorted(set(kinds)), regex, path_from, path_below)


def _number(request: pb.SearchRequest, field: str, least: float, most: float) -> float:
    value: float = getattr(request, field)
    if not least <= value <= most:  # NaN too
        raise InvalidInput(field, f"is {value:g}; use {least:g} to {most:g}")
    return value
