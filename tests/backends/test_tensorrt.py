"""Engines of TensorRT, built with a module that has exactly the names of 10.3, 10.16 and 11.4."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import helper

from shipworthy.backends import tensorrt, tensorrt_place
from shipworthy.backends.tensorrt_plan import Options, Place, Plan, Shapes, plan
from shipworthy.errors import Failed, Refused
from shipworthy.files import file_digest
from shipworthy.records import Signature, Target, TensorSpec

from .tensorrt_fake import VERSIONS, Fake, World

OLD, ELEVEN = VERSIONS[0], VERSIONS[-1]
TARGET = Target(device="cuda", runtime="tensorrt", precisions=("float32", "float16", "int8"))
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 4)),),
)


class Cuda:
    """The driver's library, as far as it is asked."""

    def __init__(self, *, code: int = 0, gpu: bytes = b"Orin", capability: tuple[int, int] = (8, 7)):
        self.code, self.gpu, self.capability = code, gpu, dict(zip((75, 76), capability, strict=True))

    def cuInit(self, _flags):  # noqa: N802
        return self.code

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name, length, _device):  # noqa: N802
        name.value = self.gpu[:length]
        return 0

    def cuDeviceGetAttribute(self, number, attribute, _device):  # noqa: N802
        number._obj.value = self.capability[attribute]
        return 0


@pytest.fixture
def cuda(monkeypatch):
    def use(library):
        monkeypatch.setattr(tensorrt_place.ctypes, "CDLL", lambda _name: library)
        return library

    use(Cuda())
    monkeypatch.setattr(tensorrt_place, "DRIVER", Path("/nowhere"))
    return use


@pytest.fixture(params=VERSIONS)
def world(request, monkeypatch, cuda):
    return install(monkeypatch, World(request.param))


def install(monkeypatch, world: World) -> World:
    monkeypatch.setitem(sys.modules, "tensorrt", Fake(world))
    return world


@pytest.fixture
def model(tmp_path, onnx_model):
    """The file of y = x · w, multiplied in the given precision, with float32 at its borders."""

    def build(precision: str = "float16") -> Path:
        eye = np.eye(4)
        if precision == "int8":
            scale = {"s": np.float32(0.1), "w": eye.astype(np.float32)}
            pairs = [
                helper.make_node(kind, [one, "s"], [out], name=out, **({"output_dtype": 3} if kind[0] == "Q" else {}))
                for kind, one, out in (
                    ("QuantizeLinear", "x", "xq"),
                    ("DequantizeLinear", "xq", "xd"),
                    ("QuantizeLinear", "w", "wq"),
                    ("DequantizeLinear", "wq", "wd"),
                )
            ]
            nodes, weights = [*pairs, helper.make_node("MatMul", ["xd", "wd"], ["y"], name="m")], scale
        elif precision == "float16":
            nodes = [
                helper.make_node("Cast", ["x"], ["half"], name="in", to=10),
                helper.make_node("MatMul", ["half", "w"], ["h"], name="m"),
                helper.make_node("Cast", ["h"], ["y"], name="out", to=1),
            ]
            weights = {"w": eye.astype(np.float16)}
        else:
            nodes, weights = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"w": eye.astype(np.float32)}
        path = tmp_path / f"{precision}.onnx"
        x, y = ("x", "float32", [None, 4]), ("y", "float32", [None, 4])
        path.write_bytes(onnx_model(nodes, [x], [y], weights).SerializeToString())
        return path

    return build


def planned(path: Path, **options) -> Plan:
    return plan(file_digest(path), SIGNATURE, TARGET, Options(**{"precision": "float16", **options}))


def left(folder: Path) -> set[str]:
    return {path.suffix for path in folder.glob("*")}


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_an_engine_has_the_precision_of_the_graph(world, model, tmp_path, precision):
    path = model(precision)
    made = tensorrt.build(planned(path, precision=precision), path, tmp_path / "engines")
    assert made.inside.percent == {precision: 100}
    assert made.inside.tensors == ("x", "y")
    assert made.digest == file_digest(Path(made.path))
    assert made.size_mb == Path(made.path).stat().st_size / 1e6
    assert made.place == Place(tensorrt=world.version, cuda=12060, driver="", gpu="Orin", capability="8.7")
    assert left(tmp_path / "engines") == {".engine", ".json", ".timing"}


def test_what_the_builder_is_told(world, model, tmp_path):
    path = model()
    tensorrt.build(planned(path, batch=16, best_batch=4, workspace_mb=64.0, level=5), path, tmp_path)
    config = world.seen["config"]
    assert config._limits == {"WORKSPACE": 64_000_000}
    assert {name: getattr(value, "name", value) for name, value in config._set.items()} == {
        "profiling_verbosity": "DETAILED",
        "builder_optimization_level": 5,
    }
    assert config._flags == set(), "TF32 is off"
    assert [one._shapes for one in config._profiles] == [{"x": ((1, 4), (4, 4), (16, 4))}]


def test_strong_typing_has_another_number_in_10_and_in_11(world, model, tmp_path):
    path = model()
    tensorrt.build(planned(path), path, tmp_path)
    assert world.seen["flags"] == (1 if world.version == ELEVEN else 2)


