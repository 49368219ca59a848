"""A job over partitions on a cluster of Ray: what is done stays done, what failed is tried again by the next run."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import ray
import ray.data

from gateway.batch.checkpoint import Checkpoint
from gateway.batch.partitions import Partition
from gateway.batch.store import COUNTED, Store, read
from gateway.client.errors import ClientError


@dataclass(slots=True)
class BatchReport:
    """What a job did.

    Attributes:
        partition_count: Partitions of the sources.
        resumed_count: Of these, done by earlier runs.
        done_count: Done by this one.
        failed_count: With a chunk or a file that failed; the next run takes them again.
        counts: Chunks embedded, unchanged and failed, those that were cut at an encoder's limit (truncated), and files
            skipped and failed, by this run; a file fails where it cannot be read, or is given twice and not alike.
        nodes: Partitions by the node that stored them.
        failure: What a chunk or a file failed by, of the last partition with one; empty where none did.
    """

    partition_count: int
    resumed_count: int
    done_count: int = 0
    failed_count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "partition_count": self.partition_count,
            "resumed_count": self.resumed_count,
            "done_count": self.done_count,
            "failed_count": self.failed_count,
            "counts": dict(self.counts),
            "nodes": dict(self.nodes),
            "failure": self.failure,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.counts.items() if count)
        return (
            f"{self.done_count} partitions done by {len(self.nodes)} nodes, {self.resumed_count} before, "
            f"{self.failed_count} failed; {counts or 'nothing to do'}"
        )


def run(
    partitions: Sequence[Partition],
    *,
    endpoints: Sequence[str],
    checkpoint: str,
    actors: int,
    api_key_file: str | None = None,
    patience_s: float = 600.0,
    on_partition: Callable[[BatchReport], None] = lambda report: None,
) -> BatchReport:
    """Index every partition that is not done; Ray is initialized.

    Args:
        partitions: What to index.
        endpoints: Gateways; each actor keeps to one while it answers.
        checkpoint: Folder or URI for what is done.
        actors: Partitions that are sent at once, over the whole cluster.
        api_key_file: As of `Store`.
        patience_s: As of `Store`.
        on_partition: Called after each partition.

    Raises:
        ClientError: A gateway refused all of it, or none answered, or nothing can be read or noted on a node; what was
            done before is noted.
        ray.exceptions.RayError: A node could not go on; what was done before is noted.
    """
    done = Checkpoint(checkpoint).done()
    waiting = [partition for partition in partitions if partition.id not in done]
    report = BatchReport(len(partitions), len(partitions) - len(waiting))
    if not waiting:
        return report
    items = [{"partition": partition.to_json()} for partition in waiting]
    # One at a time, and each in a block of its own: Ray then hands them out as nodes get free.
    stored = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=1)
        .map_batches(
            Store,
            fn_constructor_args=(list(endpoints), checkpoint, api_key_file, patience_s),
            batch_size=1,
            batch_format="pyarrow",
            # It waits for the network. With those of `read` both would be one step, and nobody read ahead. Without
            # any, an actor is put on a node by chance, although Ray Data spreads them.
            num_cpus=0.01,
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(items))),
        )
    )
    for row in stored.iter_rows():
        if row["refusal"]:
            raise ClientError(
                f"{row['refusal']} (what is done is noted; run again to go on)", code=grpc.StatusCode[row["code"]]
            )
        report.nodes[row["node"]] += 1
        for name in COUNTED:
            report.counts[name] += int(row[name])
        if row["chunks_failed"] or row["files_failed"]:
            report.failed_count += 1
            report.failure = row["failure"]
        else:
            report.done_count += 1
        on_partition(report)
    return report
