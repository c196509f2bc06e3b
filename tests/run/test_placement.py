"""How many workers go where, on machines that are made up."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hrm_submit.arc.task import Task
from hrm_submit.config.schema import DeviceConfig, ModelConfig, Preset
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.run import placement
from hrm_submit.run.cost import CONTEXT_BYTES, training_bytes
from hrm_submit.run.placement import worker_specs
from tests.run.lab import recolour

TASKS = [recolour(f"t{k}", k) for k in range(100)]
SMALL = ModelConfig(hidden_size=64, num_heads=2, H_layers=1, L_layers=1, H_cycles=1, L_cycles=1, puzzle_emb_ndim=64)
GPU = DeviceConfig(dtype="bfloat16", attention="sdpa")


def unasked(device: str) -> int:
    raise AssertionError("nobody needs to know")


def member(preset: Preset) -> tuple[EnsembleMember, ...]:
    return (EnsembleMember("one", preset, None),)


def places(
    devices: list[str],
    device: DeviceConfig,
    tasks: list[Task] = TASKS,
    fixed: bool = False,
    model: ModelConfig = SMALL,
    free: Callable[[str], int] = unasked,
) -> tuple[list[str], int]:
    """Devices of the workers in order, and the threads of each."""
    specs = worker_specs(devices, member(Preset(model=model, device=device)), 5, tasks, fixed, free=free)
    assert [s.number for s in specs] == list(range(len(specs))) and all(s.seed == 5 and s.preset == specs[0].preset for s in specs)
    return [s.device for s in specs], specs[0].preset.device.threads


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "cpu_count", lambda: 4)


def test_a_cpu_has_as_many_workers_as_cores_or_as_tasks() -> None:
    assert places(["cpu"], DeviceConfig()) == (["cpu"] * 4, 1)
    assert places(["cpu"], DeviceConfig(threads=2)) == (["cpu"] * 2, 2)
    assert places(["cpu"], DeviceConfig(workers=3, threads=2)) == (["cpu"] * 3, 2)
    assert places(["cpu"], DeviceConfig(threads=10**6)) == (["cpu"], 10**6)
    assert places(["cpu"], DeviceConfig(workers=3), TASKS[:2]) == (["cpu"] * 2, 1)
    assert places(["cpu"], DeviceConfig(), TASKS[:1]) == (["cpu"], 4), "spare cores become threads"
    assert places(["cpu"], DeviceConfig(), TASKS[:3]) == (["cpu"] * 3, 1)
    assert places(["cpu"], DeviceConfig(), TASKS[:1], fixed=True) == (["cpu"], 1), "but never where results must not depend on the machine"
    assert places(["cpu"], DeviceConfig(), []) == (["cpu"], 1)


@pytest.mark.parametrize(
    ("seconds", "asked", "kernels"),
    [(None, "auto", "auto"), (100.0, "auto", "torch"), (120.0, "auto", "auto"), (100.0, "numba", "numba"), (900.0, "torch", "torch")],
)
def test_a_short_run_compiles_nothing_unless_asked(seconds: float | None, asked: Any, kernels: str) -> None:
    (found,) = placement.for_budget(member(Preset(device=DeviceConfig(kernels=asked))), seconds)
    assert found.preset.device.kernels == kernels


def test_as_many_on_each_gpu_as_the_preset_says_and_few_tasks_spread_over_all() -> None:
    two, three = replace(GPU, workers_per_gpu=2), replace(GPU, workers_per_gpu=3)
    assert places(["cuda:0", "cuda:1"], two)[0] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"], "in turn"
    assert places(["cuda:0", "cpu"], replace(two, workers=1))[0] == ["cuda:0", "cuda:0", "cpu"]
    assert places(["cuda:0", "cuda:1"], three, TASKS[:4])[0] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert places(["cuda:0", "cuda:1"], three, TASKS[:1])[0] == ["cuda:0", "cuda:1"]


def test_as_many_on_a_gpu_as_its_memory_holds() -> None:
    """The largest task decides: its canvas has 81 cells."""
    tasks = [*TASKS, recolour("large", 0, side=9)]
    each = training_bytes(SMALL, 81, Preset().ttt.batch_size, element=2, fused_attention=True) + CONTEXT_BYTES

    def held(free: dict[str, float]) -> list[str]:
        return places(list(free), GPU, tasks, free=lambda device: int(free[device] * each / 0.9) + 1024)[0]

    assert held({"cuda:0": 3}) == ["cuda:0"] * 3
    assert held({"cuda:0": 2.9}) == ["cuda:0"] * 2
    assert held({"cuda:0": 0.1}) == ["cuda:0"], "one is tried"
    assert held({"cuda:0": 50}) == ["cuda:0"] * 4, "more would only wait for each other"
    assert held({"cuda:0": 1, "cuda:1": 2}) == ["cuda:0", "cuda:1", "cuda:1"]
    assert held({"cuda:0": 50, "cuda:1": 50}) == ["cuda:0", "cuda:1"] * 2, "four cores launch the work of four"
    assert held({f"cuda:{n}": 50 for n in range(5)}) == [f"cuda:{n}" for n in range(5)], "but no GPU stays without a worker"


def test_a_model_that_keeps_a_gpu_busy_has_it_to_itself() -> None:
    large = [recolour(f"t{k}", k, side=30) for k in range(5)]
    assert places(["cuda:0"], GPU, large, model=ModelConfig())[0] == ["cuda:0"], "and its memory is not asked for"
    assert places(["cuda:0"], GPU, [])[0] == ["cuda:0"], "nor where nothing is to be done"
    other = EnsembleMember("other", Preset(model=ModelConfig(), device=GPU), None)
    members = (*member(Preset(model=SMALL, device=GPU)), other)
    specs = worker_specs(["cuda:0"], members, 0, large, False, free=lambda device: 2**50)
    assert [spec.members for spec in specs] == [members], "also one that is not the first"


def test_workers_know_the_largest_canvas_and_how_many_share_their_device() -> None:
    preset, tasks = Preset(model=SMALL, device=replace(GPU, workers_per_gpu=3)), [*TASKS, recolour("large", 0, side=9)]
    specs = worker_specs(["cuda:0", "cuda:1", "cpu"], member(preset), 0, tasks, False)
    assert {(s.device, s.sharing, s.tokens) for s in specs} == {("cuda:0", 3, 81), ("cuda:1", 3, 81), ("cpu", 4, 81)}
