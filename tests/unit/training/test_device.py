"""Which device a run gets. There is no GPU here: what torch says of one is stood in for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.device import choose_device
from training.errors import TrainingError
from training.trainer import Arguments


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[torch.device]]:
    """Lets torch see so many GPUs; gives the list of those that were made current."""

    def see(count: int) -> list[torch.device]:
        current: list[torch.device] = []
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "GPU")
        monkeypatch.setattr(torch.cuda, "set_device", current.append)
        return current

    return see


@pytest.mark.parametrize(
    ("name", "count", "chosen"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda:0"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_is_what_its_name_says(
    name: str, count: int, chosen: str, gpus: Callable[[int], list[torch.device]]
) -> None:
    """`auto` is a GPU where there is one."""
    gpus(count)
    assert choose_device(name) == torch.device(chosen)


@pytest.mark.parametrize(
    ("name", "processes", "told"),
    [
        ("gpu", 1, "device is 'gpu', must be auto, cpu, cuda or cuda:N"),
        ("cuda:", 1, "device is 'cuda:', must be"),
        ("cuda:-1", 1, "must be"),
        ("cpu:0", 1, "must be"),
        ("cuda:2", 1, "device is cuda:2, torch sees 2 GPUs"),
        ("cuda:1", 2, "device is cuda:1 for 2 processes"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    name: str, processes: int, told: str, gpus: Callable[[int], list[torch.device]]
) -> None:
    """One line that says what would do, instead of a run elsewhere."""
    gpus(2)
    with pytest.raises(TrainingError, match=told):
        choose_device(name, processes=processes)


def test_a_run_keeps_to_the_gpu_that_it_was_given(gpus: Callable[[int], list[torch.device]], tmp_path: Path) -> None:
    """With four in sight transformers would take the first, and split each batch of 8 from 32 rows over all."""
    current = gpus(4)
    arguments = Arguments(output_dir=str(tmp_path), per_device_train_batch_size=8, gpu=2, report_to=[])
    assert (arguments.device, arguments.n_gpu, arguments.train_batch_size) == (torch.device("cuda:2"), 1, 8)
    assert current[-1] == torch.device("cuda:2")


def test_the_cpu_is_no_gpu(gpus: Callable[[int], list[torch.device]], tmp_path: Path) -> None:
    """Also where there are GPUs."""
    current = gpus(4)
    arguments = Arguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    assert (arguments.device, arguments.n_gpu, current) == (torch.device("cpu"), 0, [])
