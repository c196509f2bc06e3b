"""How a model runs on a device: what `[device]` asks for, or by capability where that says auto."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hrm_submit.config.schema import DeviceConfig
from hrm_submit.core.device import cpu_dtype, gpu_dtype


@dataclass(frozen=True)
class Runtime:
    """How a model runs: device (`"cpu"`, `"cuda:0"`), dtype name, attention (`"sdpa"` or `"math"`), compile, CPU threads."""

    device: str
    dtype: str
    attention: Literal["sdpa", "math"]
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
        # Written-out attention is faster than the fused kernel on CPUs at these lengths, backwards above all.
        attention = "math" if device == "cpu" else "sdpa"
    return Runtime(device=device, dtype=dtype, attention=attention, compile=config.compile, threads=config.threads)
