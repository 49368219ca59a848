"""PrincipalService: principals and their API keys."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from duovec.v1 import principal_service_pb2 as pb
from duovec.v1 import principal_service_pb2_grpc as pb_grpc
from gateway.errors import InvalidInput
from gateway.rpc import paging, validation
from gateway.rpc.quotas import MAX_REQUESTS_PER_S, MAX_TOKENS_PER_MINUTE
from gateway.rpc.timestamps import timestamp
from gateway.store.access import ApiKeyRow, PrincipalRow, Quota
from gateway.store.api_keys import ApiKeyStore
from gateway.store.principals import PrincipalStore

Context = grpc.aio.ServicerContext[Any, Any]

MAX_OLD_KEY_LIFETIME = timedelta(days=30)


class PrincipalServicer(pb_grpc.PrincipalServiceServicer):
    """Translates between the protos and the stores, which check what the caller may do."""

    def __init__(self, principals: PrincipalStore, api_keys: ApiKeyStore, *, timeout_s: float) -> None:
        """Args: timeout_s: Budget of a call, seconds."""
        self._principals = principals
        self._api_keys = api_keys
        self._timeout_s = timeout_s

    async def CreatePrincipal(  # noqa: N802
        self, request: pb.CreatePrincipalRequest, context: Context
    ) -> pb.CreatePrincipalResponse:
        """Create a principal."""
        principal_id = validation.slug("principal_id", request.principal_id)
        display_name = validation.label("display_name", request.display_name, limit=validation.MAX_DISPLAY_NAME_CHARS)
        row = await self._principals.create(
            principal_id, display_name or principal_id, is_admin=request.admin, timeout_s=self._timeout_s
        )
        return pb.CreatePrincipalResponse(principal=_principal(row))

    async def GetPrincipal(  # noqa: N802
        self, request: pb.GetPrincipalRequest, context: Context
    ) -> pb.GetPrincipalResponse:
        """Get one principal, or the caller."""
        row = await self._principals.get(_optional_principal(request.principal_id), timeout_s=self._timeout_s)
        return pb.GetPrincipalResponse(principal=_principal(row))

    async def ListPrincipals(  # noqa: N802
        self, request: pb.ListPrincipalsRequest, context: Context
    ) -> pb.ListPrincipalsResponse:
        """List the principals that the caller sees."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        (after,) = paging.decode_for(request, 1) or ("",)
        rows = await self._principals.list(after, page_size + 1, timeout_s=self._timeout_s)
        more, rows = len(rows) > page_size, rows[:page_size]
        return pb.ListPrincipalsResponse(
            principals=[_principal(row) for row in rows],
            next_page_token=paging.encode_for(request, rows[-1].principal_id) if more else "",
        )

    async def DeletePrincipal(  # noqa: N802
        self, request: pb.DeletePrincipalRequest, context: Context
    ) -> pb.DeletePrincipalResponse:
        """Delete a principal with its keys and grants."""
        principal_id = validation.slug("principal_id", request.principal_id)
        await self._principals.delete(principal_id, timeout_s=self._timeout_s)
        return pb.DeletePrincipalResponse()

    async def SetQuota(self, request: pb.SetQuotaRequest, context: Context) -> pb.SetQuotaResponse:  # noqa: N802
        """Limit what a principal may ask for."""
        principal_id = validation.slug("principal_id", request.principal_id)
        row = await self._principals.set_quota(principal_id, _quota(request.quota), timeout_s=self._timeout_s)
        return pb.SetQuotaResponse(principal=_principal(row))

    async def CreateApiKey(  # noqa: N802
        self, request: pb.CreateApiKeyRequest, context: Context
    ) -> pb.CreateApiKeyResponse:
        """Make an API key."""
        key, row = await self._api_keys.create(
            _optional_principal(request.principal_id),
            validation.label("display_name", request.display_name, limit=validation.MAX_DISPLAY_NAME_CHARS),
            _expire_time(request),
            timeout_s=self._timeout_s,
        )
        return pb.CreateApiKeyResponse(key=key.text, api_key=_api_key(row))

    async def ListApiKeys(  # noqa: N802
        self, request: pb.ListApiKeysRequest, context: Context
    ) -> pb.ListApiKeysResponse:
        """List the API keys of a principal."""
        page_size = validation.page_size(request.page_size, default=100, limit=1000)
        (after,) = paging.decode_for(request, 1) or ("",)
        rows = await self._api_keys.list(
            _optional_principal(request.principal_id), after, page_size + 1, timeout_s=self._timeout_s
        )
        more, rows = len(rows) > page_size, rows[:page_size]
        return pb.ListApiKeysResponse(
            api_keys=[_api_key(row) for row in rows],
            next_page_token=paging.encode_for(request, rows[-1].key_id) if more else "",
        )

    async def RotateApiKey(  # noqa: N802
        self, request: pb.RotateApiKeyRequest, context: Context
    ) -> pb.RotateApiKeyResponse:
        """Make an API key in place of another."""
        key, row = await self._api_keys.rotate(
            validation.key_id(request.key_id),
            _expire_time(request),
            _old_key_lifetime(request),
            timeout_s=self._timeout_s,
        )
        return pb.RotateApiKeyResponse(key=key.text, api_key=_api_key(row))

    async def RevokeApiKey(  # noqa: N802
        self, request: pb.RevokeApiKeyRequest, context: Context
    ) -> pb.RevokeApiKeyResponse:
        """End an API key."""
        row = await self._api_keys.revoke(validation.key_id(request.key_id), timeout_s=self._timeout_s)
        return pb.RevokeApiKeyResponse(api_key=_api_key(row))


