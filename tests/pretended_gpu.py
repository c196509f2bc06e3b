"""A pretended GPU: torch's fake tensors say `cuda:0` on a machine without one. Shapes, number formats and devices are checked, and nothing
is computed; what would launch is counted, and what would wait, mix devices or attend without a fused kernel raises.

For a process of its own: it changes torch. Run as a program it trains and votes with the presets that its arguments name, in each number
format, and prints a line of JSON for each; for `worker` one of what a worker on such a card says.
"""

import ctypes
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda:0")
FREE = {
    *("view", "_unsafe_view", "permute", "transpose", "t", "expand", "select", "slice", "split", "split_with_sizes", "chunk"),
    *("unsqueeze", "squeeze", "detach", "alias", "as_strided", "unbind", "_reshape_alias", "lift_fresh", "device"),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"),
}
"""Operations that launch nothing."""
CUDA, META = 1, 14
"""Numbers of the device types in torch's C++ (c10/core/DeviceType.h)."""


class Launches(TorchDispatchMode):
    """Counts operations on the GPU; raises where one also touches the CPU, other than to copy or to read a scalar."""

    def __init__(self, watched: bool) -> None:
        super().__init__()
        self.watched = watched
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        devices = {t.device.type for t in [*given, *made]}
        if "cuda" not in devices or name in FREE or not self.watched:
            return out
        if name in ("_to_copy", "copy_"):
            if len(devices) > 1 and not (kwargs or {}).get("non_blocking"):
                raise RuntimeError(f"a wait: {func} from {given[-1].device} to {made[0].device}")
        elif any(t.device.type == "cpu" and t.ndim for t in [*given, *made]):
            raise RuntimeError(f"both devices: {func}")
        # Lists of tensors are done in one launch where the formats agree, else one by one.
        lists: list[Any] = [a for a in args if isinstance(a, (list, tuple)) and a and isinstance(a[0], Tensor)]
        one_by_one = name.startswith("_foreach") and name != "_foreach_copy_" and len({t.dtype for part in lists for t in part}) > 1
        self.counts[str(func)] += len(lists[0]) if one_by_one else 1
        return out


class NormedByOneKernel(torch.autograd.Function):
    """`rms_norm` as torch computes it on a GPU (from 2.9 on): in one launch, which keeps its input and a number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return x * 1.0


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by a fused kernel, which takes 4 dimensions."""
    if q.ndim != 4:
        raise RuntimeError(f"attention over {q.ndim} dimensions: no fused kernel")
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    return attend(q, k, v, None, torch.is_grad_enabled())[0]  # type: ignore[no-any-return]


def filled(loss: Tensor) -> None:
    """Give every leaf behind `loss` a gradient: autograd itself asks for the device."""
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if (leaf := getattr(node, "variable", None)) is not None:
                leaf.grad = torch.empty_like(leaf)
            stack += [following for following, _ in node.next_functions]


@contextmanager
def pretended_gpu(*, watched: bool = True) -> Iterator[tuple[FakeTensorMode, Launches]]:
    """Pretend within the block; nothing is counted, and a wait raises nothing, where it is not `watched`."""
    # Autograd asks a device's guard for its stream; that of `meta`, which does nothing, stands in where torch has none of CUDA.
    core = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 21).in_dll(core, "_ZN3c104impl26device_guard_impl_registryE")
    guards[CUDA] = guards[CUDA] or guards[META]
    instead: list[tuple[object, str, Callable[..., Any]]] = [
        (nn.functional, "scaled_dot_product_attention", attended),
        (nn.functional, "rms_norm", lambda x, *_: NormedByOneKernel.apply(x)),
        (Tensor, "backward", filled),
        (torch.cuda, "Event", mock.MagicMock),
        (Tensor, "numpy", lambda tensor: np.arange(tensor.numel()).reshape(tensor.shape) % 2 == 0),  # every second view rests
        (Tensor, "pin_memory", lambda tensor: tensor),
    ]
    with ExitStack() as stack:
        for owner, name, value in instead:
            stack.enter_context(mock.patch.object(owner, name, value))
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield mode, stack.enter_context(Launches(watched))


