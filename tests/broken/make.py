"""Makes the broken models that the tests are about: ``python tests/broken/make.py FOLDER``.

Each has a folder of its own there. What is in a file depends on nothing but this script: no clock, no chance. A payload
would create the file ``EXECUTED`` beside its model.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EXECUTED = "executed"
Make = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One broken model: what writes it at the path, its suffix, and the law that finds it (several: any of them).

    ``trust``: it is looked at with trust, which must not help. ``refused``: no law of files finds it, and what comes
    after does.
    """

    make: Make
    suffix: str
    laws: tuple[str, ...]
    trust: bool = False


CASES: dict[str, Case] = {}


def case(name: str, suffix: str, *laws: str, trust: bool = False) -> Callable[[Make], Make]:
    """Register what makes it."""

    def add(make: Make) -> Make:
        CASES[name] = Case(make, suffix, laws, trust)
        return make

    return add


def write(name: str, folder: Path) -> Path:
    """Make one broken model in a folder of its own; its path."""
    home = folder / name.replace(" ", "_")
    home.mkdir(parents=True)
    path = home / f"model{CASES[name].suffix}"
    CASES[name].make(path)
    return path


def add_bytes(name: str, suffix: str, content: bytes, *laws: str, trust: bool = False) -> None:
    """A case that is these bytes."""
    case(name, suffix, *laws, trust=trust)(lambda path: path.write_bytes(content) and None)


# ---------------------------------------------------------------- ONNX


