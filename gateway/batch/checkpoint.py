"""Which partitions are done: one small file each, on a disk that all nodes share or in an object store."""

import json
from collections.abc import Mapping

import pyarrow.fs as pa_fs

from gateway.batch.places import find_place

_SUFFIX = ".json"


class Checkpoint:
    """A folder of done partitions."""

    def __init__(self, place: str) -> None:
        """Args: place: A path that all nodes see, or a URI such as s3://bucket/folder."""
        self._system, self._folder = find_place(place)

    def done(self) -> set[str]:
        """Ids of the partitions that are done."""
        selector = pa_fs.FileSelector(self._folder, allow_not_found=True)
        names = [info.base_name for info in self._system.get_file_info(selector)]
        return {name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)}

    def record(self, partition_id: str, report: Mapping[str, object]) -> None:
        """Note that a partition is done. It is there in full or not at all, whenever the node dies."""
        self._system.create_dir(self._folder)
        whole = f"{self._folder}/{partition_id}{_SUFFIX}"
        part = f"{whole}.part"
        with self._system.open_output_stream(part) as stream:
            stream.write(json.dumps(report).encode())
        self._system.move(part, whole)
