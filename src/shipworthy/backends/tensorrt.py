"""TensorRT's own engines: one flow for 10.3 to 11, in which the precision comes from the ONNX graph.

It is tested against the public names and signatures of 10.3, 10.16 and 11.4; it has not run on a GPU (docs/tensorrt.md).
An engine is a cache entry, named by everything that shaped it; the ONNX file stays the artifact of record. Nothing here
runs engines: onnxruntime's TensorRT provider runs models.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from shipworthy.backends.tensorrt_engine import Inside, prove, read
from shipworthy.backends.tensorrt_place import place
from shipworthy.backends.tensorrt_plan import Place, Plan, key, refuse_version
from shipworthy.errors import Failed, Refused, ShipworthyError
from shipworthy.files import file_digest, write_bytes
from shipworthy.records import Record, decode, digest, encode

KEPT_LINES = 20
LINE = 300


class Engine(Record, frozen=True, kw_only=True):
    """A built engine: its file, what it was built from and where, and the precisions that the inspector found in it.

    ``build_seconds`` is the builder's own time.
    """

    path: str
    digest: str
    size_mb: float
    plan: Plan
    place: Place
    inside: Inside
    build_seconds: float


def missing() -> str:
    """Why no engine can be built here, in one sentence; empty where TensorRT is installed."""
    try:
        _import()
    except Refused as error:
        return f"{error.what}: {error.found}"
    return ""


def build(plan: Plan, onnx: Path, folder: Path) -> Engine:
    """The engine of the plan, from ``folder`` when an equal one was built on such a machine, else built now.

    Args:
        plan: from ``tensorrt_plan.plan``.
        onnx: the ONNX file that the plan was made for.
        folder: where engines and the timings of kernels are kept.

    Raises:
        Refused: TensorRT or a GPU is missing, or the version is not one for the plan; the file is not the plan's;
            TensorRT cannot parse it; or the engine does not have the precision that was asked for.
        Failed: TensorRT could not build the engine.
        StorageFailed: the disk is full.
    """
    if file_digest(onnx) != plan.model:
        raise Refused(f"the plan is not for {onnx}", found="another digest", next="make the plan again")
    trt = _import()
    refuse_version(plan, trt.__version__)
    here = place(trt.__version__)
    path = folder / f"{key(plan, here)}.engine"
    if kept := _kept(path):
        return kept
    log = _log(trt)
    with _boundary(trt, log):
        start = time.perf_counter()
        data = _serialized(trt, log, plan, onnx, folder / f"{digest(here)}.timing")
        seconds = time.perf_counter() - start
        inside = read(_information(trt, log, data))
    prove(inside, plan.precision)
    write_bytes(path, data)
    made = Engine(
        path=str(path),
        digest=file_digest(path),
        size_mb=len(data) / 1e6,
        plan=plan,
        place=here,
        inside=inside,
        build_seconds=round(seconds, 3),
    )
    write_bytes(_record(path), encode(made))
    return made


def _serialized(trt: Any, log: Any, plan: Plan, onnx: Path, timing: Path) -> bytes:
    """Parse, configure, build: the engine's bytes."""
    builder = trt.Builder(log)
    network = builder.create_network(_flags(trt, plan))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        raise _unparsed(trt, parser, onnx)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.is_shape_tensor:
            raise Refused(
                f"input '{tensor.name}' holds a shape",
                expected="inputs whose values shape no other tensor",
                next="export the model with that shape as a constant",
            )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plan.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = plan.level
    (config.set_flag if plan.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    if plan.typing == "weak":
        _legacy(trt, builder, config, plan)
    _profile(builder, config, plan, log)
    cache = _timings(config, timing)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise Failed(f"TensorRT {trt.__version__} could not build the engine", found=log.said())
    if cache is not None:
        write_bytes(timing, bytes(cache.serialize()))
    return bytes(serialized)


def _flags(trt: Any, plan: Plan) -> int:
    """The network's flags. The number behind a name is another in 10 and in 11: it is never written down."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if plan.typing == "strong" else 0


def _legacy(trt: Any, builder: Any, config: Any, plan: Plan) -> None:
    """Weak typing for a DLA, as TensorRT 10.3 to 10.7 want it; these flags are gone in 11."""
    core = plan.dla_core or 0
    if core >= builder.num_DLA_cores:
        raise Refused(
            f"there is no DLA core {core}",
            found=f"{builder.num_DLA_cores} DLA cores",
            next="correct legacy_dla, or leave it out",
        )
    config.set_flag(trt.BuilderFlag.FP16)
    if plan.precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _profile(builder: Any, config: Any, plan: Plan, log: Any) -> None:
    """The ranges of the free dimensions, where there are any."""
    if not plan.profile:
        return
    profile = builder.create_optimization_profile()
    for name, shapes in plan.profile.items():
        profile.set_shape(name, shapes.least, shapes.best, shapes.most)
    if config.add_optimization_profile(profile) < 0:
        raise Refused("TensorRT does not take the ranges of the inputs", found=log.said(), next="correct the ranges")


def _timings(config: Any, path: Path) -> Any:
    """The timings of kernels that earlier builds here measured, or none yet; what this build measures is added to them."""
    try:
        kept = path.read_bytes()
    except OSError:
        kept = b""
    for data in (kept, b""):  # a file that another version wrote, or that is broken, counts for nothing
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None


def _information(trt: Any, log: Any, data: bytes) -> str:
    """What the inspector says of the engine, as JSON."""
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise Failed("TensorRT does not load the engine that it built", found=log.said())
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _unparsed(trt: Any, parser: Any, onnx: Path) -> Refused:
    faults = [parser.get_error(index) for index in range(min(parser.num_errors, KEPT_LINES))]
    found = "; ".join(f"{fault.node_operator()} '{fault.node_name()}': {fault.desc()}"[:LINE] for fault in faults)
    return Refused(
        f"TensorRT {trt.__version__} cannot parse {onnx}",
        found=found or "no reason given",
        expected="operators and types that TensorRT has",
        next="export the model without that operator, or run it by onnxruntime, which leaves such nodes to CUDA",
    )


def _log(trt: Any) -> Any:
    """A logger that keeps the last lines of errors and warnings: TensorRT says there, and only there, what went wrong."""
    errors = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
    warnings = (trt.ILogger.Severity.WARNING,)

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT_LINES)
            self.warnings: deque[str] = deque(maxlen=KEPT_LINES)

        def log(self, severity: Any, msg: str) -> None:
            if severity in errors:
                self.errors.append(msg.strip()[:LINE])
            elif severity in warnings:
                self.warnings.append(msg.strip()[:LINE])

        def said(self) -> str:
            return "; ".join(self.errors or self.warnings) or "nothing was logged"

    return Log()


@contextmanager
def _boundary(trt: Any, log: Any) -> Iterator[None]:
    """Let out only errors of our own: TensorRT has no common base for its errors."""
    try:
        yield
    except ShipworthyError:
        raise
    except Exception as error:
        found = (str(error).strip().splitlines() or [type(error).__name__])[0][:LINE]
        raise Failed(f"TensorRT {trt.__version__} could not build the engine", found=f"{found}; {log.said()}") from error


def _record(path: Path) -> Path:
    return path.with_suffix(".json")


def _kept(path: Path) -> Engine | None:
    """The engine of an earlier build, if its file is still the one that was inspected."""
    try:
        kept = decode(Engine, _record(path).read_bytes())
        whole = file_digest(path) == kept.digest
    except (OSError, Refused):
        return None
    return msgspec.structs.replace(kept, path=str(path)) if whole else None


def _import() -> Any:
    try:
        trt = importlib.import_module("tensorrt")
        found = "" if hasattr(trt, "__version__") else "a folder 'tensorrt' that is not the package"
    except (ImportError, OSError) as error:  # OSError: the package is there, its libraries are not
        found = str(error)[:LINE]
    if found:
        raise Refused(
            "TensorRT is not installed",
            found=found,
            expected="TensorRT 10.3 to 11 with its Python package",
            next="install it as NVIDIA's installation guide says; on a Jetson it comes with JetPack",
        )
    return trt
