"""OpenVINO on the CPU: the runner. Needs the extra ``openvino``.

What it computes is what the file says, as far as OpenVINO can: FP32 stays FP32 unless ``target.precision`` says that it is to
be computed in 16 bits; but it has no 64-bit arithmetic on a CPU. So ``float64`` at the model's borders is refused when it is
loaded, and whole numbers beyond 32 bits when they come; what a model computes in 64 bits inside, it computes in 32 here.
Nor does it always check free dimensions: weights that they do not fit may give an answer where onnxruntime gives an error.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from shipworthy.backends.inputs import Inputs
from shipworthy.errors import Failed, Refused, ShipworthyError
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, Target, TensorSpec

# OpenVINO's names of element types: numpy's.
DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "boolean": "bool",
}
# What float32 is computed in; left alone, OpenVINO takes BF16 where the CPU has it.
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# OpenVINO computes these in 32 bits, and silently drops the others.
LIMITED = ("int64", "uint64")
LIMIT = np.iinfo(np.int32)
TELEMETRY = "openvino_telemetry"
_IMPORTING = threading.Lock()


class OpenVinoRunner:
    """A ``Runner`` on OpenVINO's CPU plugin; ``target.threads`` threads a call.

    A run needs a request of its own. There are two at first: a server with a process a core needs no more. When three
    threads meet, the model is compiled once more, for as many calls at one time as the cores have room for, on one copy
    of the weights; whoever finds no request free waits for one.
    """

    def __init__(self, path: Path, target: Target) -> None:
        """Load the model.

        Raises:
            Refused: there is no such file, OpenVINO does not take it, a tensor of it cannot be served, or the extra is
                missing.
        """
        self._threads = target.threads
        self._precision = target.precision
        if target.precision not in HINTS:
            raise Refused(
                f"OpenVINO does not compute in {target.precision} by a setting",
                expected=", ".join(HINTS),
                next="take a file whose graph has that precision",
            )
        self._most = max(1, len(os.sched_getaffinity(0)) // target.threads)
        self._core, self._model = _read(path)
        self._signature = Signature(
            inputs=tuple(_spec(port, path) for port in self._model.inputs),
            outputs=tuple(_spec(port, path) for port in self._model.outputs),
        )
        self._check = Inputs(self._signature).check
        self._outputs = [spec.name for spec in self._signature.outputs]
        self._limited = [spec.name for spec in self._signature.inputs if spec.dtype in LIMITED]
        self._lock = threading.Lock()
        self._requests = min(2, self._most)
        try:
            self._free: SimpleQueue[Any] | None = self._compile(self._requests)
        except Exception as error:  # noqa: BLE001  the runtime has no common base for its errors
            raise _refused(path, _told(error)) from None

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Answer one batch; see ``protocols.Runner``."""
        free = self._free
        if free is None:
            raise _closed()
        self._check(inputs)
        for name in self._limited:
            _refuse_beyond(name, inputs[name])
        try:
            try:
                request = free.get_nowait()
            except Empty:
                free = self._widen()
                request = free.get()
            try:
                return dict(zip(self._outputs, self._infer(request, dict(inputs)), strict=True))
            finally:
                free.put(request)
        except ShipworthyError:
            raise
        except Exception as error:  # whatever the runtime raises: the boundary lets out only our own
            raise Failed("OpenVINO could not run the batch", found=_told(error)) from error

    def close(self) -> None:
        """Drop the model and its memory."""
        with self._lock:
            self._free = self._core = self._model = None

    def _infer(self, request: Any, inputs: dict[str, Array]) -> list[Array]:
        """The outputs, in copies that the next run does not touch; the inputs are shared, not copied."""
        if not self._alone:
            return list(request.infer(inputs, share_inputs=True).values())
        # With one thread in all, ``infer`` swallows the errors of shapes that do not go together (2026.4.1), answers
        # with what lay in memory, and may crash later. Started and waited for, it raises them; digits: 180 µs, not 100.
        request.start_async(inputs, share_inputs=True)
        request.wait()
        return [np.array(tensor.data) for tensor in request.output_tensors]

    def _widen(self) -> SimpleQueue[Any]:
        """The requests, as many as there may be."""
        with self._lock:
            if self._free is None:
                raise _closed()
            if self._requests < self._most:
                self._free = self._compile(self._most)
                self._requests = self._most
            return self._free

    def _compile(self, requests: int) -> SimpleQueue[Any]:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[self._precision],
            "NUM_STREAMS": requests,
            "INFERENCE_NUM_THREADS": requests * self._threads,
            # Pinned, the workers of a server would all take the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._core.compile_model(self._model, "CPU", settings)
        self._alone = compiled.get_property("INFERENCE_NUM_THREADS") == 1
        free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(requests):
            free.put(compiled.create_infer_request())
        return free


