"""What a device can do: whether it works, its memory and how that is allocated, its best number format.

Nothing here runs at import; torch is imported when a device is asked for.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hrm_submit.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3), by their numbers in malloc.h."""
_NEVER = 2**31 - 1
TOOL_SECONDS = 20.0
"""How long nvidia-smi may take."""
DRIVER_SECONDS = 120.0
"""How long CUDA's driver may take to start."""
DRIVERS = "nvidiactl", "nvidia0", "dxg"
"""Devices that NVIDIA's driver makes, the last one below WSL."""
LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""Tunable of glibc (from 2.35) that asks for transparent huge pages; read when a process starts."""


def list_devices(devices: str) -> list[str]:
    """List devices for `--devices`: `"auto"` (every visible GPU that works, else the CPU), `"cpu"`, or `"cuda:0,cuda:1"`.

    A GPU for which the installed torch has no kernels (a P100, say) is left out with a warning. Raises ConfigError.
    """
    if devices == "cpu" or (devices == "auto" and not _may_have_gpus()):
        return ["cpu"]
    import torch

    visible = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if driver_answers() and torch.cuda.is_available() else []
    if devices == "auto":
        return [d for d in visible if has_kernels(d)] or ["cpu"]
    wanted = [d.strip() for d in devices.split(",") if d.strip()] or ["device"]
    if absent := [d for d in wanted if d not in ("cpu", *visible)]:
        raise ConfigError(f"--devices {devices}: no {absent[0]} here; visible: {', '.join(['cpu', *visible])}")
    return wanted


def _may_have_gpus() -> bool:
    """Tell whether torch is worth asking for GPUs: it is loaded, or a driver of NVIDIA's is there."""
    return "torch" in sys.modules or sys.platform != "linux" or _has_driver()


def _has_driver() -> bool:
    return any(Path("/dev", name).exists() for name in DRIVERS)


