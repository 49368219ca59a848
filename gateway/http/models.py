"""`GET /v1/models`, as OpenAI's clients call it."""

from typing import Any

from starlette.responses import JSONResponse, Response

from gateway.http.door import Call
from gateway.rpc.embedding_model import MODELS, EmbeddingModel, find_model
from gateway.spaces.serving import Serving
from gateway.store.spaces import SpaceStore


class Models:
    """Says which models there are."""

    def __init__(self, serving: Serving, spaces: SpaceStore) -> None:
        """Args: spaces: As the system, since who may embed may know what by."""
        self._serving = serving
        self._spaces = spaces

    async def list(self, call: Call) -> Response:
        """All of them."""
        created = await self._created()
        return JSONResponse({"object": "list", "data": [self._described(model, created) for model in MODELS.values()]})

    async def get(self, call: Call) -> Response:
        """One of them."""
        model = find_model(call.request.path_params["model"])
        return JSONResponse(self._described(model, await self._created()))

    async def _created(self) -> int:
        """When the active space was made, seconds since 1970."""
        active = self._serving.active.space_key
        times = (space.create_time for space in await self._spaces.list() if space.space_key == active)
        return next((int(time.timestamp()) for time in times), 0)

    def _described(self, model: EmbeddingModel, created: int) -> dict[str, Any]:
        space = self._serving.active.embedder.space
        encoders = [encoder for encoder in (space.code, space.text) if model.role in {None, encoder.role}]
        return {
            "id": model.name,
            "object": "model",
            "created": created,
            "owned_by": "duovec",
            "dimensions": model.dimension,
            "max_tokens": min(encoder.max_tokens for encoder in encoders),
            "encoders": [f"{encoder.name}/{encoder.version}" for encoder in encoders],
            "space": space.fingerprint,
        }
