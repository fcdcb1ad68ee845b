"""From a typed ONNX file to the plan of its engine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipworthy.backends.tensorrt_plan import Options, Plan
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.optimize.tensorrt import Proposal, propose
from shipworthy.records import Signature, Target, TensorSpec, decode

TARGET = Target(name="orin", device="cuda", runtime="tensorrt", precisions=("float32", "float16", "bfloat16", "int8"))
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 4)),),
)
EYE = np.eye(4, dtype=np.float32)
MATMUL = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")


@pytest.fixture
def file(tmp_path, onnx_model):
    def build(nodes, weights, **more):
        path = tmp_path / "m.onnx"
        x, y = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])
        path.write_bytes(onnx_model(nodes, [x], [y], weights, **more).SerializeToString())
        return path

    return build


def pairs(*, zero: int = 0, kind: type = np.int8, bias: bool = False) -> tuple[list, dict]:
    """Q/DQ around both operands of a Gemm, with one type of numbers and one zero point."""
    weights = {"s": np.float32(0.1), "z": kind(zero), "w": np.ones((4, 4), kind)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="d"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], name="dw"),
    ]
    if bias:
        weights["b"] = np.ones(4, np.int32)
        nodes.append(helper.make_node("DequantizeLinear", ["b", "s"], ["bd"], name="db"))
    nodes.append(helper.make_node("Gemm", ["xd", "wd", *(["bd"] if bias else [])], ["y"], name="g"))
    return nodes, weights


def half() -> tuple[list, dict]:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["g"]),
        helper.make_node("Cast", ["g"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    return nodes, {"w": EYE.astype(np.float16), "v": EYE}


def test_the_plan_lies_beside_the_file(file):
    path = file(*half())
    made = propose(path, SIGNATURE, TARGET, Options(precision="float16", batch=8))
    assert (made.onnx, made.percent) == ("m.onnx", {"float16": 50, "float32": 50})
    assert (made.plan.model, made.plan.precision, made.plan.typing) == (file_digest(path), "float16", "strong")
    assert made.plan.profile["x"].most == (8, 4)
    assert made.command[:3] == ("trtexec", "--onnx=m.onnx", "--saveEngine=m.engine")
    assert decode(Proposal, (path.parent / "m.plan.json").read_bytes()) == made
    assert isinstance(made.plan, Plan)
    assert {one.name for one in path.parent.iterdir()} == {"m.onnx", "m.plan.json"}, "no engine is pretended"


@pytest.mark.parametrize(
    ("nodes", "weights", "precision"),
    [([MATMUL], {"w": EYE}, "float32"), (*half(), "float16"), (*pairs(), "int8")],
    ids=["float32", "float16", "int8"],
)
def test_the_precision_is_in_the_graph(file, nodes, weights, precision):
    assert propose(file(nodes, weights), SIGNATURE, TARGET, Options(precision=precision)).percent[precision] > 0


@pytest.mark.parametrize("wanted", ["float16", "bfloat16", "int8"])
def test_a_precision_that_is_not_in_the_graph(file, wanted):
    path = file([MATMUL], {"w": EYE})
    with pytest.raises(Refused, match=f"no {wanted} in its graph") as caught:
        propose(path, SIGNATURE, TARGET, Options(precision=wanted))
    assert caught.value.found == "nodes: float32 100 %"
    assert not (path.parent / "m.plan.json").exists()


def test_nothing_that_multiplies(file):
    with pytest.raises(Refused) as caught:
        propose(file([helper.make_node("Relu", ["x"], ["y"])], {}), SIGNATURE, TARGET, Options())
    assert caught.value.found == "nodes: none that multiplies"


def test_half_of_the_operands_quantized_is_not_int8(file):
    nodes, weights = pairs()
    weights["wd"] = EYE
    path = file([node for node in nodes if node.name != "dw"], {name: weights[name] for name in ("s", "z", "wd")})
    with pytest.raises(Refused, match="no int8"):
        propose(path, SIGNATURE, TARGET, Options(precision="int8"))


def test_the_legacy_mode_types_the_graph_itself(file):
    path = file([MATMUL], {"w": EYE})
    made = propose(path, SIGNATURE, TARGET, Options(precision="float16", legacy_dla=0))
    assert made.plan.typing == "weak"
    assert "--useDLACore=0" in made.command
    with pytest.raises(Refused, match="no int8"):
        propose(path, SIGNATURE, TARGET, Options(precision="int8", legacy_dla=0))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (pairs(kind=np.uint8), "QuantizeLinear 'q' with uint8"),
        (pairs(zero=3), "QuantizeLinear 'q' with a zero point that is not 0"),
        (pairs(bias=True), "DequantizeLinear 'db' with int32"),
    ],
    ids=["unsigned", "zero point", "bias"],
)
def test_int8_for_cpus_is_refused(file, made, said):
    path = file(*made)
    with pytest.raises(Refused, match="was not made for TensorRT") as caught:
        propose(path, SIGNATURE, TARGET, Options(precision="int8"))
    assert caught.value.found == said
    assert not (path.parent / "m.plan.json").exists()


def test_a_zero_point_from_a_node(file):
    nodes, weights = pairs()
    del weights["z"]
    constant = helper.make_node("Constant", [], ["z"], value=numpy_helper.from_array(np.array(2, np.int8)))
    with pytest.raises(Refused) as caught:
        propose(file([constant, *nodes], weights), SIGNATURE, TARGET, Options(precision="int8"))
    assert caught.value.found == "QuantizeLinear 'q' with a zero point that is not 0"


def test_arithmetic_of_cpus_is_refused(file):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    with pytest.raises(Refused) as caught:
        propose(file(nodes, {}), SIGNATURE, TARGET, Options())
    assert caught.value.found == "operator DynamicQuantizeLinear: INT8 arithmetic of CPUs"


def test_operators_of_a_runtime_are_refused(file):
    node = helper.make_node("FusedGemm", ["x", "w"], ["y"], domain="com.microsoft")
    with pytest.raises(Refused) as caught:
        propose(file([node], {"w": EYE}, domains={"com.microsoft": 1}), SIGNATURE, TARGET, Options())
    assert caught.value.found == "operator FusedGemm of com.microsoft"


def test_what_lies_in_a_branch_counts(file):
    inner = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    half = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["g"]),
        helper.make_node("Cast", ["g"], ["o"], to=TensorProto.FLOAT),
    ]
    branches = {
        "then_branch": helper.make_graph(half, "then", [], [inner]),
        "else_branch": helper.make_graph([helper.make_node("Relu", ["x"], ["o"])], "else", [], [inner]),
    }
    path = file([helper.make_node("If", ["c"], ["y"], **branches)], {"w": EYE.astype(np.float16), "c": np.bool_(True)})
    assert propose(path, SIGNATURE, TARGET, Options(precision="float16")).percent == {"float16": 100}


def test_weights_in_other_files(file):
    path = file([MATMUL], {"w": EYE})
    onnx.save_model(onnx.load_model(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(Refused, match="weights in other files"):
        propose(path, SIGNATURE, TARGET, Options())


def test_what_is_no_onnx_file(tmp_path):
    with pytest.raises(Refused, match="there is no file"):
        propose(tmp_path / "m.onnx", SIGNATURE, TARGET, Options())
    (tmp_path / "m.onnx").write_bytes(b"\x0f broken")
    with pytest.raises(Refused, match="is not an ONNX file"):
        propose(tmp_path / "m.onnx", SIGNATURE, TARGET, Options())


def test_a_graph_that_is_not_sound(file):
    path = file([MATMUL], {"w": EYE})
    model = onnx.load_model(path)
    del model.opset_import[:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Refused, match="is not a sound ONNX model"):
        propose(path, SIGNATURE, TARGET, Options())


def test_what_the_plan_refuses_is_refused(file):
    path = file([MATMUL], {"w": EYE})
    with pytest.raises(Refused, match="does not run TensorRT"):
        propose(path, SIGNATURE, Target(), Options())
    assert not (path.parent / "m.plan.json").exists()