def info(name: str, shape: Any = (None, 4), dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A tensor of a graph's border."""
    return helper.make_tensor_value_info(name, dtype, list(shape) if shape is not None else None)


def model(
    nodes: list[onnx.NodeProto] | None = None,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    weights: list[onnx.TensorProto] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """``y = x w``, valid; any part of it another one."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")] if nodes is None else nodes
    weights = [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")] if weights is None else weights
    graph = helper.make_graph(
        nodes,
        "graph",
        [info("x")] if inputs is None else inputs,
        [info("y", (None, 3))] if outputs is None else outputs,
        weights,
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in options.pop("opsets", {"": 17}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=options.pop("ir_version", 8), **options)


def graph_case(name: str, proto: onnx.ModelProto, *laws: str) -> None:
    """A case that is this model."""
    add_bytes(name, ".onnx", proto.SerializeToString(), *laws)


VALID = model().SerializeToString()
RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")
READABLE, CHECKER, LOADS = "format.readable", "format.valid", "format.loads"

add_bytes("empty", ".onnx", b"", READABLE)
add_bytes("picture", ".onnx", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\b\6\0\0\0", READABLE)
add_bytes("text", ".onnx", b"This is a text, and not a model.\n" * 20, READABLE)
add_bytes("web page", ".onnx", b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n", READABLE)
add_bytes("lfs pointer", ".onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", READABLE)
add_bytes("zeros", ".onnx", bytes(4096), READABLE)
add_bytes("noise", ".onnx", bytes((7 * n * n + 3 * n + 1) % 256 for n in range(2000)), READABLE)
add_bytes("zip named onnx", ".onnx", b"PK\3\4" + bytes(100), READABLE)
for share in (1, 25, 50, 75, 99):
    add_bytes(f"cut at {share} percent", ".onnx", VALID[: len(VALID) * share // 100], READABLE, CHECKER)
add_bytes("one byte less", ".onnx", VALID[:-1], READABLE)
graph_case("no nodes", model(nodes=[]), READABLE)
graph_case("no graph", onnx.ModelProto(ir_version=8), READABLE)
graph_case("no outputs", model(outputs=[]), CHECKER, LOADS, "signature.ends")
graph_case("opset of tomorrow", model(opsets={"": 99}), "format.runtime")
graph_case("opset of yesterday", model([RELU], weights=[], outputs=[info("y")], opsets={"": 1}), "graph.kernel")
graph_case("no opset", model(opsets={}), CHECKER)
graph_case("IR of tomorrow", model(ir_version=99), "format.runtime")
graph_case("no IR version", model(ir_version=0), CHECKER)
graph_case("missing input", model([helper.make_node("Relu", ["nowhere"], ["y"])], weights=[]), CHECKER)
graph_case("missing output", model(outputs=[info("nowhere", (None, 3))]), CHECKER, LOADS)
graph_case(
    "cycle", model([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])], weights=[]), CHECKER
)
graph_case("mismatched shapes", model(inputs=[info("x", (None, 5))]), CHECKER)
graph_case("mismatched types", model(outputs=[info("y", (None, 3), TensorProto.INT64)]), CHECKER)
graph_case("two outputs of one name", model([RELU, RELU], weights=[], outputs=[info("y")]), CHECKER)
graph_case("two inputs of one name", model(inputs=[info("x"), info("x")]), CHECKER, LOADS)
graph_case("two weights of one name", model(weights=[numpy_helper.from_array(np.ones((4, 3), np.float32), "w")] * 2), CHECKER)
graph_case("unknown operator", model([helper.make_node("NoSuchThing", ["x"], ["y"])], weights=[]), CHECKER)
graph_case(
    "unknown domain",
    model([helper.make_node("Thing", ["x"], ["y"], domain="com.acme")], weights=[], opsets={"": 17, "com.acme": 1}),
    "format.operators",
)
graph_case("domain without opset", model([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], weights=[]), CHECKER)
graph_case("wrong attribute", model([helper.make_node("Relu", ["x"], ["y"], alpha="soft")], weights=[]), CHECKER)
graph_case("wrong number of inputs", model([helper.make_node("Relu", ["x", "x"], ["y"])], weights=[]), CHECKER)
graph_case("negative dimension", model([RELU], [info("x", (-7, 4))], [info("y", (-7, 4))], []), CHECKER, LOADS)
graph_case("not a number in names", model([helper.make_node("Relu", ["NaN"], ["inf"])], weights=[]), CHECKER)
graph_case("untyped input", model(inputs=[onnx.ValueInfoProto(name="x")]), CHECKER, LOADS)


def tensor(**fields: Any) -> onnx.ModelProto:
    """A model whose weight says of itself what is given."""
    proto = model()
    for key, value in fields.items():
        if key == "dims":
            del proto.graph.initializer[0].dims[:]
            proto.graph.initializer[0].dims.extend(value)
        else:
            setattr(proto.graph.initializer[0], key, value)
    return proto


graph_case("weight too short", tensor(raw_data=b"1234"), LOADS)
graph_case("weight too long", tensor(raw_data=bytes(4000)), LOADS)
graph_case("weight of huge dimensions", tensor(dims=[2**40, 2**20]), CHECKER, LOADS)
graph_case("weight of negative dimensions", tensor(dims=[-4, 3]), CHECKER, LOADS)
graph_case("weight of no type", tensor(data_type=0), CHECKER)
graph_case("weight of an unknown type", tensor(data_type=999), CHECKER)
graph_case("text stored as raw bytes", tensor(data_type=TensorProto.STRING), CHECKER)


@case("names that are no text", ".onnx", CHECKER, LOADS)
def _(path: Path) -> None:
    path.write_bytes(VALID.replace(b"product", b"\xff\xfe\x1b[2JA").replace(b"MatMul", b"Mat\xffxl"))


@case("large output said of a small input", ".onnx", LOADS, CHECKER)
def _(path: Path) -> None:
    shape = numpy_helper.from_array(np.array([2**31, 2**31], np.int64), "shape")
    node = helper.make_node("ConstantOfShape", ["shape"], ["big"])
    path.write_bytes(
        model(
            [node, helper.make_node("Add", ["x", "big"], ["y"])], outputs=[info("y", (None, None))], weights=[shape]
        ).SerializeToString()
    )


def nested(depth: int) -> onnx.ModelProto:
    """Branches within branches; messages of this depth are written, and not read, by protobuf."""
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "leaf", [], [info("y", None)])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "branch", [], [info("y", None)])
    return model(list(inner.node), [info("x"), info("c", (), TensorProto.BOOL)], [info("y", None)], [])


def deep_bytes(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on: too deep for any reader."""
    body = b""
    for level in range(3 * depth):
        size = len(body)
        length = b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        body = (b"\x32", b"\x2a", b"\x0a")[level % 3] + length + bytes([size]) + body
    return b"\x08\x08\x3a" + _length(body) + body + b"\x42\x02\x10\x11"


def _length(body: bytes) -> bytes:
    size, length = len(body), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return length + bytes([size])


add_bytes("branches too deep to read", ".onnx", deep_bytes(3000), READABLE)


@case("very many nodes in a ring", ".onnx", CHECKER)
def _(path: Path) -> None:
    nodes = [helper.make_node("Relu", [f"v{n}"], [f"v{(n + 1) % 20_000}"]) for n in range(20_000)]
    path.write_bytes(model(nodes, [], [info("v0")], []).SerializeToString())


def external(location: str, **more: str) -> onnx.ModelProto:
    """A model whose weight lies in another file."""
    proto = model()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        weight.external_data.add(key=key, value=value)
    return proto


DATA = np.ones((4, 3), np.float32).tobytes()
graph_case("weights that are not there", external("weights.bin"), "format.weights")
graph_case("weights without a name", external(""), "format.weights")
graph_case("weights at an absolute path", external("/etc/hostname"), "security.paths")
graph_case("weights of the folder above", external("../secret.bin"), "security.paths")
graph_case("weights by way of a folder", external("a/../../secret.bin"), "security.paths")
graph_case("weights of a name too long", external("n" * 5000), "security.paths")


def beside(name: str, proto: onnx.ModelProto, content: bytes, *laws: str) -> None:
    """A model with a file of weights."""

    @case(name, ".onnx", *laws)
    def _(path: Path) -> None:
        path.write_bytes(proto.SerializeToString())
        (path.parent / "weights.bin").write_bytes(content)


beside("weights cut short", external("weights.bin"), DATA[:-1], "format.weights")
beside("weights beyond the end", external("weights.bin", offset="4096", length="48"), DATA, "format.weights")
beside("weights before the beginning", external("weights.bin", offset="-48"), DATA, "format.weights")
beside("weights at no number", external("weights.bin", offset="ten"), DATA, "format.weights")
beside("weights of another length", external("weights.bin", length="12"), DATA, "format.weights")


@case("weights behind a link", ".onnx", "security.paths")
def _(path: Path) -> None:
    path.write_bytes(external("weights.bin").SerializeToString())
    secret = path.parent.parent / "secret_of_the_link.bin"
    secret.write_bytes(DATA)
    (path.parent / "weights.bin").symlink_to(secret)


@case("weights in a pipe", ".onnx", "format.weights")
def _(path: Path) -> None:
    path.write_bytes(external("weights.bin").SerializeToString())
    os.mkfifo(path.parent / "weights.bin")


@case("over 2 GB", ".onnx", "format.size")
def _(path: Path) -> None:
    """The same 24 MB a hundred times over, in a file with holes: it takes no room on the disk, and little time to digest."""
    proto = external("weights.bin", offset="48", length="24000000")
    for number in range(100):
        more = proto.graph.initializer.add()
        more.CopyFrom(proto.graph.initializer[0])
        more.name, more.dims[:] = f"more {number}", [6_000_000]
    proto.graph.initializer[0].external_data[-1].value = "48"
    path.write_bytes(proto.SerializeToString())
    with (path.parent / "weights.bin").open("wb") as stream:
        stream.truncate(24_000_048)


@case("made for TensorRT", ".onnx", "format.device")
def _(path: Path) -> None:
    proto = model()
    proto.metadata_props.add(key="shipworthy.int8", value="s8s8_symmetric")
    path.write_bytes(proto.SerializeToString())


@case("an engine for a GPU", ".onnx", "format.device")
def _(path: Path) -> None:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=1, ep_cache_context="engine")
    path.write_bytes(model([node], weights=[], opsets={"": 17, "com.microsoft": 1}).SerializeToString())


# ---------------------------------------------------------------- pickles


class Call:
    """Pickled, it calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def payload(path: Path) -> Call:
    """What creates a file beside the model when it is loaded."""
    return Call(os.system, f"touch {path.parent / EXECUTED}")


CALLS = "security.callables"
for protocol in (0, 2, 4):
    case(f"payload in protocol {protocol}", ".pkl", CALLS, trust=True)(
        lambda path, protocol=protocol: path.write_bytes(pickle.dumps(payload(path), protocol)) and None
    )


@case("payload deep in a joblib", ".joblib", CALLS, trust=True)
def _(path: Path) -> None:
    joblib.dump({"steps": [("scale", {"weights": np.ones((50, 50))}), ("model", [[payload(path)]])]}, path)


@case("payload in an array of objects", ".joblib", CALLS, trust=True)
def _(path: Path) -> None:
    joblib.dump([np.ones(9), np.array([1, payload(path)], dtype=object), np.ones(9)], path)


for packed in ("zlib", "gzip", "bz2", "lzma", "xz"):
    case(f"payload compressed with {packed}", ".joblib", CALLS, trust=True)(
        lambda path, packed=packed: joblib.dump([np.ones(500), payload(path)], path, compress=(packed, 3)) and None
    )


@case("payload by getattr", ".pkl", CALLS, trust=True)
def _(path: Path) -> None:
    path.write_bytes(pickle.dumps(Call(getattr, Call(__import__, "os"), "getcwd")))


@case("payload by evaluation", ".pkl", CALLS, trust=True)
def _(path: Path) -> None:
    path.write_bytes(pickle.dumps(Call(eval, f"open({str(path.parent / EXECUTED)!r}, 'w')")))


@case("payload by a path through a framework", ".pkl", CALLS, trust=True)
def _(path: Path) -> None:
    """``joblib.parallel`` has imported ``os``: the name leads through it."""
    command = f"touch {path.parent / EXECUTED}".encode()
    path.write_bytes(b"\x80\x04\x8c\x0fjoblib.parallel\x8c\x09os.system\x93\x8c" + bytes([len(command)]) + command + b"\x85R.")


@case("payload behind an array that is none", ".joblib", "security.opaque", CALLS, trust=True)
def _(path: Path) -> None:
    """The wrapper of an array is made in a way that a careless reader of opcodes does not see."""
    array = (
        b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n\x8c\x01a\x8c\x01b\x86\x85coperator\nitemgetter\nK\x00\x85R"
        b"q\x000h\x00(ljoblib\n\x85R}\x8c\x05shape)sb"
    )
    path.write_bytes(array + pickle.dumps(payload(path), 2)[2:])


@case("a name made while loading", ".pkl", "security.opaque", CALLS, trust=True)
def _(path: Path) -> None:
    path.write_bytes(b"\x80\x04cbuiltins\nstr\n\x8c\x02os\x85R\x8c\x06system\x93\x8c\x04true\x85R.")


@case("a number for a name", ".pkl", "security.opaque", trust=True)
def _(path: Path) -> None:
    path.write_bytes(b"\x80\x02\x82\x01)R.")


@case("a pickle that breaks off", ".pkl", "security.opaque", trust=True)
def _(path: Path) -> None:
    path.write_bytes(pickle.dumps(list(range(1000)))[:500])


@case("a joblib that breaks off", ".joblib", "security.opaque", trust=True)
def _(path: Path) -> None:
    buffer = io.BytesIO()
    joblib.dump({"weights": np.ones((100, 100))}, buffer)
    path.write_bytes(buffer.getvalue()[:-5000])


@case("a compressed joblib that breaks off", ".joblib", "security.opaque", trust=True)
def _(path: Path) -> None:
    buffer = io.BytesIO()
    joblib.dump({"weights": np.arange(10_000)}, buffer, compress=("zlib", 3))
    path.write_bytes(buffer.getvalue()[:-100])


@case("a compressed bomb", ".joblib", "security.opaque", trust=True)
def _(path: Path) -> None:
    """Some kilobytes of zlib that unpack to one text of many megabytes."""
    path.write_bytes(zlib.compress(b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + bytes(1_000_000), 9))


add_bytes("a text named joblib", ".joblib", b"a text\n", "security.opaque", trust=True)
add_bytes("a picture named pkl", ".pkl", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "security.opaque", trust=True)
add_bytes("nothing named pkl", ".pkl", b"", READABLE, trust=True)
add_bytes("a pickle without trust", ".pkl", pickle.dumps({"a": 1}), "security.code")


# ---------------------------------------------------------------- archives


def archive(path: Path, members: dict[str, bytes], level: int = zipfile.ZIP_STORED) -> None:
    """A zip of these members, always the same bytes."""
    with zipfile.ZipFile(path, "w", level) as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content, level)


DENSE = {"module": "keras.layers", "class_name": "Dense", "registered_name": None, "config": {"units": 3}}
LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None, "config": {"function": "4wEA"}}
KERAS = {
    "metadata.json": b'{"keras_version": "3.15.1"}',
    "config.json": json.dumps(
        {"module": "keras", "class_name": "Sequential", "registered_name": None, "config": {"layers": [DENSE]}}
    ).encode(),
    "model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
}
ARCHIVE = "format.archive"


def keras(name: str, change: dict[str, bytes], *laws: str, level: int = zipfile.ZIP_STORED) -> None:
    """A .keras with other members, or more."""
    case(name, ".keras", *laws)(lambda path: archive(path, KERAS | change, level))


keras("a Lambda of Keras", {"config.json": json.dumps({"layers": [DENSE, LAMBDA]}).encode()}, "security.code")
keras("a bomb of Keras", {"model.weights.h5": bytes(110_000_000)}, ARCHIVE, level=zipfile.ZIP_DEFLATED)
keras("a member that leads out", {"../../escaped.txt": b"x"}, "security.paths")
keras("a member at an absolute path", {"/escaped.txt": b"x"}, "security.paths")
keras("a configuration that is no JSON", {"config.json": b"{layers: oops"}, READABLE, "security.code")
keras("a Keras of no version", {"metadata.json": b"{}"}, READABLE)
keras("a configuration too deep", {"config.json": b'{"a":' * 100_000}, READABLE, "security.code")
add_bytes("a text named keras", ".keras", b"layers: 3\n", READABLE)


@case("a Keras that breaks off", ".keras", ARCHIVE)
def _(path: Path) -> None:
    archive(path, KERAS)
    path.write_bytes(path.read_bytes()[:-40])


@case("a Keras with changed bytes", ".keras", ARCHIVE)
def _(path: Path) -> None:
    archive(path, KERAS)
    path.write_bytes(path.read_bytes().replace(b"Dense", b"Sense", 1))


@case("two members of one name", ".keras", ARCHIVE)
def _(path: Path) -> None:
    archive(path, KERAS | {"config.jso2": b"{}"})
    path.write_bytes(path.read_bytes().replace(b"config.jso2", b"config.json"))


TORCH = {"m/archive_format": b"pt2", "m/models/model.json": b"{}", "m/version": b"3\n"}


@case("a bomb of torch", ".pt2", ARCHIVE, trust=True)
def _(path: Path) -> None:
    archive(path, TORCH | {"m/data/weights/weight_0": bytes(110_000_000)}, zipfile.ZIP_DEFLATED)


@case("a pt2 that breaks off", ".pt2", ARCHIVE, trust=True)
def _(path: Path) -> None:
    archive(path, TORCH)
    path.write_bytes(path.read_bytes()[:-60])


@case("payload in a pt2", ".pt2", CALLS, trust=True)
def _(path: Path) -> None:
    archive(path, TORCH | {"m/data.pkl": pickle.dumps(payload(path), 2)})


@case("payload in an archive in a pt2", ".pt2", CALLS, trust=True)
def _(path: Path) -> None:
    inner = path.with_name("inner")
    archive(inner, {"inner/data.pkl": pickle.dumps(payload(path), 2)})
    archive(path, TORCH | {"m/data/sample_inputs/model.pt": inner.read_bytes()})
    inner.unlink()


@case("payload in an array of a pt2", ".pt2", CALLS, trust=True)
def _(path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload(path)], dtype=object), allow_pickle=True)
    archive(path, TORCH | {"m/data/constants/c.npy": buffer.getvalue()})


@case("payload in weights of torch", ".pt", CALLS, trust=True)
def _(path: Path) -> None:
    archive(path, {"m/data.pkl": pickle.dumps({"w": payload(path)}, 2), "m/version": b"3\n"})


@case("TorchScript", ".pt", "security.code")
def _(path: Path) -> None:
    archive(path, {"m/data.pkl": pickle.dumps({}, 2), "m/code/__torch__/net.py": b"class Net(Module):\n  pass\n"})


@case("a member of torch that is a link", ".pt2", "security.paths", trust=True)
def _(path: Path) -> None:
    archive(path, TORCH)
    with zipfile.ZipFile(path, "a") as made:
        link = zipfile.ZipInfo("m/link", (2026, 1, 1, 0, 0, 0))
        link.external_attr = 0o120777 << 16
        made.writestr(link, "/etc/passwd")


# ---------------------------------------------------------------- safetensors, HDF5, SavedModel

ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
TENSORS = "format.safetensors"


def safetensors(name: str, header: Any, body: bytes = bytes(16), length: int | None = None) -> None:
    """A .safetensors file of this header (JSON, or bytes), its length perhaps a lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    said = len(text) if length is None else length
    add_bytes(name, ".safetensors", struct.pack("<Q", said) + text + body, TENSORS, trust=True)


safetensors("tensors with a header of no JSON", b"{not json}")
safetensors("tensors with a header that is a list", [1, 2])
safetensors("tensors with a header too deep", b'{"a":' + b"[" * 100_000)
safetensors("tensors with a header beyond the end", {"w": ENTRY}, length=10_000)
safetensors("tensors with an enormous header", {"w": ENTRY}, length=2**60)
safetensors("tensors beyond the end", {"w": ENTRY | {"shape": [4, 4], "data_offsets": [0, 64]}})
safetensors("tensors of another size", {"w": ENTRY | {"shape": [3, 2]}})
safetensors("tensors that overlap", {"w": ENTRY, "v": ENTRY | {"data_offsets": [8, 24]}}, bytes(24))
safetensors("tensors with a gap", {"w": ENTRY | {"data_offsets": [8, 24]}}, bytes(24))
safetensors("tensors with bytes left", {"w": ENTRY}, bytes(99))
safetensors("tensors of an unknown type", {"w": ENTRY | {"dtype": "F7"}})
safetensors("tensors of negative size", {"w": ENTRY | {"shape": [-2, -2]}})
safetensors("tensors turned round", {"w": ENTRY | {"data_offsets": [16, 0]}})
safetensors("tensors of one name", b'{"w":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},"w":{}}')
add_bytes("four bytes named safetensors", ".safetensors", b"abcd", TENSORS, trust=True)
add_bytes("weights of torch without trust", ".safetensors", struct.pack("<Q", 2) + b"{}", "security.code")

add_bytes("a text named h5", ".h5", b"not HDF5 at all\n", READABLE, trust=True)
add_bytes("a h5 without trust", ".h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "security.code")


@case("a SavedModel of a picture", "", READABLE, trust=True)
def _(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x89PNG\r\n\x1a\n" * 9)


@case("a SavedModel with a link", "", "security.paths", trust=True)
def _(path: Path) -> None:
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    (path / "variables" / "variables.index").symlink_to("/etc/hostname")


@case("a SavedModel without a graph", "", "Refused", trust=True)
def _(path: Path) -> None:
    path.mkdir()
    (path / "fingerprint.pb").write_bytes(b"x")


@case("a released file that was changed", ".onnx", "security.digest")
def _(path: Path) -> None:
    path.write_bytes(VALID)
    entry = {"digest": "0" * 64, "size_bytes": len(VALID)}
    manifest = {"name": "m", "variant_name": "original", "files": {path.name: entry}, "format": 1}
    manifest |= dict.fromkeys(("source", "model", "variant"), "0" * 64)
    path.with_name("manifest.json").write_text(json.dumps(manifest))


add_bytes("a suffix of nobody", ".weights", b"x", "Refused")


def main() -> None:
    """Make all of them in the folder that is named."""
    for name in CASES:
        print(write(name, Path(sys.argv[1])))  # noqa: T201


if __name__ == "__main__":
    main()
