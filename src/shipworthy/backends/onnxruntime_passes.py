"""What onnxruntime can do to a model offline: its graph optimisation, its quantizers, and a look at its activations."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from shipworthy.backends.onnxruntime import session
from shipworthy.errors import Failed, Refused
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Int8Types, Target

# Activations of one call: enough rows to be quick, few enough that a large model stays far below a gigabyte.
ANSWER_BYTES = 64_000_000
MOST_ROWS = 64
# How far a graph is optimised when it is loaded: not at all, or by what is standard operators again.
Level = Literal["none", "basic"]
LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}


def optimise(model: Path, result: Path) -> None:
    """Fold, fuse and clean the graph at onnxruntime's basic level: only standard operators, any runtime takes them.

    Raises:
        Refused: onnxruntime does not load the model.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(result)
    session(model, Target(), options)


def feed(model: Path, names: Sequence[str], rows: Arrays, take: Callable[[Mapping[str, Array]], None]) -> None:
    """Give ``take`` the tensors of these names, inputs or outputs of the model, for all rows, a few rows at a time.

    Where the model has a fixed number of rows, those at the end that do not fill a batch are left out.

    Raises:
        Refused: onnxruntime does not load the model.
        Failed: it could not run the rows.
    """
    options = ort.SessionOptions()
    # As written, so that what is seen is what a quantizer will represent; an arena would keep the largest of all.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    loaded = session(model, Target(), options)
    inputs = loaded.get_inputs()
    outputs = [one for one in names if one not in rows]
    total = min(len(array) for array in rows.values())
    fixed = next((one.shape[0] for one in inputs if one.shape and isinstance(one.shape[0], int)), 0)
    start, count = 0, fixed or 1
    while start + count <= total:
        batch = {one.name: rows[one.name][start : start + count] for one in inputs}
        try:
            answers = dict(zip(outputs, loaded.run(outputs, batch), strict=True)) if outputs else {}
        except Exception as error:  # whatever the runtime raises: the boundary lets out only our own
            raise Failed("onnxruntime could not run the rows", found=str(error).splitlines()[0][:300]) from error
        answers |= {name: batch[name] for name in names if name in batch}
        start += count
        if not fixed:
            one_row = sum(array.nbytes for array in answers.values()) / count
            count = max(1, min(int(ANSWER_BYTES / max(one_row, 1)), MOST_ROWS, total - start))
        take(answers)
        del answers  # before the next ones are made


def caller(model: str, threads: int, level: Level, rows: Arrays) -> Callable[[], object]:
    """What runs the model on these rows each time it is called, its graph optimised to that level and no further.

    Raises:
        Refused: onnxruntime does not load the model.
        Failed: it cannot run the rows.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    run = partial(session(Path(model), Target(threads=threads), options).run, None, dict(rows))
    try:
        run()
    except Exception as error:  # whatever the runtime raises: the boundary lets out only our own
        raise Failed("onnxruntime could not run the rows", found=str(error).splitlines()[0][:300]) from error
    return run


def lacks(dtype: Literal["float16", "bfloat16"], target: Target) -> str:
    """What onnxruntime says when it is to multiply matrices of that type on the target; empty when it can."""
    import onnx  # noqa: PLC0415  (never in a server)
    from onnx import helper  # noqa: PLC0415

    kind = onnx.TensorProto.DataType.Value(dtype.upper())
    names = [helper.make_tensor_value_info(name, kind, [2, 2]) for name in "xwy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "probe", names[:2], names[2:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as scratch:
        probe = Path(scratch) / "probe.onnx"
        probe.write_bytes(proto.SerializeToString())
        return refusal(probe, target)


def refusal(model: Path, target: Target | None = None) -> str:
    """What onnxruntime says when it does not load the model, on the plain CPU if no target is named; empty when it does."""
    try:
        session(model, target or Target())
    except Refused as error:
        return error.found
    return ""


def quantize_dynamic(model: Path, result: Path, operators: list[str], *, per_channel: bool, reduced: bool) -> None:
    """INT8 weights (signed; ``reduced``: of 7 bits); activations are quantized while the model runs."""
    from onnxruntime import quantization  # noqa: PLC0415  (imports onnx: never in a server)

    with _quiet():
        quantization.quantize_dynamic(
            str(model),
            str(result),
            op_types_to_quantize=operators,
            per_channel=per_channel,
            reduce_range=reduced,
            weight_type=quantization.QuantType.QInt8,
        )


def quantize_static(
    model: Path,
    result: Path,
    ranges: Mapping[str, tuple[float, float]],
    operators: Sequence[str],
    excluded: Sequence[str],
    types: Int8Types,
    *,
    per_channel: bool,
) -> None:
    """INT8 by Q/DQ nodes, in the types of the target.

    x86 multiplies unsigned activations with signed weights fastest. TensorRT takes only symmetric signed ones, each
    weight as a float with its own pair of Q and DQ, and biases as floats.

    Args:
        model: operator set 13 or later; all nodes have names.
        result: the file to write.
        ranges: lowest and highest value of each activation.
        operators: which operators to quantize.
        excluded: names of nodes that stay as they are.
        types: see ``records.Target``.
        per_channel: a scale for each output channel of a weight.
    """
    from onnxruntime.quantization import QuantType  # noqa: PLC0415
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData  # noqa: PLC0415
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # noqa: PLC0415
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer  # noqa: PLC0415

    described = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    with _quiet():
        quantizer = QDQQuantizer(
            load_model_with_shape_infer(model),
            per_channel=per_channel,
            reduce_range=types == "u8s8_reduced",
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if types.startswith("u8") else QuantType.QInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, described),
            nodes_to_quantize=[],
            nodes_to_exclude=list(excluded),
            op_types_to_quantize=list(operators),
            extra_options=_symmetric() if types == "s8s8_symmetric" else {},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(result))


def _symmetric() -> dict[str, Any]:
    return {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": False,
        "ForceQuantizeNoInputCheck": True,
        "QDQDisableWeightAdjustForInt32Bias": True,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizers advise on the root logger to run a preparation that the graph pass has already done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