def test_tf32_when_it_is_asked_for(world, model, tmp_path):
    path = model("float32")
    tensorrt.build(planned(path, precision="float32", tf32=True), path, tmp_path)
    assert world.seen["config"]._flags == {int(sys.modules["tensorrt"].BuilderFlag.TF32)}


def test_a_second_build_is_taken_from_the_folder(world, model, tmp_path):
    path, folder = model(), tmp_path / "engines"
    first = tensorrt.build(planned(path), path, folder)
    moved = folder.rename(tmp_path / "moved")
    again = tensorrt.build(planned(path), path, moved)
    assert world.builds == 1
    assert (again.digest, again.path) == (first.digest, str(moved / Path(first.path).name))
    tensorrt.build(planned(path, batch=8), path, moved)
    assert world.builds == 2, "another plan is another engine"


@pytest.mark.parametrize("harm", ["engine", "json", "no json"])
def test_a_damaged_engine_is_built_again(world, model, tmp_path, harm):
    path, folder = model(), tmp_path / "engines"
    made = Path(tensorrt.build(planned(path), path, folder).path)
    if harm == "no json":
        made.with_suffix(".json").unlink()
    else:
        made.with_suffix(f".{harm}").write_bytes(b"{")
    again = tensorrt.build(planned(path), path, folder)
    assert world.builds == 2
    assert again.digest == file_digest(made)


def test_timings_are_kept_and_used(world, model, tmp_path):
    path = model()
    tensorrt.build(planned(path), path, tmp_path)
    tensorrt.build(planned(path, batch=8), path, tmp_path)
    (kept,) = tmp_path.glob("*.timing")
    assert kept.read_bytes() == b"+timed+timed"


@pytest.mark.parametrize("data", [b"foreign", b"broken"])
def test_timings_that_do_not_fit_count_for_nothing(world, model, tmp_path, data):
    path = model()
    world.foreign_cache = b"foreign"
    tensorrt.build(planned(path), path, tmp_path)
    (kept,) = tmp_path.glob("*.timing")
    kept.write_bytes(data)
    tensorrt.build(planned(path, batch=8), path, tmp_path)
    assert kept.read_bytes() == b"+timed"


def test_an_engine_without_the_precision_is_thrown_away(world, model, tmp_path):
    world.silently_float = True
    path, folder = model(), tmp_path / "engines"
    with pytest.raises(Refused, match="an engine without float16") as caught:
        tensorrt.build(planned(path), path, folder)
    assert caught.value.found == "float32 100 %, of 1 layers"
    assert left(folder) == {".timing"}


def test_a_builder_that_gives_nothing(world, model, tmp_path):
    world.fails = True
    path, folder = model(), tmp_path / "engines"
    with pytest.raises(Failed, match="could not build") as caught:
        tensorrt.build(planned(path), path, folder)
    assert caught.value.found == "no kernel was found", "errors come before warnings"
    assert not folder.exists()


def test_an_error_of_the_library_is_ours_outside(world, model, tmp_path):
    world.raises = True
    path = model()
    with pytest.raises(Failed, match=f"TensorRT {world.version}") as caught:
        tensorrt.build(planned(path), path, tmp_path)
    assert caught.value.found == "a CUDA error; nothing was logged"


def test_a_builder_without_a_gpu(world, model, tmp_path):
    world.no_gpu = True
    path = model()
    with pytest.raises(Failed) as caught:
        tensorrt.build(planned(path), path, tmp_path)
    assert "nullptr" in caught.value.found


def test_what_cannot_be_parsed(world, model, tmp_path):
    world.unparsed = "no importer"
    path = model()
    with pytest.raises(Refused, match="cannot parse") as caught:
        tensorrt.build(planned(path), path, tmp_path)
    assert caught.value.found == "Mystery 'the_node': no importer"


def test_an_input_that_holds_a_shape(world, model, tmp_path):
    world.shape_tensor = True
    path = model()
    with pytest.raises(Refused, match="'x' holds a shape"):
        tensorrt.build(planned(path), path, tmp_path)


def test_ranges_that_the_builder_does_not_take(world, model, tmp_path):
    world.bad_profile = True
    path = model()
    with pytest.raises(Refused, match="ranges of the inputs"):
        tensorrt.build(planned(path), path, tmp_path)


def test_another_file_than_the_plans(world, model, tmp_path):
    with pytest.raises(Refused, match="the plan is not for"):
        tensorrt.build(planned(model("float16")), model("float32"), tmp_path)


def test_a_fixed_shape_needs_no_ranges(world, model, tmp_path, onnx_model):
    x, y = ("x", "float32", [1, 4]), ("y", "float32", [1, 4])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = tmp_path / "fixed.onnx"
    path.write_bytes(onnx_model([node], [x], [y], {"w": np.eye(4, dtype=np.float32)}).SerializeToString())
    tensorrt.build(Plan(**{**fields(planned(path, precision="float32")), "profile": {}}), path, tmp_path)
    assert not world.seen["config"]._profiles


