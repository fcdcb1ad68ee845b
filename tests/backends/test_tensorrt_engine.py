"""What the inspector's JSON proves, in the layouts of TensorRT 10 and 11."""

from __future__ import annotations

import json

import pytest

from shipworthy.backends.tensorrt_engine import prove, read
from shipworthy.errors import Failed, Refused


def layer(kind: str, *dtypes: str, eleven: bool = False, **fields) -> dict:
    said = ({"Format": "Row major linear", "Datatype": one} if eleven else {"Format/Datatype": one} for one in dtypes)
    return {"Name": "n", "LayerType": kind, "Inputs": [{"Name": "t", **one} for one in said], "Outputs": [], **fields}


def ten(*layers) -> str:
    return json.dumps({"Layers": layers, "Bindings": ["x", "y"]})


def test_ten():
    information = ten(
        layer("Reformat", "Row major linear FP32 format (kLINEAR)"),
        layer("CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format", Weights={"Type": "Int8"}),
        layer("CaskGemmConvolution", "Channel major FP16 format where channel % 8 == 0"),
        layer("gemm", "Half", "Half"),
        layer("MatrixMultiply", "Row major linear FP32"),
        layer("PointWiseV2", "Float"),
    )
    inside = read(information)
    assert inside.tensors == ("x", "y")
    assert (inside.layers, inside.counted) == (6, 4)
    assert inside.percent == {"int8": 25, "float16": 50, "float32": 25}


@pytest.mark.parametrize("field", ["DataType", "Datatype", "Format/Datatype"])
def test_eleven(field):
    tensor = {"Name": "x", "IOMode": "Input", "DataType": "Float", "ProfileInfo": [{"Format": "Row major linear FP32 format"}]}
    one = {"Name": "n", "LayerType": "gemm", "Inputs": [{"Name": "t", "Format": "FP32 format", field: "BFloat16"}]}
    inside = read(json.dumps({"Layers": [one], "I/O Tensors": [tensor]}))
    assert (inside.tensors, inside.percent) == (("x",), {"bfloat16": 100})


@pytest.mark.parametrize(
    ("said", "precision"),
    [
        ("Half", "float16"),
        ("BF16", "bfloat16"),
        ("Row major linear BFloat16 format", "bfloat16"),
        ("FP8", "float8"),
        ("INT4", "int4"),
        ("Float", "float32"),
        ("Int8", "int8"),
    ],
)
def test_words_of_dtypes(said, precision):
    assert read(ten(layer("gemm", said))).percent == {precision: 100}


def test_weights_tell_where_inputs_do_not():
    assert read(ten(layer("CaskConvolution", Weights={"Type": "Half", "Count": 9}))).percent == {"float16": 100}


def test_an_output_is_not_arithmetic():
    one = layer("gemm", "Float") | {"Outputs": [{"Name": "o", "Format/Datatype": "Half"}]}
    assert read(ten(one)).percent == {"float32": 100}


def test_casts_and_quantizers_prove_nothing():
    inside = read(ten(layer("Reformat", "Half"), layer("Quantize", "Int8"), layer("Cast", "Half"), layer("gemm", "Float")))
    assert inside.percent == {"float32": 100}


def test_a_reformat_by_a_kernel_of_convolutions_proves_nothing():
    inside = read(ten(layer("Reformat", "Half", TacticName="sm80_xmma_conv"), layer("gemm", "Float")))
    assert inside.percent == {"float32": 100}


def test_the_kernels_name_tells_what_a_fused_layer_does():
    inside = read(ten(layer("fusion", "Half", TacticName="sm80_xmma_gemm_f16f16"), layer("kgen", "Float")))
    assert (inside.counted, inside.percent) == (1, {"float16": 100})


def test_all_that_compute_count_where_none_multiplies():
    inside = read(ten(layer("kgen", "Half"), layer("kgen", "Float"), layer("Constant", "Int8")))
    assert inside.percent == {"float16": 50, "float32": 50}


def test_names_may_hold_control_characters():
    information = ten(layer("gemm", "Half", Metadata="a|b")).replace("|", "\x1e")
    assert read(information).percent == {"float16": 100}


@pytest.mark.parametrize(
    "information",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"Layers": []}',
        '{"Layers": [], "Bindings": []}',
        '{"Layers": ["conv", "gemm"], "Bindings": ["x"]}',
        '{"Layers": 3, "Bindings": ["x"]}',
        '{"Layers": [{}], "I/O Tensors": ["x"]}',
        '{"Layers": [{}]}',
        "[" * 100_000,
    ],
    ids=["empty", "list", "null", "nothing", "no tensors", "no layers", "names only", "number", "eleven", "ten", "deep"],
)
def test_what_proves_nothing_is_an_error(information):
    with pytest.raises(Failed, match="cannot be proved"):
        read(information)


@pytest.mark.parametrize("odd", [{"Inputs": None}, {"Inputs": ["x"]}, {"Inputs": 3}, {"Weights": "Half"}, {"Inputs": [{}]}])
def test_odd_layers_count_for_nothing(odd):
    inside = read(ten({"LayerType": "gemm"} | odd))
    assert (inside.layers, inside.counted, inside.percent) == (1, 0, {})
    with pytest.raises(Refused, match="without float32"):
        prove(inside, "float32")


def test_the_proof():
    inside = read(ten(layer("gemm", "Half"), layer("gemm", "Float"), layer("gemm", "Float")))
    prove(inside, "float16")
    prove(inside, "float32")
    with pytest.raises(Refused, match="an engine without int8") as caught:
        prove(inside, "int8")
    assert caught.value.found == "float16 33.33 %, float32 66.67 %, of 3 layers"
