"""Who calls: every call of duovec's own services proves an API key, and counts, before anything else is done for it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc

from gateway.errors import ApiKeyMissing, Unauthenticated
from gateway.rpc.handlers import Stream, Unary, is_own, wrapped
from gateway.rpc.quotas import Quotas
from gateway.store.api_key import ApiKey
from gateway.store.caller import set_api_key
from gateway.store.principals import PrincipalStore

Context = grpc.aio.ServicerContext[Any, Any]


def api_key_of(metadata: Iterable[tuple[str, str | bytes]]) -> ApiKey:
    """Read the API key of a call.

    Raises:
        ApiKeyMissing: The call has no `authorization`.
        Unauthenticated: It has another than one bearer token of the form of a key.
    """
    values = [value for name, value in metadata if name == "authorization"]
    if not values:
        raise ApiKeyMissing("the call has no API key; send the metadata `authorization: Bearer duovec_<id>_<secret>`")
    scheme, _, token = str(values[0]).partition(" ")
    key = ApiKey.parse(token.strip())
    if len(values) > 1 or scheme.lower() != "bearer" or key is None:
        raise Unauthenticated("the authorization is not one `Bearer duovec_<id>_<secret>`; check the API key")
    return key


class AuthenticationInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call through with a valid key, which the store then acts with; stands inside the ErrorInterceptor."""

    def __init__(self, principals: PrincipalStore, quotas: Quotas, *, timeout_s: float) -> None:
        """Args: quotas: How many calls each principal may make. timeout_s: Budget of the key's look-up, seconds."""
        self._principals = principals
        self._quotas = quotas
        self._timeout_s = timeout_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call of duovec's own services; health and reflection are open to all."""
        handler = await continuation(handler_call_details)
        if handler is None or not is_own(handler_call_details.method):
            return handler
        return wrapped(handler, unary=self._unary, stream=self._stream)

    def _unary(self, method: Unary) -> Unary:
        async def call(request: Any, context: Context) -> Any:
            await self._authenticate(context)
            return await method(request, context)

        return call

    def _stream(self, method: Stream) -> Stream:
        async def call(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            await self._authenticate(context)
            async for response in method(requests, context):
                yield response

        return call

    async def _authenticate(self, context: Context) -> None:
        set_api_key(api_key_of(context.invocation_metadata() or ()), peer=context.peer() or "")
        await self._principals.check_key(timeout_s=self._timeout_s)
        self._quotas.admit()