def driver_answers() -> bool:
    """Start CUDA's driver in another process first: one that hangs would hold this process, and no signal would end it. Logs where it
    does not answer; where there is none to ask, or it fails, torch will tell."""
    if not _has_driver():
        return True
    start = "import ctypes; ctypes.CDLL('libcuda.so.1').cuInit(0)"
    process = subprocess.Popen(
        [sys.executable, "-c", start], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(DRIVER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        log.warning("the GPU's driver has not answered for %.0f s: falling back to the CPU", DRIVER_SECONDS)
        return False
    return True


def has_kernels(device: str) -> bool:
    """Tell whether the installed torch has kernels for this GPU and its driver answers, without a CUDA context; logs the reason if not."""
    import torch

    try:
        major, minor = torch.cuda.get_device_capability(device)
        name = torch.cuda.get_device_name(device)
    except (RuntimeError, AssertionError) as error:
        log.warning("%s cannot be used, falling back to the CPU: %s", device, str(error).split("\n", 1)[0])
        return False
    # Binaries of one major version run on every later minor version of it; PTX runs on every later one.
    built = [(a.startswith("compute_"), int(a.rstrip("af").split("_")[1])) for a in torch.cuda.get_arch_list() if "_" in a]
    have = 10 * major + minor
    fits = any(cap <= have and (ptx or cap // 10 == major) for ptx, cap in built)
    if not fits:
        log.warning("%s (sm_%d) has no kernels in torch %s: falling back to the CPU", name, have, torch.__version__)
    return fits


@dataclass(frozen=True)
class Card:
    """A GPU: the name that CUDA gives it, its capability (8.9 for sm_89), its memory."""

    name: str
    capability: float
    memory_gib: float


def cards(devices: Sequence[str]) -> list[Card]:
    """Describe the GPUs among `devices`."""
    gpus = [device for device in devices if device != "cpu"]
    if not gpus:
        return []
    import torch

    found = [torch.cuda.get_device_properties(device) for device in gpus]
    return [Card(gpu.name, gpu.major + gpu.minor / 10, gpu.total_memory / 2**30) for gpu in found]


def gpu_dtypes(device: str) -> list[str]:
    """List the number formats of a GPU, the best first: bfloat16 from sm_80, float16 where it has tensor cores, float32."""
    import torch

    major, _ = torch.cuda.get_device_capability(device)
    return [*["bfloat16"] * (major >= 8), *["float16"] * (major >= 7), "float32"]


def cpu_dtype() -> str:
    """Choose bfloat16 on CPUs with its matrix instructions, else float32."""
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & set(_cpuinfo("flags").split()) else "float32"


def _cpuinfo(key: str) -> str:
    """Look up what Linux tells of the first core, "" where it does not."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(rf"^{key}\s*:(.*)", text, re.MULTILINE):
            return found[1].strip()
    return ""


def free_bytes(device: str) -> int:
    """Ask nvidia-smi, which needs no CUDA context, for the free memory of a GPU; where it fails return all memory."""
    import torch

    index = int(device.split(":", 1)[1]) if ":" in device else 0
    visible = [v.strip() for v in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if v.strip()]
    name = visible[index] if index < len(visible) else str(index)
    query = ["nvidia-smi", "-i", name, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        # Not subprocess.run, which waits without end for a process that the driver holds and no signal ends.
        process = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            answer = process.communicate(timeout=TOOL_SECONDS)[0]
        finally:
            process.kill()
        return int(float(answer.split()[0])) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        log.info("%s: nvidia-smi does not tell its free memory (%s)", device, error)
        return int(torch.cuda.get_device_properties(index).total_memory)


def free_memory(device: str) -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()


def keep_freed_memory() -> bool:
    """Let this process reuse memory that it freed; returns False where the C library has no such setting. By default glibc returns large
    blocks at each free, and every training segment pays for the page faults of all its activations."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def large_pages_for_children() -> None:
    """Ask for large pages in processes started from now on, unless the environment already tunes the allocator."""
    os.environ.setdefault("GLIBC_TUNABLES", LARGE_PAGES)


def cpu_count() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_threads(n: int) -> Iterator[None]:
    """Run the block with `n` CPU threads of torch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copy a CPU tensor to `device`; a GPU fetches it from pinned memory, without a wait."""
    return tensor if str(device) == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


class Fetched:
    """A tensor on its way to the CPU: a GPU sends it when it comes to that, and works on; `get` waits for it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        import torch

        self._arrived = torch.cuda.Event(blocking=True) if tensor.device.type == "cuda" else None
        self._tensor = tensor.detach().to("cpu", non_blocking=True)
        if self._arrived:
            self._arrived.record()

    def get(self) -> torch.Tensor:
        if self._arrived:
            self._arrived.synchronize()
        return self._tensor


NO_ENGINE = "nable to find an engine to execute this computation"
"""What cuDNN says where memory is short, or where it has no convolution of a number format."""
NO_MEMORY = (
    NO_ENGINE,
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
)
"""Messages of the CPU's allocator, CUDA's runtime and driver, and its libraries, which torch raises as plain RuntimeErrors."""


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, on a GPU or in the CPU's allocator."""
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(message in str(error) for message in NO_MEMORY)


def no_engine(error: BaseException) -> bool:
    """Tell whether cuDNN found no way to compute something, for want of memory or for good."""
    return NO_ENGINE in str(error)


def context_broken(error: BaseException) -> bool:
    """Tell whether nothing more can be computed in this process after `error`."""
    told = str(error)
    return no_engine(error) or (("CUDA" in told or "CUDNN_STATUS_" in told) and not out_of_memory(error))


def machine(gpus: Sequence[str] | None = None) -> str:
    """Name the processor and `gpus` of this machine; None: those that are visible."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    with suppress(Exception):  # a driver that is broken names no card, and costs nobody a run
        if gpus is None and _may_have_gpus():
            import torch

            gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ", ".join([f"{cpu_count()} cores of {name}", *(gpus or [])])
