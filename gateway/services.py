"""Which services there are, and what answers for them."""

from dataclasses import dataclass
from typing import Any

from duovec.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    codebase_service_pb2,
    codebase_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    index_service_pb2,
    index_service_pb2_grpc,
    principal_service_pb2,
    principal_service_pb2_grpc,
    quality_service_pb2,
    quality_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    space_service_pb2,
    space_service_pb2_grpc,
    status_service_pb2,
    status_service_pb2_grpc,
    training_service_pb2,
    training_service_pb2_grpc,
)
from gateway.rpc.admission import Admission
from gateway.rpc.audit_service import AuditServicer
from gateway.rpc.codebase_map import CodebaseMaps
from gateway.rpc.codebase_service import CodebaseServicer
from gateway.rpc.embedding_call import EmbeddingCalls
from gateway.rpc.embedding_service import EmbeddingServicer
from gateway.rpc.index_service import IndexServicer
from gateway.rpc.principal_service import PrincipalServicer
from gateway.rpc.quality_service import QualityServicer
from gateway.rpc.quotas import Quotas
from gateway.rpc.search_service import SearchServicer
from gateway.rpc.service import Service
from gateway.rpc.space_service import SpaceServicer
from gateway.rpc.status_service import StatusServicer
from gateway.rpc.tei_service import TeiEmbedServicer, TeiInfoServicer
from gateway.rpc.training_service import TrainingServicer
from gateway.settings import Settings
from gateway.spaces.catalog import SpaceCatalog
from gateway.spaces.index_builder import IndexBuilder
from gateway.spaces.serving import Serving
from gateway.store.api_keys import ApiKeyStore
from gateway.store.audit import AuditLog
from gateway.store.chunks import ChunkStore
from gateway.store.codebase_map import CodebaseMapStore
from gateway.store.codebases import CodebaseStore
from gateway.store.feedback import FeedbackStore
from gateway.store.grants import GrantStore
from gateway.store.maintenance import MaintenanceStore
from gateway.store.pool import Database
from gateway.store.principals import PrincipalStore
from gateway.store.quality import QualityStore
from gateway.store.recall_watch import RecallStore
from gateway.store.search import SearchStore
from gateway.store.search_log import SearchLog
from gateway.store.space_vectors import SpaceVectorStore
from gateway.store.spaces import SpaceStore
from gateway.store.training import TrainingStore
from gateway.telemetry.requests import RequestStatistics
from tei.v1 import tei_pb2, tei_pb2_grpc

_MODULES = {
    "EmbeddingService": (embedding_service_pb2, embedding_service_pb2_grpc),
    "IndexService": (index_service_pb2, index_service_pb2_grpc),
    "SearchService": (search_service_pb2, search_service_pb2_grpc),
    "CodebaseService": (codebase_service_pb2, codebase_service_pb2_grpc),
    "PrincipalService": (principal_service_pb2, principal_service_pb2_grpc),
    "QualityService": (quality_service_pb2, quality_service_pb2_grpc),
    "StatusService": (status_service_pb2, status_service_pb2_grpc),
    "SpaceService": (space_service_pb2, space_service_pb2_grpc),
    "TrainingService": (training_service_pb2, training_service_pb2_grpc),
    "AuditService": (audit_service_pb2, audit_service_pb2_grpc),
    "Info": (tei_pb2, tei_pb2_grpc),
    "Embed": (tei_pb2, tei_pb2_grpc),
}
SERVICES = tuple(stubs.DESCRIPTOR.services_by_name[name].full_name for name, (stubs, _) in _MODULES.items())


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services are made of."""

    catalog: SpaceCatalog
    spaces: SpaceStore
    serving: Serving
    database: Database
    index_builder: IndexBuilder
    admission: Admission
    quotas: Quotas
    log: SearchLog | None
    statistics: RequestStatistics


def build_services(settings: Settings, parts: Parts) -> tuple[Service, ...]:
    """Every service of duovec.v1, and those of tei.v1."""
    timeout_s = settings.request_timeout_s
    database, serving, admission, quotas = parts.database, parts.serving, parts.admission, parts.quotas
    administrator = database.as_administrator()
    codebases, principals = CodebaseStore(database), PrincipalStore(database)
    servicers: dict[str, Any] = {
        "EmbeddingService": EmbeddingServicer(serving, principals, admission, quotas, timeout_s=timeout_s),
        "IndexService": IndexServicer(
            serving,
            ChunkStore(database),
            SpaceVectorStore(database),
            codebases,
            admission,
            quotas,
            timeout_s=timeout_s,
            on_indexed=parts.index_builder.request,
        ),
        "SearchService": SearchServicer(
            serving,
            SearchStore(database),
            admission,
            quotas,
            parts.log,
            FeedbackStore(database, parts.log),
            timeout_s=timeout_s,
        ),
        "CodebaseService": CodebaseServicer(
            codebases,
            GrantStore(database),
            CodebaseMaps(CodebaseMapStore(database)),
            serving,
            timeout_s=timeout_s,
        ),
        "PrincipalService": PrincipalServicer(principals, ApiKeyStore(database), timeout_s=timeout_s),
        "QualityService": QualityServicer(QualityStore(database), timeout_s=timeout_s),
        "StatusService": StatusServicer(
            serving,
            RecallStore(database),
            MaintenanceStore(administrator),
            principals,
            parts.statistics,
            admission,
            cache_max_texts=settings.cache_max_texts,
            timeout_s=timeout_s,
        ),
        "SpaceService": SpaceServicer(
            parts.spaces, SpaceVectorStore(administrator), parts.catalog, serving, principals, timeout_s=timeout_s
        ),
        "TrainingService": TrainingServicer(TrainingStore(database), timeout_s=timeout_s),
        "AuditService": AuditServicer(AuditLog(database), timeout_s=timeout_s),
        "Info": TeiInfoServicer(serving, admission),
        "Embed": TeiEmbedServicer(EmbeddingCalls(serving, principals, admission, quotas, timeout_s=timeout_s)),
    }
    return tuple(
        Service(
            stubs.DESCRIPTOR.services_by_name[name],
            servicers[name],
            getattr(grpc_stubs, f"add_{name}Servicer_to_server"),
        )
        for name, (stubs, grpc_stubs) in _MODULES.items()
    )
