"""Decision trees as ONNX: what the readers of boosters make of a model, and the nodes that it becomes.

Converters that exist answer otherwise than the framework for a good part of what people train (docs/frameworks.md lists
what was measured), so the nodes are written here: one ``TreeEnsembleRegressor`` that adds up the leaves, and plain
operators for what comes after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from shipworthy.errors import Refused
from shipworthy.protocols import Array

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
INPUT, LABEL, PROBABILITIES, VALUES = "X", "label", "probabilities", "variable"
NODES = (
    *("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values"),
    *("nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true"),
)
LEAVES = ("target_treeids", "target_nodeids", "target_ids", "target_weights")
Link = Literal["identity", "exp", "sigmoid", "softmax", "signed square"]


@dataclass(frozen=True)
class Tree:
    """One binary tree in arrays, a node a place; the first node is the root.

    ``left`` is -1 at a leaf and ``value`` then what the leaf adds, elsewhere the threshold. A row goes left where its
    ``feature`` is below ``value`` (or equal, as the forest says), and where it is NaN and ``missing_left``. ``target`` is
    the column that the leaves add to.
    """

    left: Sequence[int]
    right: Sequence[int]
    feature: Sequence[int]
    value: Sequence[float]
    missing_left: Sequence[bool]
    target: int = 0


@dataclass(frozen=True)
class Forest:
    """Trees, and what is made of their sum: ``link(slope * (base + sum))``, a column a target.

    ``base`` has a number for each target; ``inclusive``: rows that equal a threshold go left. With ``classes`` the result
    is a label and probabilities: of two classes where there is one column, which is that of the second. Thresholds are
    float64 where ``inclusive``, and float32 elsewhere.
    """

    trees: Sequence[Tree]
    base: Sequence[float]
    inclusive: bool
    features: int
    link: Link = "identity"
    slope: float = 1.0
    classes: Array | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it gives."""
        return (VALUES,) if self.classes is None else (LABEL, PROBABILITIES)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Say of which file it is that a model has no ONNX form."""
    try:
        yield
    except Refused as error:
        what = f"{path} has no ONNX form"
        raise Refused(what, found=error.found or error.what, expected=error.expected, next=error.next) from error


def nodes(forest: Forest, rows: str, outputs: Sequence[str], unique: Callable[[str], str]) -> list[onnx.NodeProto]:
    """The nodes that give ``outputs`` (as ``Forest.outputs``) for the tensor ``rows``, float32 [rows, features].

    ``unique`` makes a name that the graph does not have yet.

    Raises:
        Refused: there is no tree, or a class is neither text nor a whole number.
    """
    if not forest.trees:
        raise Refused("a model without trees has no ONNX form", found="no tree in it", next="train it for one round at least")
    made: list[onnx.NodeProto] = []

    def add(kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or unique(kind.lower())
        made.append(helper.make_node(kind, inputs, [output], name=unique(f"forest_{kind}"), **attributes))
        return output

    def constant(array: Array) -> str:
        return add("Constant", [], value=numpy_helper.from_array(array))

    raw = add("TreeEnsembleRegressor", [rows], domain=ML_DOMAIN, **_ensemble(forest))
    if forest.slope != 1.0:
        raw = add("Mul", [raw, constant(np.array([forest.slope], np.float32))])
    final = outputs[-1] if forest.classes is None or len(forest.base) > 1 else ""
    if forest.link == "softmax":
        answer = add("Softmax", [raw], final, axis=1)
    elif forest.link == "signed square":
        answer = add("Mul", [raw, add("Abs", [raw])], final)
    else:
        answer = add({"identity": "Identity", "exp": "Exp", "sigmoid": "Sigmoid"}[forest.link], [raw], final)
    if forest.classes is None:
        return made
    if len(forest.base) == 1:
        first = add("Sub", [constant(np.array([1.0], np.float32)), answer])
        answer = add("Concat", [first, answer], outputs[-1], axis=1)
    place = add("ArgMax", [answer], axis=1, keepdims=0)
    add("Gather", [constant(_labels(forest.classes)), place], outputs[0], axis=0)
    return made


def model(forest: Forest, opset: int, ir_version: int) -> onnx.ModelProto:
    """The forest as a whole model: one input ``X``, float32 [rows, features].

    Raises:
        Refused: as ``nodes``.
    """
    kind, float32 = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    classes = forest.classes
    if classes is None:
        taken = [helper.make_tensor_value_info(VALUES, float32, [None, len(forest.base)])]
    else:
        if _labels(classes).dtype.kind == "O":
            kind = onnx.TensorProto.STRING
        taken = [
            helper.make_tensor_value_info(LABEL, kind, [None]),
            helper.make_tensor_value_info(PROBABILITIES, float32, [None, len(classes)]),
        ]
    given = [helper.make_tensor_value_info(INPUT, float32, [None, forest.features])]
    graph = helper.make_graph(nodes(forest, INPUT, forest.outputs, _counted()), "forest", given, taken)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name="shipworthy")


def _counted() -> Callable[[str], str]:
    seen: dict[str, int] = {}

    def unique(name: str) -> str:
        seen[name] = seen.get(name, -1) + 1
        return f"{name}_{seen[name]}"

    return unique


def _ensemble(forest: Forest) -> dict[str, Any]:
    """The attributes of the operator; only nodes that the root leads to, numbered as they are met."""
    attributes: dict[str, list[Any]] = {key: [] for key in (*NODES, *LEAVES)}
    branch = "BRANCH_LEQ" if forest.inclusive else "BRANCH_LT"
    for number, tree in enumerate(forest.trees):
        thresholds = down(np.asarray(tree.value, np.float64)).tolist()
        for place, node, left, right in _walk(tree):
            if left < 0:
                row: tuple[Any, ...] = (number, place, 0, "LEAF", 0.0, 0, 0, 0)
                for key, one in zip(LEAVES, (number, place, tree.target, float(tree.value[node])), strict=True):
                    attributes[key].append(one)
            else:
                missing = int(tree.missing_left[node])
                row = (number, place, int(tree.feature[node]), branch, thresholds[node], left, right, missing)
            for key, one in zip(NODES, row, strict=True):
                attributes[key].append(one)
    base = {"base_values": [float(one) for one in forest.base]} if any(forest.base) else {}
    return attributes | base | {"n_targets": len(forest.base), "aggregate_function": "SUM", "post_transform": "NONE"}


def _walk(tree: Tree) -> list[tuple[int, int, int, int]]:
    """Each node with its new number, its place in the arrays and the new numbers of its children (-1: a leaf).

    Raises:
        Refused: the arrays are no tree.
    """
    found, queue = [], [0]
    for place, node in enumerate(queue):
        left, right = int(tree.left[node]), int(tree.right[node])
        if left < 0:
            found.append((place, node, -1, -1))
            continue
        if len(queue) >= len(tree.left) or not (left < len(tree.left) and 0 <= right < len(tree.left)):
            raise Refused("a tree of the model is broken", found=f"children {left} and {right} of node {node}")
        found.append((place, node, len(queue), len(queue) + 1))
        queue += [left, right]
    return found


def down(thresholds: Array) -> Array:
    """The largest float32 that are not above thresholds of float64: float32 rows are on the same side of both."""
    with np.errstate(over="ignore"):
        rounded: Array = thresholds.astype(np.float32)
    return np.where(np.greater(rounded, thresholds), np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _labels(classes: Array) -> Array:
    """The classes as ONNX has them: int64, or texts.

    Raises:
        Refused: they are neither texts nor whole numbers.
    """
    if classes.dtype.kind in "UO" and all(isinstance(one, str) for one in classes):
        return np.array(classes, object)
    if classes.dtype.kind in "biuf" and (classes == classes.astype(np.int64)).all():
        return classes.astype(np.int64)
    raise Refused(
        "the classes have no ONNX form",
        found=str(classes[:3].tolist())[:100],
        expected="texts or whole numbers",
        next="train it on such labels",
    )
