"""The plan of an engine, and its key: pure."""

from __future__ import annotations

import pytest

from shipworthy.backends.tensorrt_plan import Options, Place, Shapes, key, plan, refuse_version, trtexec
from shipworthy.errors import Refused
from shipworthy.records import Signature, Target, TensorSpec, decode, encode

DIGEST = "d" * 64
TARGET = Target(name="orin", device="cuda", runtime="tensorrt", precisions=("float32", "float16", "int8"))
PLACE = Place(tensorrt="10.3.0", cuda=12060, driver="540.4", gpu="Orin", capability="8.7")


def signature(*shapes, dtype="float32", output=(None, 2)) -> Signature:
    inputs = (TensorSpec(name=f"x{index}", dtype=dtype, shape=shape) for index, shape in enumerate(shapes))
    return Signature(inputs=tuple(inputs), outputs=(TensorSpec(name="y", dtype="float32", shape=output),))


ROWS = signature((None, 3, 8, 8))


def test_a_batch_goes_from_one_to_the_largest():
    made = plan(DIGEST, signature((None, 4), (None, 2, 3)), TARGET, Options(batch=16, best_batch=8))
    assert made.profile == {
        "x0": Shapes(least=(1, 4), best=(8, 4), most=(16, 4)),
        "x1": Shapes(least=(1, 2, 3), best=(8, 2, 3), most=(16, 2, 3)),
    }
    assert (made.model, made.typing, made.dla_core, made.tf32) == (DIGEST, "strong", None, False)


def test_fixed_shapes_need_no_profile():
    assert plan(DIGEST, signature((1, 4), output=(1, 2)), TARGET, Options()).profile == {}


def test_ranges_of_other_dimensions_are_given():
    shapes = {"x0": Shapes(least=(1, 16), best=(1, 64), most=(8, 512))}
    assert plan(DIGEST, signature((None, None)), TARGET, Options(shapes=shapes)).profile == shapes


@pytest.mark.parametrize("shapes", [(None, None), (4, None), (None, 4, None)])
def test_a_free_dimension_without_a_range(shapes):
    with pytest.raises(Refused, match="'x0' has free dimensions"):
        plan(DIGEST, signature(shapes), TARGET, Options())


def test_rows_that_the_output_does_not_have():
    with pytest.raises(Refused, match="'x0' has free dimensions"):
        plan(DIGEST, signature((None, 4), output=(1, 2)), TARGET, Options())


@pytest.mark.parametrize(
    ("least", "best", "most"),
    [
        ((1,), (1, 4), (1, 4)),
        ((1, 4), (1, 4), (1, 4, 1)),
        ((0, 4), (1, 4), (2, 4)),
        ((2, 4), (1, 4), (2, 4)),
        ((1, 4), (3, 4), (2, 4)),
        ((1, 4), (1, 4), (1, 5)),
        ((1, 3), (1, 4), (1, 4)),
        ((1, 4), (1, 5), (1, 4)),
    ],
)
def test_a_range_that_does_not_fit(least, best, most):
    with pytest.raises(Refused, match="range of 'x0'"):
        plan(DIGEST, signature((None, 4)), TARGET, Options(shapes={"x0": Shapes(least=least, best=best, most=most)}))


def test_a_range_of_no_input():
    shapes = {"z": Shapes(least=(1,), best=(1,), most=(1,))}
    with pytest.raises(Refused, match="no input 'z'") as caught:
        plan(DIGEST, ROWS, TARGET, Options(shapes=shapes))
    assert caught.value.expected == "x0"


def test_a_dla_has_one_shape():
    made = plan(DIGEST, ROWS, TARGET, Options(precision="float16", batch=4, legacy_dla=1))
    assert made.profile == {"x0": Shapes(least=(4, 3, 8, 8), best=(4, 3, 8, 8), most=(4, 3, 8, 8))}
    assert (made.typing, made.dla_core) == ("weak", 1)


@pytest.mark.parametrize("dtype", ["str", "float64", "uint16"])
def test_dtypes_that_tensorrt_does_not_take(dtype):
    with pytest.raises(Refused, match="does not take 'x0'") as caught:
        plan(DIGEST, signature((None, 4), dtype=dtype), TARGET, Options())
    assert caught.value.found == dtype


@pytest.mark.parametrize(
    ("budget", "asked", "expected"),
    [(None, None, 1024), (500.0, None, 250), (8000.0, None, 1024), (500.0, 400.0, 400), (None, 5000.0, 5000)],
)
def test_the_workspace(budget, asked, expected):
    target = Target(device="cuda", runtime="tensorrt", memory_mb=budget)
    assert plan(DIGEST, ROWS, target, Options(workspace_mb=asked)).workspace_bytes == expected * 10**6


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (Target(), Options(), "does not run TensorRT"),
        (TARGET, Options(precision="bfloat16"), "does not multiply in bfloat16"),
        (TARGET, Options(legacy_dla=0), "a DLA does not multiply in float32"),
        (TARGET, Options(precision="int8", legacy_dla=-1), "legacy_dla is out"),
        (TARGET, Options(batch=0), "batch is out"),
        (TARGET, Options(best_batch=0), "best_batch is out"),
        (TARGET, Options(batch=2, best_batch=3), "best_batch is out"),
        (TARGET, Options(level=6), "level is out"),
        (TARGET, Options(level=-1), "level is out"),
        (TARGET, Options(workspace_mb=0.0), "workspace_mb is out"),
        (Target(device="cuda", runtime="tensorrt", memory_mb=100.0), Options(workspace_mb=101.0), "workspace_mb is out"),
    ],
    ids=range(11),
)
def test_what_cannot_be_planned(target, options, said):
    with pytest.raises(Refused, match=said):
        plan(DIGEST, ROWS, target, options)


