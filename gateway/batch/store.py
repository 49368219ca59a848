"""The two steps of a partition: read and cut, anywhere; send through a gateway and remember, by an actor."""

import hashlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import ray

from duovec.v1 import index_service_pb2 as index_pb
from gateway.batch.checkpoint import Checkpoint
from gateway.batch.partitions import Partition
from gateway.client.chunk_messages import chunk_messages
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.files import SkippedFile

COUNTED = ("chunks_embedded", "chunks_unchanged", "chunks_failed", "chunks_truncated", "files_skipped")
"""What a report of a partition has the numbers of."""

_SELECTORS_PER_CALL = 1000
_RETRY_S = 5.0


def read(batch: pa.Table) -> pa.Table:
    """Read partitions and cut their files into chunks.

    Args:
        batch: Column `partition`, JSON.

    Returns:
        Columns `id`, `requests` (serialized IndexChunksRequest of a codebase and a chunk, by file), `skipped_count`,
        `codebase_by_row` (a column of the source names each row's codebase).
    """
    rows = []
    for text in batch["partition"].to_pylist():
        partition = Partition.from_json(text)
        requests: list[bytes] = []
        skipped_count = 0
        for codebase_id, path, source in partition.files():
            if isinstance(source, SkippedFile) or b"\0" in source:
                skipped_count += 1
                continue
            file_sha256 = hashlib.sha256(source).digest()
            for chunk in chunk_messages(path, source, file_sha256, max_chars=partition.max_chars):
                request = index_pb.IndexChunksRequest(codebase_id=codebase_id, chunk=chunk)
                requests.append(request.SerializeToString())
        rows.append(
            {
                "id": partition.id,
                "requests": requests,
                "skipped_count": skipped_count,
                "codebase_by_row": partition.columns is not None and partition.columns.codebase is not None,
            }
        )
    return pa.Table.from_pylist(rows, schema=_CUT)


_CUT = pa.schema(
    [
        ("id", pa.string()),
        ("requests", pa.list_(pa.binary())),
        ("skipped_count", pa.int64()),
        ("codebase_by_row", pa.bool_()),
    ]
)


class Store:
    """Sends partitions through the gateways, one at a time, as fast as they take them.

    A stream's window and the gateway's own flow control hold an actor back; Ray holds back those that read. A gateway
    that goes away is waited for, and the next one asked, for `patience_s`.
    """

    def __init__(self, endpoints: list[str], checkpoint: str, api_key_file: str | None, patience_s: float) -> None:
        """Connect to nothing yet.

        Args:
            endpoints: Gateways.
            checkpoint: Where done partitions are noted.
            api_key_file: Holds the key, on every node; None takes DUOVEC_API_KEY of the node's environment.
            patience_s: How long no gateway may answer before the job fails, seconds.
        """
        self._endpoints, self._api_key_file = endpoints, api_key_file
        self._clients: list[Client] = []
        self._turn = hash(ray.get_runtime_context().get_actor_id()) % len(endpoints)
        self._checkpoint = Checkpoint(checkpoint)
        self._patience_s = patience_s
        self._codebases: set[str] = set()
        self._failure = ""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Store what `read` gave.

        Returns:
            A report a row. What cannot go on says why in `refusal`, with its code: Ray would bury an exception under
            its own words.
        """
        reports = []
        for row in batch.to_pylist():
            report = dict.fromkeys(COUNTED, 0) | {
                "id": row["id"],
                "node": ray.get_runtime_context().get_node_id(),
                "files_skipped": row["skipped_count"],
                "failure": "",
                "refusal": "",
                "code": "",
            }
            try:
                self._work(row, report)
            except ClientError as error:
                report |= {"refusal": str(error), "code": error.code.name}
            except OSError as error:
                report |= {"refusal": str(error), "code": grpc.StatusCode.FAILED_PRECONDITION.name}
            reports.append(report)
        return pa.Table.from_pylist(reports)

    def _work(self, row: dict[str, Any], report: dict[str, Any]) -> None:
        """Store one partition, and note it where all of it is stored.

        Raises:
            ClientError: A gateway refuses what no other one would take, or none answers.
            OSError: The key cannot be read, or nothing be noted.
        """
        if not self._clients:
            path = self._api_key_file
            key = Path(path).read_text(encoding="utf-8").strip() if path else None
            self._clients = [Client(endpoint, api_key=key) for endpoint in self._endpoints]
        requests = [index_pb.IndexChunksRequest.FromString(raw) for raw in row["requests"]]
        counts = self._store(requests, row["codebase_by_row"])
        report |= {f"chunks_{name}": counts[name] for name in ("embedded", "unchanged", "failed", "truncated")}
        if counts["failed"]:
            report["failure"] = self._failure
        else:
            self._checkpoint.record(row["id"], report)

    def _store(self, requests: list[index_pb.IndexChunksRequest], codebase_by_row: bool) -> Counter[str]:
        ends_at = time.monotonic() + self._patience_s
        while True:
            try:
                return self._store_by(self._clients[self._turn % len(self._clients)], requests, codebase_by_row)
            except ClientError as error:
                if not error.may_pass or time.monotonic() > ends_at:
                    raise
                self._turn += 1
                time.sleep(_RETRY_S)

    def _store_by(
        self, client: Client, requests: list[index_pb.IndexChunksRequest], codebase_by_row: bool
    ) -> Counter[str]:
        """Send all; a stream is of one codebase. What is no id of one fails its own rows, where rows name theirs."""
        counts: Counter[str] = Counter()
        by_codebase: dict[str, list[index_pb.IndexChunksRequest]] = {}
        for request in requests:
            by_codebase.setdefault(request.codebase_id, []).append(request)
        for codebase_id, those in by_codebase.items():
            try:
                self._create(client, codebase_id)
            except ClientError as error:
                if not codebase_by_row or error.code != grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                counts["failed"] += len(those)
                self._failure = f"{those[0].chunk.path}: {error}"
                continue
            self._send(client, codebase_id, those, counts)
        return counts

    def _send(
        self, client: Client, codebase_id: str, requests: list[index_pb.IndexChunksRequest], counts: Counter[str]
    ) -> None:
        failed: set[str] = set()
        for chunk, outcome in client.index_chunks(codebase_id, (request.chunk for request in requests), truncate=True):
            if isinstance(outcome, ClientError):
                counts["failed"] += 1
                failed.add(chunk.path)
                self._failure = f"{codebase_id}: {chunk.path}: {outcome}"
                continue
            counts["truncated"] += outcome.truncated
            if outcome.disposition == index_pb.IndexedChunk.DISPOSITION_UNCHANGED:
                counts["unchanged"] += 1
            else:
                counts["embedded"] += 1
        # What other versions of a file left goes once the new one is there in full.
        stored = {
            request.chunk.path: request.chunk.file_sha256 for request in requests if request.chunk.path not in failed
        }
        selectors = [
            index_pb.DeleteChunksRequest.FileSelector(path=path, keep_file_sha256=digest)
            for path, digest in stored.items()
        ]
        for start in range(0, len(selectors), _SELECTORS_PER_CALL):
            client.delete_files(codebase_id, selectors[start : start + _SELECTORS_PER_CALL])

    def _create(self, client: Client, codebase_id: str) -> None:
        """Create the codebase, unless it is known to be there."""
        if codebase_id in self._codebases:
            return
        try:
            client.create_codebase(codebase_id)
        except ClientError as error:
            if error.code != grpc.StatusCode.ALREADY_EXISTS:
                raise
        self._codebases.add(codebase_id)
