"""A process with one network in one precision on one runtime; what it is asked comes through a pipe.

The same footing for all: images and answers are float32 in the device's memory, casts are inside what is timed; FP32 means
FP32 unless the precision is ``tf32``; cuDNN looks for its fastest algorithm; each call is waited for before the clock is read.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from on_gpu import networks
from shipworthy.backends import nvml
from shipworthy.protocols import Array

WARM_UP_CALLS = 10
LEAST_CALLS = 3


@dataclass(frozen=True)
class Way:
    """How a network is run; ``layout``: ``channels_last`` is PyTorch's name for images with their channels innermost."""

    runtime: str
    precision: str
    layout: str = ""

    @property
    def name(self) -> str:
        """In a table."""
        return " ".join(filter(None, [self.runtime, self.precision, self.layout]))


ONNXRUNTIME, PYTORCH = "onnxruntime", "PyTorch"
# Each runtime's FP32 first: the others of it are compared with that.
WAYS = (
    Way(ONNXRUNTIME, "fp32"),
    Way(ONNXRUNTIME, "tf32"),
    Way(ONNXRUNTIME, "fp16"),
    Way(PYTORCH, "fp32"),
    Way(PYTORCH, "tf32"),
    Way(PYTORCH, "fp16"),
    Way(PYTORCH, "fp16", "channels_last"),
)


class OnnxRuntime:
    """One session; inputs and outputs are bound to memory of the device."""

    def __init__(self, way: Way, _name: str, files: dict[str, Path], device: str) -> None:
        import onnxruntime as ort  # noqa: PLC0415

        self._ort, self._device = ort, device
        options = ort.SessionOptions()
        options.log_severity_level = 3
        provider: Any = "CPUExecutionProvider"
        if device == "cuda":
            ort.preload_dlls()  # those of pip's packages of NVIDIA's, if they are there
            settings = {"use_tf32": str(int(way.precision == "tf32")), "cudnn_conv_algo_search": "EXHAUSTIVE"}
            provider = ("CUDAExecutionProvider", {"device_id": "0", **settings})
        file = files["fp16" if way.precision == "fp16" else "fp32"]
        self._session = ort.InferenceSession(str(file), options, providers=[provider], enable_fallback=0)
        wanted = provider if isinstance(provider, str) else provider[0]
        if self._session.get_providers()[0] != wanted:
            raise RuntimeError(f"onnxruntime took {', '.join(self._session.get_providers())}, not {wanted}")

    @property
    def about(self) -> dict[str, str]:
        """Versions."""
        return {"onnxruntime": self._ort.__version__}

    def prepare(self, images: Array) -> None:
        """Bind the images, and room for the answers."""
        self._binding = self._session.io_binding()
        value = self._ort.OrtValue.ortvalue_from_numpy(images, self._device, 0)
        self._binding.bind_ortvalue_input(self._session.get_inputs()[0].name, value)
        self._binding.bind_output(self._session.get_outputs()[0].name, self._device, 0)

    def call(self) -> None:
        """Answer, and wait until it is done."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def answers(self) -> Array:
        """Of the last call."""
        return np.asarray(self._binding.copy_outputs_to_cpu()[0])


class PyTorch:
    """The module, eagerly."""

    def __init__(self, way: Way, name: str, files: dict[str, Path], device: str) -> None:
        import torch  # noqa: PLC0415

        self._torch, self._device = torch, device
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = way.precision == "tf32"
        torch.backends.cudnn.benchmark = True
        self._dtype = torch.float16 if way.precision == "fp16" else torch.float32
        self._format = torch.channels_last if way.layout else torch.contiguous_format
        self._module = networks.module(name, files["fp32"]).to(device, self._dtype, memory_format=self._format)

    @property
    def about(self) -> dict[str, str]:
        """Versions, and the GPU."""
        torch = self._torch
        found = {"PyTorch": torch.__version__}
        if self._device == "cuda":
            found |= {
                "GPU": torch.cuda.get_device_name(0),
                "CUDA": torch.version.cuda,
                "cuDNN": str(torch.backends.cudnn.version()),
            }
        return found

    def prepare(self, images: Array) -> None:
        """Copy the images to the device."""
        self._images = self._torch.from_numpy(images).to(self._device, memory_format=self._format)

    def call(self) -> None:
        """Answer, and wait until it is done."""
        with self._torch.inference_mode():
            self._answers = self._module(self._images.to(self._dtype)).float()
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def answers(self) -> Array:
        """Of the last call."""
        return np.asarray(self._answers.cpu().numpy())


def main(pipe: Connection, way: Way, network: networks.Network, batch: int, device: str) -> None:
    """Load, warm up, say what that took; then answer each number of seconds with the median of the calls in it, in ms.

    Whatever goes wrong is the answer: a GPU with too little memory for one way and batch must not end the others.
    """
    meter = nvml.meter() if device == "cuda" else None
    before = meter.memory_used_bytes if meter else None
    try:
        run = (OnnxRuntime if way.runtime == ONNXRUNTIME else PyTorch)(way, network.name, network.files, device)
        run.prepare(network.batch(batch))
        for _ in range(WARM_UP_CALLS if device == "cuda" else 1):
            run.call()
        taken = meter.memory_taken(os.getpid(), before) if meter else None
        pipe.send({"about": run.about, "answers": run.answers(), "memory_mb": taken[0] / 1e6 if taken else None})
        while (seconds := pipe.recv()) is not None:
            pipe.send(timed(run, seconds))
    except Exception as error:  # noqa: BLE001  runtimes raise anything
        pipe.send({"error": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]})


def timed(run: OnnxRuntime | PyTorch, seconds: float) -> dict[str, float]:
    """The median of the calls of some seconds, in ms."""
    took, end = list[float](), time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < LEAST_CALLS:
        start = time.perf_counter()
        run.call()
        took.append(1000 * (time.perf_counter() - start))
    return {"ms": float(np.median(took))}
