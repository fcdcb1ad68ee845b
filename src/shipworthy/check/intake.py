"""Taking a trained file in: whatever it is, it goes on as one ONNX file named by its digest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from shipworthy import machine
from shipworthy.backends import sklearn, tensorflow, tensorflow_file, torch
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.errors import Refused
from shipworthy.files import draft_folder, file_digest, machine_errors, publish
from shipworthy.protocols import Array
from shipworthy.records import Model, Signature, Source, Target

# What converters write: taken by every runtime we ship to, TensorRT 10.3 and onnxruntime of 2023 among them.
OPSET = 21
OPSETS = range(17, OPSET + 1)
IR_VERSION = 10


def take_in(path: Path, name: str, folder: Path, *, trust: bool = False, recipe: torch.Recipe = torch.NOTHING) -> Model:
    """Read or convert the trained file; the ONNX lies in ``folder`` afterwards, as ``DIGEST.onnx``.

    Args:
        path: .onnx, scikit-learn's .joblib or .pkl, PyTorch's .pt2 or .safetensors, Keras' .keras or .h5, or the folder of a
            SavedModel of TensorFlow.
        name: what releases of the model are called.
        folder: where the ONNX is kept.
        trust: whether formats that execute code when they load may be loaded.
        recipe: what makes a model of a .safetensors file.

    Raises:
        Refused: no such file, an unknown format, no trust where it is needed, or not a model.
    """
    digest = tensorflow.digest(path)
    with machine_errors(folder), draft_folder(folder) as draft:
        onnx_file = draft / "model.onnx"
        if path.suffix == ".onnx":
            framework, packages = "onnx", {"onnx": onnx.__version__}
            shutil.copyfile(path, onnx_file)
        elif path.suffix in sklearn.SUFFIXES:
            _ask_trust(path, trust=trust)
            framework, packages = "scikit-learn", sklearn.convert(path, onnx_file, OPSET, IR_VERSION)
        elif path.suffix in torch.SUFFIXES:
            _ask_trust(path, trust=trust)
            framework, packages = "torch", torch.convert(path, onnx_file, OPSET, IR_VERSION, recipe)
        elif tensorflow.takes(path):
            framework, packages = "tensorflow", tensorflow.convert(path, onnx_file, OPSET, IR_VERSION, trust=trust)
        elif path.suffix in torch.PICKLES:
            raise torch.refuse_pickle(path)
        else:
            raise Refused(
                f"{path} has a format that is not known",
                found=path.suffix or "no suffix",
                expected=".onnx, or a model of scikit-learn, PyTorch or Keras: "
                + ", ".join((*sklearn.SUFFIXES, *torch.SUFFIXES, *tensorflow_file.SUFFIXES))
                + "; or the folder of a SavedModel",
                next="export the model to ONNX and give that file",
            )
        opset, ir_version = _versions(onnx_file, path)
        signature = _signature(onnx_file, path)
        final = folder / f"{file_digest(onnx_file)}.onnx"
        publish(onnx_file, final)
    return Model(
        name=name,
        path=str(final),
        digest=final.stem,
        signature=signature,
        opset=opset,
        ir_version=ir_version,
        source=Source(path=str(path), digest=digest, framework=framework, packages=packages),
    )


def unread(path: Path, name: str) -> Model:
    """What is known of a trained file that nobody has loaded: its digest, and where it lies."""
    digest = tensorflow.digest(path)
    framework = "onnx" if path.suffix == ".onnx" else path.suffix.lstrip(".") or "folder"
    nothing = Signature(inputs=(), outputs=())
    source = Source(path=str(path), digest=digest, framework=framework)
    return Model(name=name, path=str(path), digest=digest, signature=nothing, opset=0, ir_version=0, source=source)


def reference(
    model: Model, *, trust: bool, recipe: torch.Recipe = torch.NOTHING
) -> Callable[[dict[str, Array]], list[Array]] | None:
    """The trained framework's own predictions, or ``None`` when the model came as ONNX; ``recipe`` as for ``take_in``.

    Raises:
        Refused: the trained file is not the one the model came from any more, or is not trusted.
    """
    if model.source.framework not in {"scikit-learn", "tensorflow", "torch"}:
        return None
    path = Path(model.source.path)
    if model.source.framework != "tensorflow":
        _ask_trust(path, trust=trust)
    if tensorflow.digest(path) != model.source.digest:
        raise Refused(f"{path} changed while it was checked", next="run the same command again")
    if model.source.framework == "tensorflow":
        return lambda inputs: tensorflow.predict(path, inputs, trust=trust)
    if model.source.framework == "torch":
        return lambda inputs: torch.predict(path, inputs, recipe)
    return lambda inputs: sklearn.predict(path, inputs)


def read_proto(path: Path, origin: Path | None = None) -> onnx.ModelProto:
    """The ONNX file as a protobuf message; messages name ``origin``.

    Raises:
        Refused: not an ONNX model, an empty one, or one whose weights lie in other files.
    """
    origin = origin or path
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise Refused(
            f"{origin} is not an ONNX model",
            found=f"{path.stat().st_size} bytes that are not its protobuf ({error})",
            expected="a whole .onnx file; a truncated download looks like this",
            next="copy or export the file again",
        ) from None
    if not proto.graph.node:
        raise Refused(
            f"{origin} is not an ONNX model",
            found=f"no graph in its {path.stat().st_size} bytes",
            expected="a model with at least one node",
            next="copy or export the file again",
        )
    outside = [t.name for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise Refused(
            f"{origin} keeps weights in other files",
            found=f"{len(outside)} external tensors, the first '{outside[0]}'",
            expected="one file, so that one digest speaks for all of it",
            next='join them: python -c \'import onnx; onnx.save(onnx.load("MODEL.onnx"), "whole.onnx")\'',
        )
    return proto


def _versions(onnx_file: Path, origin: Path) -> tuple[int, int]:
    """Opset and IR version; the message is gone before the runtime loads the file, too."""
    proto = read_proto(onnx_file, origin)
    return next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0), proto.ir_version


def _signature(onnx_file: Path, origin: Path) -> Signature:
    """What the runtime says the model takes and gives; messages name ``origin``, not the draft."""
    try:
        runner = OnnxRuntimeRunner(onnx_file, Target())
    except Refused as error:
        raise Refused(
            error.what.replace(str(onnx_file), str(origin)),
            found=error.found.replace(str(onnx_file), str(origin)),
            expected=error.expected,
            next=f"export the model again with a current exporter: plain tensors, opset {OPSETS.start} to {OPSETS.stop - 1}",
        ) from None
    signature = runner.signature
    runner.close()
    machine.trim()  # whoever took the model in lives on, and laws and passes need that memory in their own processes
    return signature


def _ask_trust(path: Path, *, trust: bool) -> None:
    if trust:
        return
    what, expected = f"{path} is a pickle: loading it can execute any code that is in it", "a file"
    if path.suffix == torch.PROGRAM:
        what = f"{path} can hold pickles: loading it can execute any code that is in them"
    elif path.suffix == torch.WEIGHTS:
        what, expected = f"{path} needs code to be a model: the factory under [model] is executed", "code"
    raise Refused(
        what,
        found=path.suffix,
        expected=f"{expected} you made yourself, or one whose maker you trust",
        next="say so with --trust, or trust = true under [model] in shipworthy.toml; an .onnx file executes nothing",
    )
