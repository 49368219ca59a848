"""Low-rank adapters chosen row by row, so that requests of different tasks share one batch and one copy of the weights.

All tasks' ranks are computed in one product (K = T·R columns), then the columns of the other tasks are zeroed. That
equals gathering A and B by task id, and keeps the weights constants of the graph.

Shapes: B rows, S tokens, I inputs, O outputs, T tasks, R rank.
"""

import torch
from torch import Tensor, nn

from export.adapters import Adapters, LayerAdapter
from export.errors import ExportError


class TaskSelection:
    """Which of the stacked ranks each row uses; set once a forward pass, read by every adapted layer.

    No module: the exporter warns of a module's attribute that a forward pass assigns.
    """

    def __init__(self, tasks: int, rank: int) -> None:
        self._columns_TK = torch.eye(tasks).repeat_interleave(rank, dim=1)
        self.mask_B1K = torch.empty(0)

    def select(self, task_id: Tensor) -> None:
        """Choose by task id, (B, 1) int64."""
        self.mask_B1K = self._columns_TK.to(task_id.device)[task_id]


class TaskLoraLinear(nn.Module):
    """A linear layer with one adapter a task."""

    def __init__(self, linear: nn.Linear, adapter: LayerAdapter, scale: float, selection: TaskSelection) -> None:
        super().__init__()
        self.linear = linear
        tasks, rank, inputs = adapter.A_TRI.shape
        self.a_IK = nn.Parameter(torch.from_numpy(adapter.A_TRI).reshape(tasks * rank, inputs).T.contiguous())
        self.b_KO = nn.Parameter(scale * torch.from_numpy(adapter.B_TOR).transpose(1, 2).reshape(tasks * rank, -1))
        self._selection = selection

    def forward(self, hidden_BSI: Tensor) -> Tensor:
        """(B, S, I) to (B, S, O)."""
        low_BSK = (hidden_BSI @ self.a_IK) * self._selection.mask_B1K
        output: Tensor = self.linear(hidden_BSI) + low_BSK @ self.b_KO
        return output


class TaskLoraEmbedding(nn.Module):
    """An embedding table with one adapter a task: a second, narrow table, then a product."""

    def __init__(self, table: nn.Embedding, adapter: LayerAdapter, scale: float, selection: TaskSelection) -> None:
        super().__init__()
        self.table = table
        tasks, rank, inputs = adapter.A_TRI.shape
        narrow_IK = torch.from_numpy(adapter.A_TRI).reshape(tasks * rank, inputs).T.contiguous()
        self.narrow_IK = nn.Parameter(narrow_IK, requires_grad=False)
        self.b_KO = nn.Parameter(scale * torch.from_numpy(adapter.B_TOR).transpose(1, 2).reshape(tasks * rank, -1))
        self._selection = selection

    def forward(self, ids_BS: Tensor) -> Tensor:
        """(B, S) int64 to (B, S, O)."""
        low_BSK = nn.functional.embedding(ids_BS, self.narrow_IK) * self._selection.mask_B1K
        output: Tensor = self.table(ids_BS) + low_BSK @ self.b_KO
        return output


def adapted_layers(transformer: nn.Module, targets: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every linear and embedding layer that LoRA targets name, by path.

    Raises:
        ExportError: A target names no layer.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for target in targets:
        found = {
            path: _shape(module)
            for path, module in transformer.named_modules()
            if isinstance(module, nn.Linear | nn.Embedding) and path.rpartition(".")[2] == target
        }
        if not found:
            raise ExportError(f"lora.targets names {target!r}, which is no linear or embedding layer of the base")
        shapes.update(found)
    return shapes


def _shape(layer: nn.Linear | nn.Embedding) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    return layer.embedding_dim, layer.num_embeddings


def merge(transformer: nn.Module, adapters: Adapters, task: int) -> None:
    """Add one task's adapters to the weights of the base, in place.

    Raises:
        ExportError: The adapters do not fit the base.
    """
    for path, adapter in adapters.layers.items():
        layer = _layer(transformer, path, adapter)
        delta_OI = torch.from_numpy(adapter.delta(task, adapters.scale))
        with torch.no_grad():
            layer.weight += delta_OI if isinstance(layer, nn.Linear) else delta_OI.T


def keep_per_row(transformer: nn.Module, adapters: Adapters) -> TaskSelection:
    """Replace the adapted layers by ones that choose their adapter row by row.

    Returns:
        The selection that they all read.

    Raises:
        ExportError: The adapters do not fit the base.
    """
    tasks, rank, _ = next(iter(adapters.layers.values())).A_TRI.shape
    selection = TaskSelection(tasks, rank)
    for path, adapter in adapters.layers.items():
        layer = _layer(transformer, path, adapter)
        kind = TaskLoraLinear if isinstance(layer, nn.Linear) else TaskLoraEmbedding
        transformer.set_submodule(path, kind(layer, adapter, adapters.scale, selection))  # type: ignore[arg-type]
    return selection


def _layer(transformer: nn.Module, path: str, adapter: LayerAdapter) -> nn.Linear | nn.Embedding:
    try:
        layer = transformer.get_submodule(path)
    except AttributeError as exc:
        raise ExportError(f"the adapters name {path}, which the base does not have") from exc
    if not isinstance(layer, nn.Linear | nn.Embedding):
        raise ExportError(f"the adapters name {path}, which is neither a linear nor an embedding layer")
    found = (adapter.B_TOR.shape[1], adapter.A_TRI.shape[2])
    if found != _shape(layer):
        raise ExportError(f"the adapter of {path} maps {found[1]} to {found[0]}, the layer is {_shape(layer)}")
    return layer