def fields(one: Plan) -> dict:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_the_legacy_mode_for_a_dla(monkeypatch, cuda, model, tmp_path):
    world = install(monkeypatch, World(OLD, dlas=2))
    path = model()
    made = tensorrt.build(planned(path, legacy_dla=1), path, tmp_path)
    config, flags = world.seen["config"], sys.modules["tensorrt"].BuilderFlag
    assert world.seen["flags"] == 0, "weakly typed"
    assert config._flags == {int(flags.FP16), int(flags.GPU_FALLBACK)}
    assert (config._set["default_device_type"].name, config._set["DLA_core"]) == ("DLA", 1)
    assert [one._shapes for one in config._profiles] == [{"x": ((32, 4),) * 3}]
    assert made.plan.typing == "weak"
    assert json.loads(Path(made.path).with_suffix(".json").read_text())["plan"]["typing"] == "weak"


def test_the_legacy_mode_in_int8(monkeypatch, cuda, model, tmp_path):
    world = install(monkeypatch, World(OLD, dlas=1))
    path = model("int8")
    made = tensorrt.build(planned(path, precision="int8", legacy_dla=0), path, tmp_path)
    flags = sys.modules["tensorrt"].BuilderFlag
    assert world.seen["config"]._flags == {int(flags.FP16), int(flags.INT8), int(flags.GPU_FALLBACK)}
    assert made.inside.percent == {"int8": 100}


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_the_legacy_mode_is_refused_where_it_is_gone(monkeypatch, cuda, model, tmp_path, version):
    world = install(monkeypatch, World(version, dlas=2))
    path = model()
    with pytest.raises(Refused, match="legacy mode") as caught:
        tensorrt.build(planned(path, legacy_dla=0), path, tmp_path)
    assert (caught.value.found, world.builds) == (version, 0)


def test_a_dla_core_that_is_not_there(monkeypatch, cuda, model, tmp_path):
    install(monkeypatch, World(OLD, dlas=1))
    path = model()
    with pytest.raises(Refused, match="no DLA core 1"):
        tensorrt.build(planned(path, legacy_dla=1), path, tmp_path)


@pytest.mark.parametrize("version", ["10.2.0", "8.6.1", "12.0.0", "unknown"])
def test_versions_that_are_not_known(monkeypatch, cuda, model, tmp_path, version):
    world = install(monkeypatch, World(OLD))
    sys.modules["tensorrt"].__version__ = version
    path = model()
    with pytest.raises(Refused, match=f"TensorRT {version} is not one"):
        tensorrt.build(planned(path), path, tmp_path)
    assert world.builds == 0


def test_where_tensorrt_is_not_installed(monkeypatch, model, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    path = model()
    with pytest.raises(Refused, match="TensorRT is not installed"):
        tensorrt.build(planned(path), path, tmp_path / "engines")
    assert tensorrt.missing().startswith("TensorRT is not installed: ")
    assert not (tmp_path / "engines").exists()


def test_a_package_without_its_libraries(monkeypatch):
    def fail(name):
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(tensorrt.importlib, "import_module", fail)
    assert "libnvinfer.so.10" in tensorrt.missing()


def test_a_folder_of_that_name_is_not_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    assert tensorrt.missing() == "TensorRT is not installed: a folder 'tensorrt' that is not the package"


def test_nothing_is_missing_where_it_is(world):
    assert tensorrt.missing() == ""


def test_no_driver(monkeypatch, world, model, tmp_path):
    def fail(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(tensorrt_place.ctypes, "CDLL", fail)
    path = model()
    with pytest.raises(Refused, match="no NVIDIA GPU") as caught:
        tensorrt.build(planned(path), path, tmp_path)
    assert "libcuda.so.1" in caught.value.found


def test_a_driver_without_a_gpu(cuda):
    cuda(Cuda(code=100))
    with pytest.raises(Refused, match="no NVIDIA GPU") as caught:
        tensorrt_place.place("10.3.0")
    assert caught.value.found == "cuInit answers with error 100"


def test_the_drivers_version(cuda, monkeypatch, tmp_path):
    (tmp_path / "version").write_text("580.65.06\n")
    monkeypatch.setattr(tensorrt_place, "DRIVER", tmp_path / "version")
    assert tensorrt_place.place("10.3.0").driver == "580.65.06"


def test_another_gpu_is_another_engine(world, cuda, model, tmp_path):
    path = model()
    tensorrt.build(planned(path), path, tmp_path)
    cuda(Cuda(gpu=b"Thor", capability=(11, 0)))
    tensorrt.build(planned(path), path, tmp_path)
    assert world.builds == 2
    assert len(list(tmp_path.glob("*.engine"))) == len(list(tmp_path.glob("*.timing"))) == 2


def test_ranges_of_the_plan_reach_the_builder(world, model, tmp_path):
    path = model()
    shapes = {"x": Shapes(least=(2, 4), best=(3, 4), most=(5, 4))}
    tensorrt.build(planned(path, shapes=shapes), path, tmp_path)
    assert world.seen["config"]._profiles[0]._shapes == {"x": ((2, 4), (3, 4), (5, 4))}
