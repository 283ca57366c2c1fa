"""Sessions of ONNX Runtime within limits: one thread, a bound of memory and of time, no library of operators."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from functools import cache as once
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...arrays import FloatArray
from ...errors import CheckpointError, DeviceError
from ..device import check_device_name, pick_device
from ..optional_package import imported

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

THREADS = 1  # a sum shared by threads could depend on how many there are, and waiting threads would spin
LARGEST_MEMORY_BYTES = 2_000_000_000  # of all tensors on the CPU, and as much on a GPU
LONGEST_CALL_S = 60.0
_END = object()
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_PLACE_IN_CODE = re.compile(
    r"Non-zero status code returned while |Name:'.*?' Status Message: |"
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(?:h|cc):\d+ .*?\)(?: const)?(?: \[with .*?\])? (?=[A-Z])"
)


def device_of(device: str) -> str:
    """Return ``cpu`` or ``cuda:N``; ``auto`` is CUDA where ONNX Runtime and this machine have it.

    Raises
    ------
    DeviceError
        When CUDA is requested and is not there; there is no silent fallback.
    """
    check_device_name(device)
    runtime = imported("onnxruntime", extra="onnx")
    providers = runtime.get_available_providers()
    if CUDA not in providers:
        if device.startswith("cuda"):
            raise DeviceError(
                f"--device {device}: the installed ONNX Runtime has no CUDA provider, only {', '.join(providers)}. Install "
                "onnxruntime-gpu in place of onnxruntime, or use --device cpu."
            )
        return "cpu"
    where = pick_device(device)
    return "cpu" if where.type == "cpu" else f"cuda:{where.index or 0}"


def open_session(content: bytes, device: str, place: str) -> InferenceSession:
    """Return a session of a model that `onnx_graph.walk_model` has accepted.

    Parameters
    ----------
    device : str
        From `device_of`.
    place : str
        The file, for messages.

    Raises
    ------
    CheckpointError
        Where ONNX Runtime refuses the model, with its reason.
    DeviceError
        Where the provider does not work.
    """
    runtime = imported("onnxruntime", extra="onnx")
    _limit_memory()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # its reasons are in the errors
    for key, value in (
        ("session.use_env_allocators", "1"),
        ("session.intra_op.allow_spinning", "0"),
        ("session.load_model_format", "ONNX"),  # its own format would not be what was walked through
    ):
        options.add_session_config_entry(key, value)
    providers: list[str | tuple[str, dict[str, str]]] = [CPU]
    if device != "cpu":
        limits = {
            "device_id": device.partition(":")[2],
            "gpu_mem_limit": str(LARGEST_MEMORY_BYTES),
            "cudnn_conv_algo_search": "DEFAULT",
            "use_tf32": "0",
        }
        providers.insert(0, (CUDA, limits))
    try:
        # Folding constants would compute as the model is opened, where no limit of time holds.
        session = runtime.InferenceSession(
            content, options, providers=providers, disabled_optimizers=["ConstantFolding"], enable_fallback=0
        )
    except Exception as error:  # its errors have no base class
        raise CheckpointError(
            f"{place}: ONNX Runtime {runtime.__version__} refuses it: {reason(error)}. Export it again, with "
            "operators and an opset that this version has."
        ) from None
    if device != "cpu" and CUDA not in session.get_providers():
        raise DeviceError(f"--device {device}: ONNX Runtime cannot load its CUDA provider. Use --device cpu.")
    return session


def answers(
    session: InferenceSession, output: str, batches: Iterator[npt.NDArray[np.generic]], place: str
) -> Iterator[FloatArray]:
    """Yield one output of a graph for each batch.

    The graph runs in another thread, which is left behind where it does not end: some operators cannot be interrupted.

    Raises
    ------
    CheckpointError
        Where it fails, or one batch takes longer than ``LONGEST_CALL_S``.
    """
    runtime = imported("onnxruntime", extra="onnx")
    options = runtime.RunOptions()
    options.log_severity_level = 4
    name = session.get_inputs()[0].name
    done: queue.Queue[object] = queue.Queue()
    given: list[tuple[int, ...]] = [()]  # the shape in use, for a message

    def work() -> None:
        try:
            for batch in batches:
                given[0] = batch.shape
                done.put(session.run([output], {name: batch}, options)[0])
            done.put(_END)
        except Exception as error:  # raised in the other thread
            done.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (found := done.get(timeout=LONGEST_CALL_S)) is not _END:
            if isinstance(found, Exception):
                raise CheckpointError(
                    f"{place}: ONNX Runtime cannot run it on an input of shape {given[0]}: {reason(found)}. Export it so that "
                    "its first axis is the batch, of any size or of the size that its graph states."
                )
            yield np.asarray(found)
    except queue.Empty:
        raise CheckpointError(
            f"{place}: one batch of it takes longer than {LONGEST_CALL_S:.0f} s, or it does not end. It is not run."
        ) from None
    finally:
        options.terminate = True


def reason(error: Exception) -> str:
    """Return what ONNX Runtime gives as its reason, without the places in its code."""
    text = _PLACE_IN_CODE.sub("", " ".join(str(error).split()))
    return text[:300].rstrip(". ") or type(error).__name__


@once
def _limit_memory() -> None:
    """Bound the memory of all tensors on the CPU, for the sessions of this process."""
    runtime = imported("onnxruntime", extra="onnx")
    place = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    # 1: it grows by what is requested, not by powers of two
    limits = runtime.OrtArenaCfg({"max_mem": LARGEST_MEMORY_BYTES, "arena_extend_strategy": 1})
    runtime.create_and_register_allocator(place, limits)
