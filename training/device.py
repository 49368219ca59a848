"""The device that a run computes on."""

import torch

from training.errors import TrainingError


def choose_device(name: str, *, processes: int = 1) -> torch.device:
    """The CPU or one GPU.

    Args:
        name: `auto` (a GPU where torch sees one), `cpu`, `cuda` or `cuda:N`, counted within CUDA_VISIBLE_DEVICES.
        processes: How many train together; torchrun's processes have a GPU each, by their rank.

    Raises:
        TrainingError: It is no such name, torch sees no GPU of that number, or several processes are to share one.
    """
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (name != kind and not (kind == "cuda" and number.isdecimal())):
        raise TrainingError(f"device is {name!r}, must be auto, cpu, cuda or cuda:N")
    found = torch.cuda.device_count()
    if kind == "cpu" or (kind == "auto" and found == 0):
        return torch.device("cpu")
    if int(number or 0) >= found:
        raise TrainingError(f"device is {name}, torch sees {found} GPUs; choose cpu, or auto")
    if number and processes > 1:
        raise TrainingError(
            f"device is {name} for {processes} processes, each of which has a GPU of its own; choose cuda"
        )
    return torch.device("cuda", int(number or 0))
