"""Taking a trained file in: whatever it is, it goes on as one ONNX file named by its digest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from shipworthy import machine
from shipworthy.backends import boosters, external, sklearn, source, tensorflow, tensorflow_file, torch
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
        path: .onnx, also with weights in other files of its folder; scikit-learn's .joblib, .pkl or .skops; XGBoost's .ubj or
            .json; LightGBM's .txt; PyTorch's .pt2 or .safetensors; Keras' .keras or .h5; or the folder of a SavedModel of
            TensorFlow.
        name: what releases of the model are called.
        folder: where the ONNX is kept.
        trust: whether formats that execute code when they load may be loaded.
        recipe: what makes a model of a .safetensors file.

    Raises:
        Refused: no such file, an unknown format, no trust where it is needed, or not a model.
    """
    digest = source.digest(path)
    with machine_errors(folder), draft_folder(folder) as draft:
        onnx_file = draft / "model.onnx"
        framework, packages = _convert(path, onnx_file, trust=trust, recipe=recipe)
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


def unread(path: Path, name: str, digest: str) -> Model:
    """What is known of a trained file that nobody has loaded: its ``source.digest``, and where it lies."""
    framework = "onnx" if path.suffix == ".onnx" else path.suffix.lstrip(".") or "folder"
    nothing = Signature(inputs=(), outputs=())
    origin = Source(path=str(path), digest=digest, framework=framework)
    return Model(name=name, path=str(path), digest=digest, signature=nothing, opset=0, ir_version=0, source=origin)


def reference(
    model: Model, *, trust: bool, recipe: torch.Recipe = torch.NOTHING
) -> Callable[[dict[str, Array]], list[Array]] | None:
    """The trained framework's own predictions, or ``None`` when the model came as ONNX; ``recipe`` as for ``take_in``.

    Raises:
        Refused: the trained file is not the one the model came from any more, or is not trusted.
    """
    framework, path = model.source.framework, Path(model.source.path)
    if framework == "onnx":
        return None
    _ask_trust(path, trust=trust)
    if source.digest(path) != model.source.digest:
        raise Refused(f"{path} changed while it was checked", next="run the same command again")
    if framework == "tensorflow":
        return lambda inputs: tensorflow.predict(path, inputs, trust=trust)
    if framework == "torch":
        return lambda inputs: torch.predict(path, inputs, recipe)
    if framework in boosters.FRAMEWORKS:
        return lambda inputs: boosters.predict(path, inputs)
    return lambda inputs: sklearn.predict(path, inputs, trust=trust)


def read_proto(path: Path, origin: Path | None = None) -> onnx.ModelProto:
    """The ONNX file as a protobuf message; messages name ``origin``.

    Raises:
        Refused: not an ONNX model, an empty one, or one that is too large.
    """
    origin, size = origin or path, path.stat().st_size
    if size > external.LIMIT_BYTES:
        raise Refused(
            f"{origin} is more than one ONNX file holds",
            found=f"{size / 1e9:.1f} GB",
            expected=f"at most {external.LIMIT_BYTES / 1e9:.1f} GB: protobuf ends at 2 GB",
            next="export it in float16, or in parts",
        )
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise Refused(
            f"{origin} is not an ONNX model",
            found=f"{size} bytes that are not its protobuf ({error})",
            expected="a whole .onnx file; a truncated download looks like this",
            next="copy or export the file again",
        ) from None
    if not proto.graph.node:
        raise Refused(
            f"{origin} is not an ONNX model",
            found=f"no graph in its {size} bytes",
            expected="a model with at least one node",
            next="copy or export the file again",
        )
    return proto


def _convert(path: Path, result: Path, *, trust: bool, recipe: torch.Recipe) -> tuple[str, dict[str, str]]:
    """Write the trained file as one ONNX file to ``result``; its framework, and what converted it."""
    _ask_trust(path, trust=trust)
    if path.suffix == ".onnx":
        proto = read_proto(path)
        if any(external.outside(proto)):
            external.join(proto, path)
            result.write_bytes(proto.SerializeToString(deterministic=True))
        else:
            shutil.copyfile(path, result)
        return "onnx", {"onnx": onnx.__version__}
    if path.suffix in sklearn.SUFFIXES:
        return "scikit-learn", sklearn.convert(path, result, OPSET, IR_VERSION, trust=trust)
    if path.suffix in boosters.SUFFIXES:
        return boosters.SUFFIXES[path.suffix], boosters.convert(path, result, OPSET, IR_VERSION)
    if path.suffix in torch.SUFFIXES:
        return "torch", torch.convert(path, result, OPSET, IR_VERSION, recipe)
    if tensorflow.takes(path):
        return "tensorflow", tensorflow.convert(path, result, OPSET, IR_VERSION, trust=trust)
    if path.suffix in torch.PICKLES:
        raise torch.refuse_pickle(path)
    raise Refused(
        f"{path} has a format that is not known",
        found=path.suffix or "no suffix",
        expected=".onnx, or a model of scikit-learn, XGBoost, LightGBM, PyTorch or Keras: "
        + ", ".join((*sklearn.SUFFIXES, *boosters.SUFFIXES, *torch.SUFFIXES, *tensorflow_file.SUFFIXES))
        + "; or the folder of a SavedModel",
        next="export the model to ONNX and give that file",
    )


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
    """Refuse what always executes code when it loads; of other formats only some files do, and their backend asks."""
    if trust or path.suffix not in (*sklearn.PICKLES, *torch.SUFFIXES):
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
