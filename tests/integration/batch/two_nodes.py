"""A Ray cluster of two nodes on this machine; prints its address, and runs until its stdin ends."""

import logging
import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_gcs_server_port_wait_time_s"] = "150"  # noqa: SIM112  as Ray spells it

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
# Ray's own 30 s for each step are too few for a machine that is busy.
START_TIMEOUT_S = 150


def main() -> None:
    """One node with the head, and another one."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "wait": False})
    cluster.add_node(wait=False, **{name: value for name, value in NODE.items() if name != "include_dashboard"})
    cluster.wait_for_nodes(timeout=START_TIMEOUT_S)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
