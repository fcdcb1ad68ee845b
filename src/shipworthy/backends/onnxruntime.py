"""onnxruntime on the CPU: the runner, and the reading of a signature."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

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


class OnnxRuntimeRunner:
    """A ``Runner`` on onnxruntime's CPU provider, ``target.threads`` threads a call, no spinning between calls."""

    def __init__(self, path: Path, target: Target) -> None:
        """Load the model.

        Raises:
            Refused: there is no such file, or onnxruntime does not take it.
        """
        self._session: ort.InferenceSession | None = session(path, target.threads)
        self._signature = Signature(
            inputs=tuple(_spec(value, path) for value in self._session.get_inputs()),
            outputs=tuple(_spec(value, path) for value in self._session.get_outputs()),
        )
        self._inputs = {spec.name: spec for spec in self._signature.inputs}
        self._outputs = [spec.name for spec in self._signature.outputs]

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Answer one batch; see ``protocols.Runner``."""
        if self._session is None:
            raise Failed("the runner is closed", next="load the model again")
        self._refuse_wrong(inputs)
        try:
            answers = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # whatever the runtime raises: the boundary lets out only our own
            raise Failed("onnxruntime could not run the batch", found=_first_line(error)) from error
        return dict(zip(self._outputs, answers, strict=True))

    def close(self) -> None:
        """Drop the session and its memory."""
        self._session = None

    def _refuse_wrong(self, inputs: Arrays) -> None:
        if inputs.keys() != self._inputs.keys():
            raise Refused(
                "the inputs are not those of the model",
                found=", ".join(sorted(inputs)) or "none",
                expected=", ".join(str(spec) for spec in self._inputs.values()),
            )
        for name, spec in self._inputs.items():
            array = inputs[name]
            fits = len(array.shape) == len(spec.shape) and all(
                n is None or n == m for n, m in zip(spec.shape, array.shape, strict=True)
            )
            if not fits or (array.dtype != spec.dtype if spec.dtype != "str" else array.dtype.kind not in "OU"):
                raise Refused(
                    f"input '{name}' does not fit the model", found=f"{array.dtype} {list(array.shape)}", expected=str(spec)
                )


def session(path: Path, threads: int = 1, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """An onnxruntime session on the CPU.

    Raises:
        Refused: there is no such file, or onnxruntime does not take it.
    """
    if not path.is_file():
        raise Refused(f"there is no file {path}", next="correct the path")
    options = options or ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning burns a core between calls for a few µs of latency: wrong for a server that shares its machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    ort.disable_telemetry_events()
    try:
        # No fallback: it prints to standard output, and there is no other provider to fall back to.
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # noqa: BLE001  the runtime has no common base for its errors
        raise Refused(
            f"onnxruntime {ort.__version__} does not load {path}",
            found=_first_line(error),
            expected="a valid ONNX model within this runtime's opsets",
            next=f"shipworthy check {path} says what is wrong with it",
        ) from None


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
