"""Principals, API keys, grants and the audit log: the part of the client that says who may do what, and who did."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from duovec.v1 import audit_service_pb2 as audit_pb
from duovec.v1 import codebase_service_pb2 as codebase_pb
from duovec.v1 import principal_service_pb2 as principal_pb
from gateway.client.dual import Mode, Part, dual, dual_iterator
from gateway.client.rpc import Rpc

Role = Literal["read", "write", "owner"]

_CREATE_API_KEY = Rpc("duovec.v1.PrincipalService/CreateApiKey", principal_pb.CreateApiKeyResponse, repeatable=False)
_CREATE_PRINCIPAL = Rpc(
    "duovec.v1.PrincipalService/CreatePrincipal", principal_pb.CreatePrincipalResponse, repeatable=False
)
_DELETE_GRANT = Rpc("duovec.v1.CodebaseService/DeleteGrant", codebase_pb.DeleteGrantResponse, repeatable=False)
_DELETE_PRINCIPAL = Rpc(
    "duovec.v1.PrincipalService/DeletePrincipal", principal_pb.DeletePrincipalResponse, repeatable=False
)
_GET_PRINCIPAL = Rpc("duovec.v1.PrincipalService/GetPrincipal", principal_pb.GetPrincipalResponse)
_LIST_API_KEYS = Rpc("duovec.v1.PrincipalService/ListApiKeys", principal_pb.ListApiKeysResponse)
_LIST_AUDIT_EVENTS = Rpc("duovec.v1.AuditService/ListAuditEvents", audit_pb.ListAuditEventsResponse)
_LIST_GRANTS = Rpc("duovec.v1.CodebaseService/ListGrants", codebase_pb.ListGrantsResponse)
_LIST_PRINCIPALS = Rpc("duovec.v1.PrincipalService/ListPrincipals", principal_pb.ListPrincipalsResponse)
_REVOKE_API_KEY = Rpc("duovec.v1.PrincipalService/RevokeApiKey", principal_pb.RevokeApiKeyResponse)
_ROTATE_API_KEY = Rpc("duovec.v1.PrincipalService/RotateApiKey", principal_pb.RotateApiKeyResponse, repeatable=False)
_SET_GRANT = Rpc("duovec.v1.CodebaseService/SetGrant", codebase_pb.SetGrantResponse)
_SET_QUOTA = Rpc("duovec.v1.PrincipalService/SetQuota", principal_pb.SetQuotaResponse)


class Access(Part[Mode]):
    """Every method raises ClientError when its call fails. A principal_id of "" stands for the caller."""

    @dual
    async def create_principal(
        self, principal_id: str, *, display_name: str = "", admin: bool = False
    ) -> principal_pb.Principal:
        """Create a principal; administrators only."""
        request = principal_pb.CreatePrincipalRequest(principal_id=principal_id, display_name=display_name, admin=admin)
        response = await self._connection.call(_CREATE_PRINCIPAL, request)
        return response.principal

    @dual
    async def get_principal(self, principal_id: str = "") -> principal_pb.Principal:
        """Get a principal that the caller sees."""
        request = principal_pb.GetPrincipalRequest(principal_id=principal_id)
        response = await self._connection.call(_GET_PRINCIPAL, request)
        return response.principal

    @dual_iterator
    async def list_principals(self) -> AsyncGenerator[principal_pb.Principal]:
        """Yield the principals that the caller sees by id, page by page."""
        request = principal_pb.ListPrincipalsRequest(page_size=1000)
        async for response in self._connection.pages(_LIST_PRINCIPALS, request):
            for item in response.principals:
                yield item

    @dual
    async def delete_principal(self, principal_id: str) -> None:
        """Delete a principal with its keys and grants; administrators only."""
        request = principal_pb.DeletePrincipalRequest(principal_id=principal_id)
        await self._connection.call(_DELETE_PRINCIPAL, request)

    @dual
    async def set_quota(
        self, principal_id: str, *, requests_per_s: float | None = None, tokens_per_minute: int | None = None
    ) -> principal_pb.Principal:
        """Limit what a principal may ask for, in place of the limits that it had; administrators only.

        Args:
            principal_id: Whom.
            requests_per_s: Calls a second; 0 for no limit, None for the service's default.
            tokens_per_minute: Tokens of both encoders together; likewise.
        """
        quota = principal_pb.Quota(requests_per_s=requests_per_s, tokens_per_minute=tokens_per_minute)
        request = principal_pb.SetQuotaRequest(principal_id=principal_id, quota=quota)
        response = await self._connection.call(_SET_QUOTA, request)
        return response.principal

    @dual
    async def create_api_key(
        self, principal_id: str = "", *, display_name: str = "", expire_time: datetime | None = None
    ) -> principal_pb.CreateApiKeyResponse:
        """Make an API key; the reply's `key` is shown this once.

        Args:
            principal_id: Whose; another's takes an administrator.
            display_name: What it is for.
            expire_time: With a time zone; None for never.
        """
        request = principal_pb.CreateApiKeyRequest(
            principal_id=principal_id, display_name=display_name, expire_time=_timestamp(expire_time)
        )
        return await self._connection.call(_CREATE_API_KEY, request)

    @dual_iterator
    async def list_api_keys(self, principal_id: str = "") -> AsyncGenerator[principal_pb.ApiKey]:
        """Yield the API keys of a principal by id, page by page; revoked and expired ones too."""
        request = principal_pb.ListApiKeysRequest(principal_id=principal_id, page_size=1000)
        async for response in self._connection.pages(_LIST_API_KEYS, request):
            for item in response.api_keys:
                yield item

    @dual
    async def rotate_api_key(
        self, key_id: str, *, expire_time: datetime | None = None, old_key_lifetime: timedelta = timedelta(0)
    ) -> principal_pb.RotateApiKeyResponse:
        """Make an API key in place of another, which goes on for `old_key_lifetime`, at most 30 days."""
        duration = Duration()
        duration.FromTimedelta(old_key_lifetime)
        request = principal_pb.RotateApiKeyRequest(
            key_id=key_id, expire_time=_timestamp(expire_time), old_key_lifetime=duration
        )
        return await self._connection.call(_ROTATE_API_KEY, request)

    @dual
    async def revoke_api_key(self, key_id: str) -> principal_pb.ApiKey:
        """End an API key now."""
        request = principal_pb.RevokeApiKeyRequest(key_id=key_id)
        response = await self._connection.call(_REVOKE_API_KEY, request)
        return response.api_key

    @dual
    async def set_grant(self, codebase_id: str, principal_id: str, role: Role) -> codebase_pb.Grant:
        """Give a principal a role on a codebase that the caller owns, in place of the one that it had."""
        grant = codebase_pb.Grant(codebase_id=codebase_id, principal_id=principal_id, role=f"ROLE_{role.upper()}")
        response = await self._connection.call(_SET_GRANT, codebase_pb.SetGrantRequest(grant=grant))
        return response.grant

    @dual_iterator
    async def list_grants(self, codebase_id: str) -> AsyncGenerator[codebase_pb.Grant]:
        """Yield the grants on a codebase that the caller owns by principal, page by page."""
        request = codebase_pb.ListGrantsRequest(codebase_id=codebase_id, page_size=1000)
        async for response in self._connection.pages(_LIST_GRANTS, request):
            for item in response.grants:
                yield item

    @dual
    async def delete_grant(self, codebase_id: str, principal_id: str) -> None:
        """Take a principal's role on a codebase away that the caller owns."""
        request = codebase_pb.DeleteGrantRequest(codebase_id=codebase_id, principal_id=principal_id)
        await self._connection.call(_DELETE_GRANT, request)

    @dual_iterator
    async def list_audit_events(
        self,
        *,
        principal_id: str = "",
        about: str = "",
        action: str = "",
        begin_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> AsyncGenerator[audit_pb.AuditEvent]:
        """Yield the events of the audit log, newest first, page by page; administrators only.

        Args:
            principal_id: Only changes by this principal.
            about: Only changes of what has this id: a principal, a key, a codebase or a space.
            action: Only these, such as GRANT_SET.
            begin_time: Only from this time on, with a time zone.
            end_time: Only before this time.
        """
        request = audit_pb.ListAuditEventsRequest(
            principal_id=principal_id,
            about=about,
            action=action,
            begin_time=_timestamp(begin_time),
            end_time=_timestamp(end_time),
            page_size=1000,
        )
        async for response in self._connection.pages(_LIST_AUDIT_EVENTS, request):
            for item in response.events:
                yield item


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
