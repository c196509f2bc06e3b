"""Which device and number format follow from what a machine can do; the machine is made up. How memory is allocated on a real one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import DeviceConfig
from hrm_submit.core import device
from hrm_submit.core.device import LARGE_PAGES, free_bytes, has_kernels, large_pages_for_children, list_devices, machine, out_of_memory
from hrm_submit.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
# As torch lists them: binaries for some architectures, and an intermediate form that later ones can compile.
KAGGLE_ARCHS = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Capabilities of the GPUs of the made-up machine; fill it."""
    found: list[tuple[int, int]] = []
    number = {"cuda:0": 0, "cuda:1": 1}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(found))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d: found[number[str(d)]])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: f"card {d}")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: KAGGLE_ARCHS)
    return found


def test_auto_takes_every_gpu_that_works_or_the_cpu(gpus: list[tuple[int, int]]) -> None:
    assert list_devices("auto") == ["cpu"]
    gpus += [(7, 5), (8, 9)]
    assert list_devices("auto") == ["cuda:0", "cuda:1"]
    assert list_devices("cuda:1") == ["cuda:1"]
    assert list_devices("cuda:1, cpu") == ["cuda:1", "cpu"]
    assert list_devices("cpu") == ["cpu"]


def test_a_gpu_without_kernels_is_left_out_with_a_warning(gpus: list[tuple[int, int]], caplog: pytest.LogCaptureFixture) -> None:
    gpus += [(6, 0)]
    assert list_devices("auto") == ["cpu"]
    (message,) = caplog.messages
    assert "sm_60" in message and "CPU" in message
    gpus += [(7, 5)]
    assert list_devices("auto") == ["cuda:1"], "it does not cost the other"


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((6, 0), KAGGLE_ARCHS, False),
        ((8, 9), KAGGLE_ARCHS, True),  # by the binary for 8.6
        ((8, 0), ["sm_86"], False),  # a binary runs on no earlier version
        ((9, 0), ["sm_86"], False),  # nor on another major one
        ((9, 0), ["sm_86", "compute_86"], True),  # but the intermediate form does
        ((9, 0), ["sm_90a"], True),
        ((13, 0), ["sm_120"], False),
        ((9, 0), [], False),
    ],
)
def test_kernels_by_capability(
    gpus: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], archs: list[str], runs: bool
) -> None:
    gpus += [capability]
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: archs)
    assert has_kernels("cuda:0") is runs


@pytest.mark.parametrize("devices", ["cuda:0", "gpu", "cuda", "cpu,cuda:3", "", " , "])
def test_devices_that_are_not_there(gpus: list[tuple[int, int]], devices: str) -> None:
    with pytest.raises(ConfigError, match="--devices") as caught:
        list_devices(devices)
    assert "\n" not in str(caught.value)


def test_number_format_of_a_gpu(gpus: list[tuple[int, int]]) -> None:
    for capability, dtype in {(6, 1): "float32", (7, 0): "float16", (7, 5): "float16", (8, 0): "bfloat16", (12, 0): "bfloat16"}.items():
        gpus[:] = [capability]
        runtime = runtime_for("cuda:0", DeviceConfig())
        assert (runtime.dtype, runtime.attention) == (dtype, "sdpa")


@pytest.mark.parametrize(
    ("cpuinfo", "dtype", "attention"),
    [
        ("processor : 0\nflags\t\t: fpu sse avx2\nprocessor : 1\nflags : fpu amx_bf16\n", "float32", "sdpa"),
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n", "bfloat16", "math"),
        ("processor : 0\nflags : fpu amx_tile amx_bf16\nbugs : none\n", "bfloat16", "math"),
        ("processor : 0\nFeatures : fp asimd\n", "float32", "sdpa"),
        (None, "float32", "sdpa"),  # a machine without such a file
    ],
)
def test_number_format_and_attention_of_a_cpu(monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, dtype: str, attention: str) -> None:
    monkeypatch.setattr(Path, "read_text", Mock(return_value=cpuinfo, side_effect=None if cpuinfo else FileNotFoundError))
    runtime = runtime_for("cpu", DeviceConfig())
    assert (runtime.dtype, runtime.attention) == (dtype, attention)


def test_what_the_preset_says_goes_before_the_guess(gpus: list[tuple[int, int]]) -> None:
    gpus += [(9, 0)]
    runtime = runtime_for("cuda:0", DeviceConfig(dtype="float32", attention="math", engine="compile", threads=3))
    assert runtime == Runtime("cuda:0", dtype="float32", attention="math", kernels="torch", engine="compile", threads=3)


