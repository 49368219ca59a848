"""The ASGI application: which routes there are."""

from collections.abc import Callable, Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gateway.http.door import Call, Door
from gateway.http.rpc_routes import rpc_routes
from gateway.rpc.service import Service


def build_app(door: Door, services: Iterable[Service], *, is_serving: Callable[[], bool]) -> Starlette:
    """Make the application.

    Args:
        door: Makes the routes.
        services: Of duovec.v1, which are also served as JSON.
        is_serving: Whether the canary went well the last time.
    """

    async def healthz(call: Call) -> Response:
        # 503 takes a process out of a load balancer, as NOT_SERVING does with gRPC.
        return JSONResponse({"status": "SERVING"}) if is_serving() else JSONResponse({"status": "NOT_SERVING"}, 503)

    routes = [door.route("/healthz", healthz, needs_key=False), *rpc_routes(door, services)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: door.refuse})
    # A slash too many is a wrong path; a redirect would be to wherever the request's Host says.
    app.router.redirect_slashes = False
    return app
