"""The device for scoring: check its name and find it on this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import DeviceError, UsageError, nearest

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")


def check_device_name(name: str) -> None:
    """Check the name of a device, before anything is read or torch is imported.

    Raises
    ------
    UsageError
        For anything but ``auto``, ``cpu``, ``cuda`` and ``cuda:N``.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise UsageError(f"--device: expected auto, cpu, cuda or cuda:N, got '{name}'. {nearest(name, DEVICES)}")


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    UsageError
        For any other name; torch supports more devices, but flagbt is tested on these only.
    DeviceError
        When CUDA is requested and there is none; there is no silent fallback.
    """
    check_device_name(name)
    import torch  # takes seconds; the name is checked without it

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = torch.cuda.device_count()
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:  # torch reads cuda:200 as a negative index
        raise DeviceError(
            f"--device {name}: this machine offers {count} CUDA device(s). Use --device cpu, or install a CUDA build of torch."
        )
    return torch.device(name)


def hardware_of(where: torch.device) -> str:
    """Return what computes there, for the key of the cache: the name of the GPU, or the instructions that torch uses."""
    import torch

    return torch.cuda.get_device_name(where) if where.type == "cuda" else str(torch.backends.cpu.get_cpu_capability())
