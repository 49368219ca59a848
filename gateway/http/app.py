"""The ASGI application: which routes there are."""

from collections.abc import Callable, Iterable

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gateway.http.console import routes as console
from gateway.http.door import Call, Door
from gateway.http.embeddings import Embeddings
from gateway.http.models import Models
from gateway.http.openapi import openapi_document
from gateway.http.rpc_routes import rpc_routes
from gateway.rpc.service import Service


def build_app(
    door: Door,
    services: Iterable[Service],
    embeddings: Embeddings,
    models: Models,
    *,
    is_serving: Callable[[], bool],
) -> Starlette:
    """Make the application.

    Args:
        door: Makes the routes.
        services: Of duovec.v1, which are also served as JSON.
        embeddings, models: The OpenAI-compatible API.
        is_serving: Whether the canary went well the last time, not long ago.
    """
    document = orjson.dumps(openapi_document())

    async def healthz(call: Call) -> Response:
        # 503 takes a process out of a load balancer, as NOT_SERVING does with gRPC.
        return JSONResponse({"status": "SERVING"}) if is_serving() else JSONResponse({"status": "NOT_SERVING"}, 503)

    async def openapi(call: Call) -> Response:
        return Response(document, media_type="application/json")

    routes = [
        door.route("/healthz", healthz, needs_key=False),
        door.route("/openapi.json", openapi, needs_key=False),
        door.route("/v1/embeddings", embeddings.create, verb="POST"),
        door.route("/v1/models", models.list),
        door.route("/v1/models/{model}", models.get),
        *rpc_routes(door, services),
        *console.routes(door),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: door.refuse})
    # A slash too many is a wrong path; a redirect would be to wherever the request's Host says.
    app.router.redirect_slashes = False
    return app
