"""The OpenAPI document of the OpenAI-compatible API, made from what reads the requests.

The services as JSON are not in it: protos/duovec/v1 describes them.
"""

import importlib.metadata
from typing import Any

from gateway.http.embeddings_request import EmbeddingsRequest
from gateway.rpc.embedding_model import MODELS

_SCHEMAS = "#/components/schemas/"
# What a request may come to before any handler sees it, and what a handler of ours may answer.
_BY_KEY = {401: "The API key is missing, unknown, expired or revoked.", 429: "Too much at once; see Retry-After."}
_BY_WORK = {
    400: "The request is malformed; `param` names the field.",
    404: "There is no such model.",
    408: "The body did not come in time.",
    409: "Another space was activated meanwhile.",
    413: "The body is too large.",
    500: "An encoder gave no vector; the log says more.",
    503: "Triton or PostgreSQL is away, or the gateway stops.",
    504: "It took too long.",
}


def openapi_document() -> dict[str, Any]:
    """The document."""
    by_all = _BY_KEY | {status: _BY_WORK[status] for status in (408, 413, 500, 503, 504)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "duovec",
            "version": importlib.metadata.version("duovec"),
            "description": "Embeddings of source code by two encoders at once, as OpenAI's clients ask for them.",
        },
        "paths": {
            "/v1/embeddings": {
                "post": _operation(
                    "createEmbeddings",
                    "Embed texts.",
                    "Embeddings",
                    _BY_KEY | _BY_WORK,
                    requestBody={
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}EmbeddingsRequest"}}},
                    },
                )
            },
            "/v1/models": {"get": _operation("listModels", "List the models.", "Models", by_all)},
            "/v1/models/{model}": {
                "get": _operation(
                    "getModel",
                    "Describe a model.",
                    "Model",
                    by_all | {404: _BY_WORK[404]},
                    parameters=[{"name": "model", "in": "path", "required": True, "schema": {"enum": list(MODELS)}}],
                )
            },
            "/healthz": {
                "get": {
                    "operationId": "health",
                    "summary": "Whether texts are embedded, stored and found; open to all.",
                    "security": [],
                    "responses": {
                        "200": _reply("They are.", "Health"),
                        "503": _reply("They are not, or not yet.", "Health"),
                    },
                }
            },
        },
        "security": [{"apiKey": []}],
        "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "duovec_<id>_<secret>"}},
            "schemas": _schemas(),
        },
    }


def _operation(name: str, summary: str, reply: str, failures: dict[int, str], **more: Any) -> dict[str, Any]:
    responses = {str(status): _reply(text, "Error") for status, text in sorted(failures.items())}
    return {"operationId": name, "summary": summary, **more, "responses": {"200": _reply("Done.", reply), **responses}}


def _reply(text: str, schema: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{schema}"}}}}


def _schemas() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    text = {"type": "string"}
    model = _object(
        id={"enum": list(MODELS)},
        object={"const": "model"},
        created=count,
        owned_by={"const": "duovec"},
        dimensions={"enum": [each.dimension for each in MODELS.values()]},
        max_tokens=count,
        encoders={"type": "array", "items": text, "minItems": 1, "maxItems": 2},
        space={"type": "string", "pattern": "^[0-9a-f]{64}$"},
    )
    embedding = _object(
        object={"const": "embedding"},
        index=count,
        embedding={"anyOf": [{"type": "array", "items": {"type": "number"}}, text]},
    )
    error = _object(message=text, type=text, param={"type": ["string", "null"]}, code=text, reason={"type": "string"})
    return {
        "EmbeddingsRequest": EmbeddingsRequest.model_json_schema(ref_template=_SCHEMAS + "{model}"),
        "Embeddings": _object(
            object={"const": "list"},
            data={"type": "array", "items": embedding, "minItems": 1},
            model={"enum": list(MODELS)},
            usage=_object(prompt_tokens=count, total_tokens=count),
        ),
        "Model": model,
        "Models": _object(object={"const": "list"}, data={"type": "array", "items": model}),
        "Health": _object(status={"enum": ["SERVING", "NOT_SERVING"]}),
        "Error": _object(error=error),
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