def _read(path: Path) -> tuple[Any, Any]:
    """OpenVINO's core, and the model."""
    if not path.is_file():
        raise Refused(f"there is no file {path}", next="correct the path")
    openvino = _import()
    # The reader of ONNX by name: asked in general, OpenVINO tries those of every other format on a broken file.
    reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    reader.add_extension(_array_feature_extractor(openvino))
    try:
        model = reader.convert(reader.load(str(path)))
    except Exception as error:  # noqa: BLE001  the runtime has no common base for its errors
        raise _refused(path, _told(error)) from None
    if not model.outputs:
        raise _refused(path, "a model without outputs")
    return openvino.Core(), model


def _array_feature_extractor(openvino: Any) -> Any:
    """The one operator of ONNX's ML domain in classifiers of plain layers, which OpenVINO's reader lacks: labels by place."""
    from openvino.frontend.onnx import ConversionExtension  # noqa: PLC0415

    def convert(node: Any) -> list[Any]:
        last = openvino.opset13.constant(-1, dtype=np.int64)
        return [openvino.opset13.gather(node.get_input(0), node.get_input(1), last).output(0)]

    return ConversionExtension("ArrayFeatureExtractor", "ai.onnx.ml", convert)


def _spec(port: Any, path: Path) -> TensorSpec:
    name, dtype, shape = port.get_any_name(), port.element_type.get_type_name(), port.partial_shape
    if dtype not in DTYPES or shape.rank.is_dynamic:
        raise Refused(
            f"{path}: '{name}' is not a tensor that OpenVINO can serve on a CPU",
            found=f"{dtype} {shape}",
            expected="a known number of axes, and one of " + ", ".join(DTYPES.values()),
            next='take the runtime "onnxruntime" for this model',
        )
    sizes = tuple(one.get_length() if one.is_static else None for one in shape)
    return TensorSpec(name=name, dtype=DTYPES[dtype], shape=sizes)


def _refuse_beyond(name: str, array: Array) -> None:
    if array.size and (array.max() > LIMIT.max or array.min() < LIMIT.min):
        raise Refused(
            f"input '{name}' holds numbers beyond 32 bits",
            found=f"{array.min()} to {array.max()}",
            expected=f"{LIMIT.min} to {LIMIT.max}: OpenVINO computes whole numbers in 32 bits on a CPU",
            next='take the runtime "onnxruntime" for such numbers',
        )


def _refused(path: Path, found: str) -> Refused:
    return Refused(
        f"OpenVINO {_import().__version__.split('-')[0]} does not load {path}",
        found=found,
        expected="a valid ONNX model of operators that OpenVINO has",
        next='take the runtime "onnxruntime" for this model',
    )


def _closed() -> Failed:
    return Failed("the runner is closed", next="load the model again")


def _told(error: Exception) -> str:
    """The line of an error of OpenVINO's that says what was wrong: its first lines name places in its source."""
    lines = [line.strip(" -\n") for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check ", "FrontEnd API", "Summary"))]
    return (telling or [type(error).__name__])[-1][:300]


def _import() -> Any:
    """The package, without its telemetry: importing it would report that to Google Analytics, and write to the home folder.

    Where the telemetry's package cannot be imported, OpenVINO takes a stub of its own, for as long as the process lives.
    """
    with _IMPORTING:
        before = sys.modules.get(TELEMETRY)
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("openvino")
        except ImportError:
            raise Refused(
                "OpenVINO is an extra that is not installed",
                found="no module 'openvino'",
                next="pip install 'shipworthy[openvino]'",
            ) from None
        finally:
            del sys.modules[TELEMETRY]
            if before:
                sys.modules[TELEMETRY] = before
