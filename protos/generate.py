"""Generate the Python stubs of protos/duovec and protos/tei beside their sources, or into another folder.

Usage: python protos/generate.py [OUTPUT_DIR]
"""

import sys
from importlib.resources import files
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

PROTOS_DIR = Path(__file__).parent
PACKAGES = ("duovec", "tei")


def generate(output_dir: Path) -> None:
    """Write `_pb2.py`, `_pb2.pyi` and `_pb2_grpc.py` of every proto under `output_dir`.

    Raises:
        RuntimeError: protoc found an error; it has printed which.
    """
    googleapis_dir = Path(status_pb2.__file__).parents[2]
    sources = sorted(str(path) for package in PACKAGES for path in PROTOS_DIR.glob(f"{package}/**/*.proto"))
    includes = (PROTOS_DIR, googleapis_dir, files("grpc_tools") / "_proto")
    code = protoc.main(
        [
            "protoc",
            *(f"--proto_path={path}" for path in includes),
            f"--python_out={output_dir}",
            f"--pyi_out={output_dir}",
            f"--grpc_python_out={output_dir}",
            *sources,
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc exited with {code}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS_DIR)
