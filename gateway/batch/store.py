"""The two steps of a partition: read and cut, anywhere; send through a gateway and remember, by an actor."""

import hashlib
import platform
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import ray

from duovec.v1 import chunk_pb2 as chunk_pb
from duovec.v1 import index_service_pb2 as index_pb
from gateway.batch.checkpoint import Checkpoint
from gateway.batch.partitions import Partition
from gateway.client.backoff import backoff_s
from gateway.client.chunk_messages import chunk_messages
from gateway.client.client import Client
from gateway.client.connection import is_passing
from gateway.client.errors import ClientError
from gateway.client.files import SkippedFile, unusable_name

COUNTED = ("chunks_embedded", "chunks_unchanged", "chunks_failed", "chunks_truncated", "files_skipped", "files_failed")
"""What a report of a partition has the numbers of."""

_SELECTORS_PER_CALL = 1000


def read(batch: pa.Table) -> pa.Table:
    """Read partitions and cut their files into chunks.

    Args:
        batch: Column `partition`, JSON.

    Returns:
        Columns `id`, `files` (of each what codebase and path it has, the hash of the version that stays, which is empty
        where there is nothing to find in it, and its chunks, serialized), `skipped_count`, `failures` (why files could
        not be taken), `codebase_by_row` (a column of the source names each row's codebase).
    """
    rows = [_cut(Partition.from_json(text)) for text in batch["partition"].to_pylist()]
    return pa.Table.from_pylist(rows, schema=_CUT)


def _cut(partition: Partition) -> dict[str, Any]:
    files: dict[tuple[str, str], dict[str, Any]] = {}
    skipped_count = 0
    failures: list[str] = []
    refused: set[tuple[str, str]] = set()
    for number, (codebase_id, path, source) in enumerate(partition.files()):
        if isinstance(source, SkippedFile) and source.reason == "unreadable":
            # On this node, at this moment: what is stored of it may be all there is.
            failures.append(f"{path}: unreadable on {platform.node()}")
            continue
        chunks: list[bytes] = []
        kept_sha256 = b""
        if isinstance(source, SkippedFile):
            skipped_count += 1
        else:
            file_sha256 = hashlib.sha256(source).digest()
            messages = chunk_messages(path, source, file_sha256, max_chars=partition.max_chars)
            chunks = [message.SerializeToString() for message in messages]
            kept_sha256 = file_sha256 if chunks else b""
        if not chunks and not _may_be_stored(path):
            continue
        file = {"codebase_id": codebase_id, "path": path, "kept_sha256": kept_sha256, "chunks": chunks, "row": number}
        first = files.setdefault((codebase_id, path), file)
        if first["kept_sha256"] != kept_sha256 and (codebase_id, path) not in refused:
            # The one would delete the other. Which of them is meant, nobody knows here.
            refused.add((codebase_id, path))
            failures.append(
                f"{path}: rows {first['row']} and {number} of row group {partition.row_group} of {partition.place} "
                f"differ, and are one path in codebase {codebase_id!r}; a column may name the codebase of each"
            )
    return {
        "id": partition.id,
        "files": [file for key, file in files.items() if key not in refused],
        "skipped_count": skipped_count,
        "failures": failures,
        "codebase_by_row": partition.columns is not None and partition.columns.codebase is not None,
    }


def _may_be_stored(path: str) -> bool:
    """Whether the gateway takes it for a path; of any other it holds nothing, and refuses to delete it."""
    return unusable_name(path) is None and {"", ".", ".."}.isdisjoint(path.split("/"))


_FILE = pa.struct(
    [
        ("codebase_id", pa.string()),
        ("path", pa.string()),
        ("kept_sha256", pa.binary()),
        ("chunks", pa.list_(pa.binary())),
    ]
)
_CUT = pa.schema(
    [
        ("id", pa.string()),
        ("files", pa.list_(_FILE)),
        ("skipped_count", pa.int64()),
        ("failures", pa.list_(pa.string())),
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
            patience_s: How long the gateways may fail, from the first failure after a chunk was stored, before the job
                does, seconds.
        """
        self._endpoints, self._api_key_file = endpoints, api_key_file
        self._clients: list[Client] = []
        self._turn = random.randrange(len(endpoints))  # noqa: S311 - no secret
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
        node = {"node": ray.get_runtime_context().get_node_id()}
        return pa.Table.from_pylist([self.store(row) | node for row in batch.to_pylist()])

    def store(self, row: dict[str, Any]) -> dict[str, Any]:
        """Store one partition, a row of what `read` gave; the report lacks the node."""
        report = dict.fromkeys(COUNTED, 0) | {
            "id": row["id"],
            "files_skipped": row["skipped_count"],
            "files_failed": len(row["failures"]),
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
        return report

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
        counts = self._store(row["files"], row["codebase_by_row"])
        report |= {f"chunks_{name}": counts[name] for name in ("embedded", "unchanged", "failed", "truncated")}
        if counts["failed"]:
            report["failure"] = self._failure
        elif row["failures"]:
            report["failure"] = row["failures"][0]
        else:
            self._checkpoint.record(row["id"], report)

    def _store(self, files: list[dict[str, Any]], codebase_by_row: bool) -> Counter[str]:
        failures, away_since = 0, 0.0
        while True:
            counts: Counter[str] = Counter()
            try:
                self._store_by(self._clients[self._turn % len(self._clients)], files, codebase_by_row, counts)
            except ClientError as error:
                if not is_passing(error):
                    raise
                now = time.monotonic()
                # What was stored before is unchanged each time, and shows nothing of a service that fails by the rest.
                failures = 1 if counts["embedded"] else failures + 1
                if failures == 1:
                    away_since = now
                if now - away_since >= self._patience_s:
                    raise
                self._turn += 1
                time.sleep(backoff_s(failures, error.retry_delay_s))
            else:
                return counts

    def _store_by(
        self, client: Client, files: list[dict[str, Any]], codebase_by_row: bool, counts: Counter[str]
    ) -> None:
        """Send all; a stream is of one codebase. What is no id of one fails its own rows, where rows name theirs."""
        by_codebase: dict[str, list[dict[str, Any]]] = {}
        for file in files:
            by_codebase.setdefault(file["codebase_id"], []).append(file)
        for codebase_id, those in by_codebase.items():
            try:
                self._create(client, codebase_id)
            except ClientError as error:
                if not codebase_by_row or error.code != grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                counts["failed"] += sum(len(file["chunks"]) for file in those)
                self._failure = f"{those[0]['path']}: {error}"
                continue
            self._send(client, codebase_id, those, counts)

    def _send(self, client: Client, codebase_id: str, files: list[dict[str, Any]], counts: Counter[str]) -> None:
        failed: set[str] = set()
        chunks = (chunk_pb.Chunk.FromString(raw) for file in files for raw in file["chunks"])
        for chunk, outcome in client.index_chunks(codebase_id, chunks, truncate=True):
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
        # What other versions of a file left goes once the new one is there in full, if there is anything to find in it.
        selectors = [
            index_pb.DeleteChunksRequest.FileSelector(
                path=file["path"],
                keep_file_sha256=file["kept_sha256"],
                keep_file_chunk_count=len(file["chunks"]),
            )
            for file in files
            if file["path"] not in failed
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