def test_a_plan_survives_its_file():
    made = plan(DIGEST, ROWS, TARGET, Options(precision="int8"))
    assert decode(type(made), encode(made)) == made


OPTIONS = Options(precision="float16")
OTHER = {
    "precision": Options(precision="int8"),
    "batch": Options(precision="float16", batch=8),
    "best": Options(precision="float16", best_batch=2),
    "workspace": Options(precision="float16", workspace_mb=7.0),
    "tf32": Options(precision="float16", tf32=True),
    "level": Options(precision="float16", level=4),
    "dla": Options(precision="float16", legacy_dla=0),
    "core": Options(precision="float16", legacy_dla=1),
}
PLACES = {
    "tensorrt": Place(tensorrt="10.3.1", cuda=12060, driver="540.4", gpu="Orin", capability="8.7"),
    "cuda": Place(tensorrt="10.3.0", cuda=12080, driver="540.4", gpu="Orin", capability="8.7"),
    "driver": Place(tensorrt="10.3.0", cuda=12060, driver="540.5", gpu="Orin", capability="8.7"),
    "gpu": Place(tensorrt="10.3.0", cuda=12060, driver="540.4", gpu="Thor", capability="8.7"),
    "capability": Place(tensorrt="10.3.0", cuda=12060, driver="540.4", gpu="Orin", capability="8.6"),
}


def test_the_key_is_of_everything():
    first = plan(DIGEST, ROWS, TARGET, OPTIONS)
    keys = {key(first, PLACE), key(plan("e" * 64, ROWS, TARGET, OPTIONS), PLACE)}
    keys |= {key(plan(DIGEST, ROWS, TARGET, options), PLACE) for options in OTHER.values()}
    keys |= {key(first, one) for one in PLACES.values()}
    assert len(keys) == 2 + len(OTHER) + len(PLACES)
    assert key(plan(DIGEST, ROWS, TARGET, Options(precision="float16")), PLACE) in keys


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9", "10.7.0.post1", "11.4.0.106"])
def test_versions_that_fit(version):
    refuse_version(plan(DIGEST, ROWS, TARGET, OPTIONS), version)


@pytest.mark.parametrize("version", ["10.2.0", "9.3", "12.0.1", "", "11", "x.y"])
def test_versions_that_do_not(version):
    with pytest.raises(Refused, match="is not one that this works with"):
        refuse_version(plan(DIGEST, ROWS, TARGET, OPTIONS), version)


@pytest.mark.parametrize(("version", "fits"), [("10.3.0", True), ("10.7.0.post1", True), ("10.8.0", False), ("11.4.1", False)])
def test_versions_with_the_legacy_mode(version, fits):
    made = plan(DIGEST, ROWS, TARGET, Options(precision="float16", legacy_dla=0))
    if fits:
        refuse_version(made, version)
    else:
        with pytest.raises(Refused, match="legacy mode"):
            refuse_version(made, version)


def test_nvidias_command():
    made = plan(DIGEST, signature((None, 4), (None, 2)), TARGET, Options(precision="float16", batch=8, workspace_mb=64.0))
    assert trtexec(made, "m.onnx", "m.engine") == (
        "trtexec",
        "--onnx=m.onnx",
        "--saveEngine=m.engine",
        "--skipInference",
        "--profilingVerbosity=detailed",
        "--exportLayerInfo=m.engine.layers.json",
        "--timingCacheFile=m.engine.timing",
        "--memPoolSize=workspace:64000000B",
        "--builderOptimizationLevel=3",
        "--minShapes=x0:1x4,x1:1x2",
        "--optShapes=x0:1x4,x1:1x2",
        "--maxShapes=x0:8x4,x1:8x2",
        "--noTF32",
        "--stronglyTyped",
    )


def test_nvidias_command_quotes_names():
    spec = TensorSpec(name="x:0", dtype="float32", shape=(None, 2))
    made = plan(DIGEST, Signature(inputs=(spec,), outputs=(spec,)), TARGET, Options(batch=2))
    assert "--maxShapes='x:0':2x2" in trtexec(made, "m.onnx", "m.engine")


def test_nvidias_command_for_a_dla():
    made = plan(DIGEST, signature((4, 4), output=(4, 2)), TARGET, Options(precision="int8", legacy_dla=1, tf32=True))
    said = trtexec(made, "m.onnx", "m.engine")
    assert said[-4:] == ("--useDLACore=1", "--allowGPUFallback", "--fp16", "--int8")
    assert not {"--stronglyTyped", "--noTF32"} & set(said)
    assert not any("Shapes" in one for one in said)
    half = plan(DIGEST, ROWS, TARGET, Options(precision="float16", legacy_dla=0))
    assert "--int8" not in trtexec(half, "m.onnx", "m.engine")
