"""A model of Keras or TensorFlow in the process that may import them: loaded, written as ONNX, asked.

Loading can execute code that is in the file; callers have asked for trust.
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from shipworthy.backends.errand import first_line
from shipworthy.backends.tensorflow_file import Kind
from shipworthy.errors import Refused
from shipworthy.protocols import Array

SIGNATURE = "serving_default"
# Those of them that a conversion has used are named with it.
PACKAGES = ("tensorflow", "keras", "tf_keras", "tf2onnx")
# Rows of one call of the framework.
BATCH = 64


@dataclass(frozen=True)
class Trained:
    """A loaded model: ``call`` takes tensors by name and gives tensors by name; ``saved`` is it as a loaded SavedModel.

    ``saved`` may use the empty folder that it is given.
    """

    call: Callable[[dict[str, Any]], Mapping[str, Any]]
    saved: Callable[[Path], Any]

    def answer(self, inputs: Mapping[str, Array]) -> list[Array]:
        """What the model answers, outputs by the order of their names, a piece of the rows at a time."""
        import tensorflow as tf  # noqa: PLC0415

        count = len(next(iter(inputs.values())))
        pieces: list[list[Array]] = []
        for start in range(0, count, BATCH):
            made = self.call({name: tf.constant(array[start : start + BATCH]) for name, array in inputs.items()})
            pieces.append([np.asarray(made[name]) for name in sorted(made)])
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def load(path: Path, kind: Kind, *, trust: bool) -> Trained:
    """The model in the file or folder.

    Raises:
        Refused: it cannot be read, or what it needs is not installed.
    """
    import tensorflow as tf  # noqa: PLC0415

    if kind != "saved_model":
        return of_keras(keras_model(path, kind, trust=trust))
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # protobuf and TensorFlow raise what they like
        raise _unreadable(path, error, "a SavedModel, whole") from error
    function = _signature(loaded, path)
    return Trained(lambda tensors: function(**tensors), lambda _: loaded)


def keras_model(path: Path, kind: Kind, *, trust: bool) -> Any:
    """The model object of Keras 3 or of Keras 2 (``tf_keras``), not compiled.

    Raises:
        Refused: it cannot be read, or ``tf_keras`` is not installed.
    """
    try:
        keras = importlib.import_module(kind)
    except ImportError:
        raise Refused(
            f"{path} is of Keras 2, which is not installed",
            found=f"no module '{kind}'",
            next="pip install --no-deps tf-keras (of TensorFlow's version), or save the model with Keras 3",
        ) from None
    try:
        return keras.models.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:  # h5py and Keras raise what they like
        raise _unreadable(path, error, "a model of Keras' own layers, written by model.save") from error


def of_keras(model: Any) -> Trained:
    """A model object of either Keras; one output is called ``output_0`` unless the model gives names.

    Raises:
        Refused: it has not been built, so that nobody knows what it takes.
    """
    import tensorflow as tf  # noqa: PLC0415

    if not model.built or not getattr(model, "inputs", None):
        raise Refused(
            "the model of Keras does not say what it takes",
            found=f"a {type(model).__name__} without inputs",
            expected="a Sequential or functional model after its first call",
            next="where it was trained: model.export(FOLDER), and give that folder",
        )

    def call(tensors: dict[str, Any]) -> Mapping[str, Any]:
        given = tensors if len(tensors) > 1 else next(iter(tensors.values()))
        made = model(given, training=False)
        if isinstance(made, dict):
            return made
        return {f"output_{place}": one for place, one in enumerate(tf.nest.flatten(made))}

    def saved(folder: Path) -> Any:
        model.export(str(folder / "saved"))
        return tf.saved_model.load(str(folder / "saved"))

    return Trained(call, saved)


def write_onnx(trained: Trained, result: Path, opset: int, ir_version: int) -> dict[str, str]:
    """Write the model as ONNX: only standard operators, weights inside, the same bytes for the same model.

    Returns:
        What converted it: package to version.

    Raises:
        Refused: it has no ONNX form.
    """
    import tf2onnx  # noqa: PLC0415

    import tensorflow as tf  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        try:
            loaded = trained.saved(Path(folder))  # its variables live as long as it does
            function = _signature(loaded, Path(folder))
            taken = function.structured_input_signature[1]
            names = sorted(taken)
            specs = [tf.TensorSpec(taken[name].shape, taken[name].dtype, name) for name in names]
            graph = tf.function(lambda *tensors: function(**dict(zip(names, tensors, strict=True))), specs, autograph=False)
            proto, _ = tf2onnx.convert.from_function(graph, specs, opset=opset)
            onnx.checker.check_model(proto)  # operators without an ONNX form are in it as they were
        except Exception as error:  # the converter raises what it likes
            raise Refused(
                "the model of TensorFlow has no ONNX form",
                found=first_line(error),
                expected="operators that tf2onnx converts: numbers in, numbers out",
                next="do what is found before the request, or convert the model yourself and give the .onnx file",
            ) from error
    _clean(proto, ir_version)
    result.write_bytes(proto.SerializeToString(deterministic=True))
    return {name: str(sys.modules[name].__version__) for name in PACKAGES if name in sys.modules}


def _signature(loaded: Any, path: Path) -> Any:
    """What of a SavedModel answers requests: ``serving_default``, or the only signature there is."""
    known = dict(loaded.signatures)
    name = SIGNATURE if SIGNATURE in known else next(iter(known), "") if len(known) == 1 else ""
    if not name:
        raise Refused(
            f"{path} does not say which of its functions answers",
            found="signatures: " + (", ".join(sorted(known)) or "none"),
            expected=f"one, or one called {SIGNATURE}",
            next="export it again: model.export(FOLDER), or tf.saved_model.save with signatures",
        )
    return known[name]


def _clean(proto: onnx.ModelProto, ir_version: int) -> None:
    """Keep the default operator set only, nothing beside the graph, and names that are the same in every conversion."""
    kept = [one for one in proto.opset_import if one.domain in {"", "ai.onnx"}]
    del proto.opset_import[:], proto.metadata_props[:]
    proto.opset_import.extend(kept)
    proto.doc_string = proto.graph.doc_string = ""
    proto.ir_version = min(proto.ir_version, ir_version)
    _renumber(proto.graph)
    _name_weights(proto.graph)


def _renumber(graph: onnx.GraphProto) -> None:
    """Count the numbers in the converter's names anew, by the order of the nodes: it hands them out in no fixed order."""
    numbers: dict[str, int] = {}

    def renamed(name: str) -> str:
        return re.sub(r"__(\d+)", lambda found: f"__{numbers.setdefault(found[1], len(numbers))}", name)

    del graph.value_info[:]
    kept = {one.name for each in _graphs(graph) for one in (*each.input, *each.output, *each.initializer)}
    for each in _graphs(graph):
        for node in each.node:
            node.name = renamed(node.name)
            node.input[:] = [name if name in kept else renamed(name) for name in node.input]
            node.output[:] = [name if name in kept else renamed(name) for name in node.output]
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = renamed(dimension.dim_param)


def _name_weights(graph: onnx.GraphProto) -> None:
    """Call weights and constants by the node that reads them first, in that order.

    Of equal constants the converter keeps one, and which one changes from process to process.
    """
    tensors = {one.name: one for one in graph.initializer}
    names: dict[str, str] = {one.name: one.name for one in graph.output if one.name in tensors}
    for node in (node for each in _graphs(graph) for node in each.node):
        for place, name in enumerate(node.input):
            if name in tensors:
                node.input[place] = names.setdefault(name, f"{node.name}/{place}")
    ordered = [tensors[old] for old in names]
    for tensor, new in zip(ordered, names.values(), strict=True):
        tensor.name = new
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _unreadable(path: Path, error: BaseException, expected: str) -> Refused:
    while error.__context__:  # Keras tells the reason last, in pages
        error = error.__context__
    return Refused(f"{path} cannot be loaded", found=first_line(error), expected=expected, next="write it again")
