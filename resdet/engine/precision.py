"""Precisions of training and fast inference, and the default of each device."""

import torch

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolves the precision: `auto` is bf16 if the device supports it, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and cpu_computes_in_bf16() else "fp32"


def cpu_computes_in_bf16() -> bool:
    """Whether the CPU has bf16 instructions and oneDNN may use them: `ONEDNN_MAX_CPU_ISA=AVX2` forbids it."""
    return (
        torch.cpu._is_avx512_bf16_supported()
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
