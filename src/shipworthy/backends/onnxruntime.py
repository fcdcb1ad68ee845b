"""onnxruntime on the CPU, on CUDA, and on CUDA through TensorRT: the runner, and the reading of a signature.

What concerns GPUs follows onnxruntime's documentation and is tested without one: it has not run on a GPU yet.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from shipworthy.backends.inputs import Inputs
from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Signature, Target, TensorSpec

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
}


# The provider of each target that has one beside the CPU's, with its options; the others take what it leaves.
# FP32 is FP32: CUDA's default would multiply in TF32. TensorRT has no such option here, and may do so.
CUDA = ("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"})
TENSORRT = ("TensorrtExecutionProvider", {"device_id": "0"})
CPU = ("CPUExecutionProvider", dict[str, str]())
# Of FATAL, ERROR, WARNING, INFO and VERBOSE, 4 to 0. Errors are raised as well, and whoever called says them once.
FATAL = 4


class OnnxRuntimeRunner:
    """A ``Runner`` on onnxruntime; ``target.threads`` threads a call on the CPU, no spinning between calls."""

    def __init__(self, path: Path, target: Target) -> None:
        """Load the model.

        Raises:
            Refused: there is no such file, onnxruntime does not take it, or it cannot use the device.
        """
        self._session: ort.InferenceSession | None = session(path, target)
        self._signature = Signature(
            inputs=tuple(_spec(value, path) for value in self._session.get_inputs()),
            outputs=tuple(_spec(value, path) for value in self._session.get_outputs()),
        )
        self._check = Inputs(self._signature).check
        self._outputs = [spec.name for spec in self._signature.outputs]

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Answer one batch; see ``protocols.Runner``."""
        if self._session is None:
            raise Failed("the runner is closed", next="load the model again")
        self._check(inputs)
        try:
            answers = self._session.run(self._outputs, inputs)
        except Exception as error:  # whatever the runtime raises: the boundary lets out only our own
            raise Failed("onnxruntime could not run the batch", found=first_line(error)) from error
        return dict(zip(self._outputs, answers, strict=True))

    def close(self) -> None:
        """Drop the session and its memory."""
        self._session = None


def providers(target: Target) -> list[tuple[str, dict[str, str]]]:
    """What onnxruntime is to run the model on, the wanted provider first, each with its options."""
    if target.runtime == "tensorrt":
        return [TENSORRT, CUDA, CPU]
    return [CUDA, CPU] if target.device == "cuda" else [CPU]


def session(path: Path, target: Target, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """An onnxruntime session for the target.

    Raises:
        Refused: there is no such file, onnxruntime does not take it, or it cannot use the device.
    """
    if not path.is_file():
        raise Refused(f"there is no file {path}", next="correct the path")
    wanted = providers(target)
    if wanted[0][0] not in ort.get_available_providers():
        raise _without(wanted[0][0], f"it offers {', '.join(ort.get_available_providers())}")
    options = options or ort.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    # Spinning burns a core between calls for a few µs of latency: wrong for a server that shares its machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    ort.disable_telemetry_events()
    try:
        # No fallback: it prints to standard output, and a model that was to run elsewhere must not run on the CPU.
        made = ort.InferenceSession(str(path), options, providers=wanted, enable_fallback=0)
    except Exception as error:  # noqa: BLE001  the runtime has no common base for its errors
        raise Refused(
            f"onnxruntime {ort.__version__} does not load {path}",
            found=first_line(error),
            expected="a valid ONNX model within this runtime's opsets",
            next=f"shipworthy check {path} says what is wrong with it",
        ) from None
    if made.get_providers()[0] != wanted[0][0]:
        raise _without(wanted[0][0], f"it took {', '.join(made.get_providers())}: a library of the GPU is missing or too old")
    return made


def _without(provider: str, found: str) -> Refused:
    return Refused(
        f"onnxruntime {ort.__version__} cannot use {provider} here",
        found=found,
        expected="a GPU with its driver, CUDA 13 and cuDNN 9, and for TensorRT its version 10 (pip install 'tensorrt-cu13<11')",
        next="pip uninstall onnxruntime, then pip install onnxruntime-gpu: both fill one folder, only one may be there",
    )


def version() -> str:
    """The version of onnxruntime that runs here."""
    return str(ort.__version__)


def _spec(value: ort.NodeArg, path: Path) -> TensorSpec:
    if value.type not in DTYPES:
        raise Refused(
            f"{path}: '{value.name}' is not a tensor that can be served",
            found=value.type,
            expected="tensors of " + ", ".join(sorted(set(DTYPES.values()))),
            next="export the model with plain tensors (scikit-learn: options={'zipmap': False})",
        )
    shape = tuple(n if isinstance(n, int) and n >= 0 else None for n in value.shape)
    return TensorSpec(name=value.name, dtype=DTYPES[value.type], shape=shape)


def first_line(error: Exception) -> str:
    """What an error says, as short as a message of ours can hold it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