@pytest.mark.parametrize(
    ("device", "config", "kernels"),
    [
        ("cpu", DeviceConfig(), "numba"),
        ("cpu", DeviceConfig(kernels="torch"), "torch"),
        ("cpu", DeviceConfig(engine="compile"), "torch"),
        ("cpu", DeviceConfig(kernels="numba", engine="compile"), "numba"),
        ("cpu", DeviceConfig(dtype="float16"), "torch"),
        ("cuda:0", DeviceConfig(dtype="float32", kernels="numba"), "torch"),
    ],
)
def test_compiled_kernels_are_for_cpus_and_formats_that_they_know(device: str, config: DeviceConfig, kernels: str) -> None:
    assert runtime_for(device, config).kernels == kernels


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put an `nvidia-smi` with the given last lines before all others; what it is asked stands in the file that is returned."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=1000 + index))

    def install(answer: str) -> Path:
        asked, program = tmp_path / "asked", tmp_path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\necho "$@" > "{asked}"\n{answer}\n')
        program.chmod(0o755)
        return asked

    return install


@pytest.mark.parametrize(
    ("visible", "device", "name"),
    [("2, 0", "cuda:1", "0"), ("GPU-5ab1,GPU-77", "cuda:1", "GPU-77"), ("", "cuda:3", "3"), ("", "cuda", "0"), ("6", "cuda:1", "1")],
)
def test_free_memory_is_what_the_tool_tells_which_counts_hidden_gpus_too(
    tool: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, visible: str, device: str, name: str
) -> None:
    asked = tool("echo 22517")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert free_bytes(device) == 22517 * 2**20, "it tells MiB"
    assert asked.read_text().startswith(f"-i {name} --query-gpu=memory.free ")


@pytest.mark.parametrize("answer", ["exit 9", "echo '[N/A]'", "true", "kill -9 $$"])
def test_without_the_tool_or_a_useful_answer_all_memory_counts(tool: Callable[[str], Path], answer: str) -> None:
    assert free_bytes("cuda:0") == 1000
    tool(answer)
    assert free_bytes("cuda:1") == 1001


def test_a_tool_that_no_signal_ends_holds_up_nothing(tool: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a driver."""
    tool(f'PATH=/usr/bin:/bin; sleep 5; touch "{tmp_path}/ended"')
    monkeypatch.setattr(device, "TOOL_SECONDS", 0.2)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: None)
    assert free_bytes("cuda:0") == 1000 and not (tmp_path / "ended").exists()


@pytest.mark.parametrize(("start", "found"), [("exec sleep 5", ["cpu"]), ("exit 1", ["cuda:0"])])
def test_a_driver_that_hangs_as_it_starts_is_not_asked(
    gpus: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, found: list[str]
) -> None:
    gpus += [(7, 5)]
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{start}\n")
    python.chmod(0o755)
    monkeypatch.setattr(device, "DRIVERS", ("null",))
    monkeypatch.setattr(device, "DRIVER_SECONDS", 0.3)
    monkeypatch.setattr(sys, "executable", str(python))
    assert list_devices("auto") == found
    assert list_devices("cpu") == ["cpu"]


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
    ],
)
def test_what_counts_as_memory_that_ran_out(error: Exception, memory: bool) -> None:
    assert out_of_memory(error) == memory


def test_a_machine_whose_driver_is_broken_is_named_by_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", Mock(side_effect=RuntimeError("CUDA error: the driver is gone")))
    assert machine() == whole.split(",")[0] and " cores of " in whole
    assert machine(["L4", "L4"]) == whole.split(",")[0] + ", L4, L4", "nobody asks the driver"


FAULTS = """
import resource, sys
import numpy as np
from hrm_submit.core.device import keep_freed_memory

def touch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(48 * 2**20, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
touch()
print(touch())
"""


@pytest.mark.skipif("glibc" not in os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else True, reason="not glibc")
def test_what_is_freed_is_used_again() -> None:
    """Each case in a process of its own: a second tensor of the same size faults no page in."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC"))}

    def faults(case: str) -> int:
        command = [sys.executable, "-c", FAULTS, case]
        return int(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout)

    # 48 MiB are 12288 pages of 4 KiB, or 24 of 2 MiB
    assert faults("keep") < 10 < faults("plain")


def test_an_environment_that_tunes_the_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    large_pages_for_children()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1"
    monkeypatch.delenv("GLIBC_TUNABLES")
    large_pages_for_children()
    assert os.environ["GLIBC_TUNABLES"] == LARGE_PAGES
