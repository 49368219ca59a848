"""The peers' own virtual environments: what they pin contradicts each other and this project."""

import subprocess
import sys
from pathlib import Path

# infinity-emb 0.0.78 asks for numpy < 2 and sentence-transformers < 4, optimum-onnx 0.1.0 for transformers < 4.58. With
# optimum < 2 its torch engine would run on BetterTransformer, which was measured: 12.3 chunks/s instead of 14.1.
PINS = {
    "sentence-transformers": (
        "sentence-transformers==6.2.0",
        "transformers==5.23.0",
        "tokenizers==0.23.3",
        "numpy==2.4.6",
    ),
    "infinity": (
        "infinity-emb[torch]==0.0.78",
        "sentence-transformers==3.4.1",
        "huggingface-hub==0.36.2",
        "numpy==1.26.4",
        "optimum==2.1.0",
        "optimum-onnx==0.1.0",
        "onnxruntime==1.31.1",
        "transformers==4.57.6",
        "tokenizers==0.22.2",
    ),
}
_TORCH = "torch==2.13.0"


def environment(name: str, folder: Path) -> Path:
    """Make the virtual environment of a peer where it is missing or has other pins.

    Args:
        name: A key of `PINS`.
        folder: Folder of all environments.

    Returns:
        Its Python.

    Raises:
        subprocess.CalledProcessError: venv or pip failed, and has said why on stderr.
    """
    home = folder / name
    python, stamp, pins = home / "bin" / "python", home / "pins.txt", "\n".join((_TORCH, *PINS[name]))
    if not stamp.is_file() or stamp.read_text() != pins:
        print(f"installing {name} into {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        # torch first and by its exact version: a range would pull the CUDA build.
        for some in ([_TORCH], [_TORCH, *PINS[name]]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *some], check=True, stdout=sys.stderr)
        stamp.write_text(pins)
    return python
