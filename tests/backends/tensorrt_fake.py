"""A ``tensorrt`` module of one version: whatever that version does not have, it does not have either.

Every name, signature and number comes from tensorrt_names.json. An attribute that is not there raises AttributeError, a
property that is read only cannot be set, a call must fit a signature with its types. What the names do is a sketch of the
builder's behaviour: layers take the types of the ONNX graph in a strongly typed network, and those of the flags in another.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

TABLE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text(encoding="utf-8"))
VERSIONS = tuple(TABLE)
WORDS = {TensorProto.FLOAT: "Float", TensorProto.FLOAT16: "Half", TensorProto.BFLOAT16: "BFloat16", TensorProto.INT8: "Int8"}
PLAIN = {"int": int, "str": str, "bool": bool, "typing.SupportsInt": int}


@dataclass
class World:
    """What a test wants of the machine, and what it saw done."""

    version: str
    dlas: int = 0
    no_gpu: bool = False
    fails: bool = False  # the builder gives None
    raises: bool = False
    silently_float: bool = False  # the engine has FP32 whatever was asked
    unparsed: str = ""
    shape_tensor: bool = False
    bad_profile: bool = False
    foreign_cache: bytes = b"no cache has these bytes"
    seen: dict[str, Any] = field(default_factory=dict)
    builds: int = 0


class Absent(AttributeError):
    """The version has no such name."""


def fitting(module: Fake, signatures: list[str], arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Refuse a call that fits none of the signatures."""
    problems = []
    for text in signatures:
        inner = re.search(r"\((.*)\)", text)
        parts = [part for part in split(inner[1] if inner else "") if part]
        parameters, kinds = [], {}
        for part in parts:
            name, _, rest = part.partition(": ")
            kind, _, default = rest.partition(" = ")
            kinds[name] = kind
            empty = inspect.Parameter.empty
            parameters.append(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default or empty))
        try:
            bound = inspect.Signature(parameters).bind(*arguments, **named)
        except TypeError as error:
            problems.append(f"{text}: {error}")
            continue
        wrong = [name for name, value in bound.arguments.items() if not suits(module, kinds[name], value)]
        if not wrong:
            return
        problems.append(f"{text}: wrong type of {', '.join(wrong)}")
    raise TypeError("; ".join(problems) or "this cannot be called")