def _optional_principal(principal_id: str) -> str:
    return validation.slug("principal_id", principal_id) if principal_id else ""


def _expire_time(request: pb.CreateApiKeyRequest | pb.RotateApiKeyRequest) -> datetime | None:
    if not request.HasField("expire_time"):
        return None
    try:
        expire_time = request.expire_time.ToDatetime(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidInput("expire_time", "is not a time between the years 1 and 9999") from exc
    if expire_time <= datetime.now(UTC):
        raise InvalidInput("expire_time", f"is {expire_time.isoformat()}, which has passed")
    return expire_time


def _old_key_lifetime(request: pb.RotateApiKeyRequest) -> timedelta:
    try:
        lifetime = request.old_key_lifetime.ToTimedelta()
    except (ValueError, OverflowError) as exc:
        raise InvalidInput("old_key_lifetime", "is not a duration") from exc
    if not timedelta(0) <= lifetime <= MAX_OLD_KEY_LIFETIME:
        raise InvalidInput("old_key_lifetime", f"is {lifetime}, the limits are 0 and {MAX_OLD_KEY_LIFETIME.days} days")
    return lifetime


def _quota(message: pb.Quota) -> Quota:
    limits: dict[str, Any] = {}
    for name, most in (("requests_per_s", MAX_REQUESTS_PER_S), ("tokens_per_minute", MAX_TOKENS_PER_MINUTE)):
        if message.HasField(name):
            limits[name] = getattr(message, name)
            if not 0 <= limits[name] <= most:  # NaN is refused, too
                raise InvalidInput(f"quota.{name}", f"is {limits[name]}; use 0 to {most:,.0f}, 0 for no limit")
    return Quota(**limits)


def _principal(row: PrincipalRow) -> pb.Principal:
    return pb.Principal(
        principal_id=row.principal_id,
        display_name=row.display_name,
        admin=row.is_admin,
        create_time=timestamp(row.create_time),
        quota=pb.Quota(requests_per_s=row.requests_per_s, tokens_per_minute=row.tokens_per_minute),
    )


def _api_key(row: ApiKeyRow) -> pb.ApiKey:
    return pb.ApiKey(
        key_id=row.key_id,
        principal_id=row.principal_id,
        display_name=row.display_name,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
        revoke_time=timestamp(row.revoke_time),
    )
