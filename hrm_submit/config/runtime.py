"""How a model runs on a device: what `[device]` asks for, or by capability where that says auto."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hrm_submit.config.schema import DeviceConfig, Kernels
from hrm_submit.core.device import cpu_dtype, gpu_dtype


@dataclass(frozen=True)
class Runtime:
    """How a model runs: device (`"cpu"`, `"cuda:0"`), dtype name, attention (`"sdpa"` or `"math"`), kernels, compile, CPU
    threads."""

    device: str
    dtype: str
    attention: Literal["sdpa", "math"]
    kernels: Kernels
    compile: bool
    threads: int

    def describe(self) -> dict[str, Any]:
        """For `run.json`."""
        return asdict(self)


def runtime_for(device: str, config: DeviceConfig) -> Runtime:
    """The number format and attention for `device`: what `config` names, or by capability where it says auto.

    bfloat16 on GPUs from sm_80 and on CPUs with its matrix instructions; float16 on older GPUs with tensor cores; else float32.
    """
    dtype = config.dtype
    if dtype == "auto":
        dtype = gpu_dtype(device) if device != "cpu" else cpu_dtype()  # type: ignore[assignment]
    attention = config.attention
    if attention == "auto":
        # In half precision written-out attention is faster than a CPU's fused kernel, backwards above all; in float32 the fused kernel is.
        attention = "math" if device == "cpu" and dtype != "float32" else "sdpa"
    suited = device == "cpu" and dtype in ("float32", "bfloat16") and (config.kernels == "numba" or not config.compile)
    kernels: Kernels = "numba" if suited and config.kernels != "torch" else "torch"
    return Runtime(device, dtype, attention, kernels, config.compile, config.threads)