def split(text: str) -> list[str]:
    """The parameters in a signature: commas within brackets part nothing."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def suits(module: Fake, kind: str, value: Any) -> bool:
    if kind in PLAIN:
        return type(value) is PLAIN[kind]
    if kind in {"buffer", "typing_extensions.Buffer"}:
        return isinstance(value, bytes | bytearray | memoryview)
    if kind == "Dims":
        return isinstance(value, tuple | list) and all(type(size) is int for size in value)
    one = module.find(kind)
    return one is None or isinstance(value, one)


class Thing:
    """An object of a class of the table: lets through what the class has in this version."""

    _module: Fake
    _kind: str

    def __init__(self, *arguments: Any, **named: Any) -> None:
        fitting(self._module, self._members()["__init__"], arguments, named)
        self._start(*arguments, **named)

    def _start(self, *arguments: Any) -> None:
        pass

    @classmethod
    def _made(cls, *arguments: Any) -> Any:
        """One that the library makes, and nobody else can."""
        made = object.__new__(cls)
        made._start(*arguments)
        return made

    @classmethod
    def _members(cls) -> dict[str, Any]:
        return dict(cls._module.table[cls._kind]["members"])

    def __getattribute__(self, name: str) -> Any:
        get = object.__getattribute__
        if name.startswith("_"):
            return get(self, name)
        members, module = get(self, "_members")(), get(self, "_module")
        if name not in members:
            raise Absent(f"{get(self, '_kind')} has no {name} in TensorRT {module.world.version}")
        value = get(self, name)
        if isinstance(members[name], str):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            fitting(module, members[name], arguments, named)
            return value(*arguments, **named)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and self._members().get(name) != "read, write":
            raise Absent(f"{self._kind}.{name} cannot be set in TensorRT {self._module.world.version}")
        object.__setattr__(self, name, value)


class Memory(Thing):
    """IHostMemory."""

    def _start(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data


class Builder(Thing):
    def _start(self, log: Any) -> None:
        if self._module.world.no_gpu:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._log = log

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802
        return self._module.world.dlas

    def create_network(self, flags: int = 0) -> Any:
        self._module.world.seen["flags"] = flags
        return self._module.INetworkDefinition._made(flags)

    def create_builder_config(self) -> Any:
        return self._module.IBuilderConfig._made()

    def create_optimization_profile(self) -> Any:
        return self._module.IOptimizationProfile._made()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        world, severity = self._module.world, self._module.ILogger.Severity
        world.builds += 1
        world.seen["config"] = config
        if world.raises:
            raise RuntimeError("a CUDA error\nwith a trace")
        free = [spec for spec in network._model.graph.input if any(not size.dim_value for size in dims(spec))]
        lacking = [spec.name for spec in free if not any(spec.name in one._shapes for one in config._profiles)]
        if world.fails or lacking:
            self._log.log(severity.WARNING, "a warning")
            self._log.log(severity.ERROR, f"no kernel was found {' '.join(lacking)}".strip())
            return None
        if config._cache is not None:
            config._cache._data += b"+timed"
        return self._module.IHostMemory._made(json.dumps(self._layers(network, config)).encode())

    def _layers(self, network: Any, config: Any) -> list[dict[str, Any]]:
        model = onnx.shape_inference.infer_shapes(network._model)
        types = {one.name: one.type.tensor_type.elem_type for one in (*model.graph.value_info, *model.graph.input)}
        quantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        flags, names = config._flags, self._module.table["BuilderFlag"]["members"]
        layers = []
        for node in model.graph.node:
            word = WORDS.get(types.get(node.input[0], 0), "Float") if node.input else "Float"
            if not network._strong:
                word = "Half" if names["FP16"] in flags else "Float"
            if node.input and node.input[0] in quantized and (network._strong or names["INT8"] in flags):
                word = "Int8"
            word = "Float" if self._module.world.silently_float else word
            weighted = node.op_type in {"Conv", "Gemm", "MatMul"}
            layers.append(self._layer(node.name or node.op_type, "gemm" if weighted else node.op_type, word))
        return layers

    def _layer(self, name: str, kind: str, word: str) -> dict[str, Any]:
        eleven = self._module.world.version.startswith("11")
        said = {"Format": "Row major linear", "DataType": word} if eleven else {"Format/Datatype": word}
        tensor = {"Name": f"{name}_in", "Dimensions": [1, 4], **said}
        return {"Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": [], "Metadata": f"a\x1e{name}"}


class Network(Thing):
    def _start(self, flags: int) -> None:
        strong = self._module.table["NetworkDefinitionCreationFlag"]["members"]["STRONGLY_TYPED"]
        self._strong = bool(flags & 1 << strong) or self._module.world.version.startswith("11")
        self._model = onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    def get_input(self, index: int) -> Any:
        return self._module.ITensor._made(self._model.graph.input[index].name)


class Tensor(Thing):
    def _start(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_shape_tensor(self) -> bool:
        return self._module.world.shape_tensor


class Parser(Thing):
    def _start(self, network: Any, _log: Any) -> None:
        self._network = network

    def parse_from_file(self, model: str) -> bool:
        if not self._module.world.unparsed:
            self._network._model = onnx.load_model(model)
        return not self._module.world.unparsed

    @property
    def num_errors(self) -> int:
        return 1

    def get_error(self, _index: int) -> Any:
        return self._module.ParserError._made(self._module.world.unparsed)


class ParserError(Thing):
    def _start(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return "the_node"

    def node_operator(self) -> str:
        return "Mystery"


class Config(Thing):
    def _start(self) -> None:
        # TensorRT multiplies FP32 in TF32 unless it is told not to.
        self._flags = {self._module.table["BuilderFlag"]["members"]["TF32"]}
        self._limits: dict[str, int] = {}
        self._profiles: deque[Any] = deque()
        self._cache: Any = None
        self._set: dict[str, Any] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_"):
            self._set[name] = value

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._limits[pool.name] = pool_size

    def set_flag(self, flag: Any) -> None:
        self._flags.add(int(flag))

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(int(flag))

    def add_optimization_profile(self, profile: Any) -> int:
        if self._module.world.bad_profile:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        made = self._module.ITimingCache._made(serialized_timing_cache)
        return None if serialized_timing_cache.startswith(b"broken") else made

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._data == self._module.world.foreign_cache and not ignore_mismatch:
            return False
        self._cache = cache
        return True


class Timings(Thing):
    def _start(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> Any:
        return self._module.IHostMemory._made(self._data)


class Profile(Thing):
    def _start(self) -> None:
        self._shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self._shapes[input] = (min, opt, max)


class Runtime(Thing):
    def deserialize_cuda_engine(self, data: bytes) -> Any:
        return self._module.ICudaEngine._made(json.loads(data))


class Engine(Thing):
    def _start(self, layers: list[dict[str, Any]]) -> None:
        self._layers = layers

    def create_engine_inspector(self) -> Any:
        return self._module.EngineInspector._made(self._layers)


class Inspector(Thing):
    def _start(self, layers: list[dict[str, Any]]) -> None:
        self._layers = layers

    def get_engine_information(self, _format: Any) -> str:
        verbosity = self._module.world.seen["config"]._set.get("profiling_verbosity")
        detailed = verbosity is not None and verbosity.name == "DETAILED"
        layers = self._layers if detailed else [layer["Name"] for layer in self._layers]
        names = ["x", "y"]
        eleven = self._module.world.version.startswith("11")
        tensors = {"I/O Tensors": [{"Name": name} for name in names]} if eleven else {"Bindings": names}
        # The inspector does not escape the separators in its metadata.
        return json.dumps({"Layers": layers, **tensors}).replace("\\u001e", "\x1e")


CLASSES = {
    "Builder": Builder,
    "EngineInspector": Inspector,
    "IBuilderConfig": Config,
    "ICudaEngine": Engine,
    "IHostMemory": Memory,
    "INetworkDefinition": Network,
    "IOptimizationProfile": Profile,
    "ITensor": Tensor,
    "ITimingCache": Timings,
    "OnnxParser": Parser,
    "ParserError": ParserError,
    "Runtime": Runtime,
}


class Fake:
    """The module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.table = TABLE[world.version]
        self.__version__ = world.version
        self._made: dict[str, Any] = {}

    def find(self, kind: str) -> type | None:
        """The class of a dotted name; ``None`` for one that a signature names and the table does not have."""
        one: Any = self
        for name in kind.split("."):
            if not (name in self.table if one is self else hasattr(one, name)):
                return None
            one = getattr(one, name)
        return one if isinstance(one, type) else None

    def __getattr__(self, name: str) -> Any:
        if name not in self.table:
            raise Absent(f"tensorrt has no {name} in TensorRT {self.world.version}")
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> type:
        members = self.table[name]["members"]
        if name in CLASSES:
            return type(name, (CLASSES[name],), {"_module": self, "_kind": name})
        inner = {one: enumeration(one, kind["members"]) for one, kind in members.items() if isinstance(kind, dict)}
        if inner:
            return type(name, (), inner)
        return enumeration(name, members)


def enumeration(name: str, members: dict[str, int]) -> type:
    """pybind11's kind of enumeration: members turn into numbers when asked, and are none by themselves."""
    made: Any = enum.Enum(name, members)
    made.__int__ = lambda self: self.value
    return made


def dims(spec: Any) -> Any:
    return spec.type.tensor_type.shape.dim