def moved(module: nn.Module, mode: FakeTensorMode) -> None:
    """Put `module` on the pretended GPU."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = FakeTensor(mode, torch.empty_like(tensor, device="meta"), GPU)
                    tensors[name] = nn.Parameter(fake, tensor.requires_grad) if tensors is part._parameters else fake  # type: ignore[assignment]


def figures(preset_name: str, dtype: torch.dtype) -> dict[str, int]:
    """Train and vote with a preset; return the launches of a segment (forward, loss and update; `single`: one a sequence, `carried`: more)
    and of a batch of views, and the bytes that a segment holds at its peak beside the bytes planned for it."""
    from hrm_submit.arc.augment import sample_augmentations
    from hrm_submit.arc.task import Pair, Task, make_grid
    from hrm_submit.config.preset_files import load_preset
    from hrm_submit.model.weights import PLAIN, build
    from hrm_submit.predict.answer import ViewRequest, score_views
    from hrm_submit.run.cost import training_bytes
    from hrm_submit.solver.session import n_rows
    from hrm_submit.train.batches import task_batches
    from hrm_submit.train.loop import Trainer

    preset, found, side = load_preset(preset_name), dict[str, int](), 10
    model, embedding = build(preset.model, replace(PLAIN, dtype=str(dtype).removeprefix("torch.")), n_rows=n_rows(preset))
    rng, grid = np.random.default_rng(0), make_grid(np.arange(81).reshape(9, 9) % 10)
    task = Task("a", (Pair(grid, grid),) * 3, (grid,))
    views = sample_augmentations(task, 100, rng, colours=preset.ttt.colours)
    rows = list(range(len(views))) if preset.model.embedding == "augmented" else [0] * len(views)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = 0 if isinstance(tensor, nn.Parameter) else storage.nbytes()
        return tensor

    with pretended_gpu() as (mode, watch):
        for module in (model, embedding):
            moved(module, mode)
        batches = list(islice(task_batches(task.train, views, rows, [side] * 3, preset.ttt, rng, str(GPU), preset.model.codes), 2))
        trainer = Trainer(model, embedding, preset.ttt, torch.Generator().manual_seed(0))
        for name, progress in (("single", 0.1), ("carried", 0.9)):
            for _ in trainer.run(iter(batches), lambda progress=progress: progress):  # type: ignore[misc]
                found[name] = watch.counts.total()
                watch.counts.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            next(trainer.run(iter(batches), lambda: 0.1))
        watch.counts.clear()
        requests = [ViewRequest(grid, view, row) for view, row in zip(views, rows, strict=True)]
        score_views(model, embedding, requests, side, replace(preset.vote, act_steps=preset.model.halt_max_steps))
        found["vote"] = watch.counts.total()
    found["held"] = 16 * sum(p.numel() for p in model.parameters()) + sum(kept.values())
    batch = preset.ttt.batch_size
    found["planned"] = training_bytes(preset.model, side * side, batch, element=dtype.itemsize, fused_attention=True)
    return found


def worker_of_a_card() -> dict[str, Any]:
    """Return what a worker says on the first of two L4 that were found: how it runs, the engines that it compared, the last answer; and
    the devices of all workers. The compiler hands back what it is given, and each number read is a half."""
    from hrm_submit.arc.task import Pair, Task, make_grid
    from hrm_submit.config.preset_files import load_preset
    from hrm_submit.config.runtime import preset_of_cards
    from hrm_submit.core.device import cards, list_devices
    from hrm_submit.model.packaged import EnsembleMember
    from hrm_submit.record.events import EngineChosen
    from hrm_submit.run.placement import worker_specs
    from hrm_submit.run.protocol import Assignment
    from hrm_submit.run.worker import Worker
    from hrm_submit.solver import engine

    card = {"major": 8, "minor": 9, "total_memory": 22 * 2**30}
    properties, grid = mock.MagicMock(**card), make_grid(np.arange(9).reshape(3, 3))
    properties.name = "NVIDIA L4"
    task = Task("a", (Pair(grid, grid),) * 3, (grid,))
    answers: dict[str, Any] = {
        "device_count": 2,
        "get_device_capability": (8, 9),
        "get_device_name": "NVIDIA L4",
        "get_arch_list": ["sm_86"],
        "get_device_properties": properties,
        "mem_get_info": (20 * 2**30, 22 * 2**30),
        "set_device": None,
        "empty_cache": None,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", PATH=""))  # no nvidia-smi
        stack.enter_context(mock.patch("hrm_submit.run.placement.cpu_count", return_value=4))
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, return_value=answer))
        stack.enter_context(mock.patch.object(torch, "compile", lambda function, **_: function))
        stack.enter_context(mock.patch.multiple(Tensor, item=lambda tensor: 0.5, tolist=lambda tensor: [0.5] * tensor.numel()))
        stack.enter_context(mock.patch.multiple(engine, SEGMENTS=1, GAIN=0.0))
        with mock.patch.object(torch.cuda, "is_available", return_value=True):
            devices = list_devices("auto")
        mode, _ = stack.enter_context(pretended_gpu(watched=False))
        stack.enter_context(mock.patch.object(nn.Module, "to", lambda module, *_, **__: moved(module, mode) or module))
        preset = load_preset(f"nano,{preset_of_cards(cards(devices))}")
        specs = worker_specs(devices, [EnsembleMember("nano", preset, None)], 0, [task] * 9, False)
        worker = Worker(specs[0])
        said = list(worker.serve(Assignment(task, None, 2, compare_seconds=1e9)))
    (chosen,) = [message for message in said if isinstance(message, EngineChosen)]
    tried = [[trial["engine"], trial["dtype"], trial["fault"]] for trial in chosen.trials or ()]
    places = [spec.device for spec in specs]
    return {"places": places, "runs": worker.describe(), "tried": tried, "segments": said[-1].segments, "final": said[-1].final}


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        print(json.dumps(worker_of_a_card()))
        sys.exit()
    for preset in sys.argv[1:]:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            print(json.dumps([preset, str(dtype), figures(preset, dtype)]))
