"""What an engine of TensorRT would be built from: the plan, and the key of the engine. Pure; TensorRT need not be there."""

from __future__ import annotations

from typing import Literal

from shipworthy.errors import Refused
from shipworthy.records import Precision, Record, Signature, Target, TensorSpec, digest

# The releases whose public names were compared (docs/tensorrt.md), and those whose legacy mode drives a DLA.
OLDEST, BEYOND = (10, 3), (12, 0)
LAST_LEGACY = (10, 7)
DTYPES = ("float32", "float16", "int8", "int32", "int64", "uint8", "bool")
DLA_PRECISIONS = ("float16", "int8")
WORKSPACE_MB = 1024.0
TOP_LEVEL = 5


class Shapes(Record, frozen=True, kw_only=True):
    """The shapes that one input may have: ``best`` is the one that the engine is tuned for."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]


class Options(Record, frozen=True, kw_only=True):
    """What a caller may ask of an engine.

    ``precision`` is the one that has to be in it. Rows of a batch go from 1 to ``batch``; the engine is tuned for
    ``best_batch``. ``shapes`` are those of inputs with other free dimensions. ``workspace_mb`` (10**6 bytes) bounds the
    scratch memory of a run; ``None``: 1024, and at most half of the target's budget. ``tf32`` lets FP32 be multiplied in
    TF32. ``level`` is how long the builder looks, 0 to 5. ``legacy_dla`` is the number of the DLA core of a weakly typed
    engine, for TensorRT 10.3 to 10.7 (JetPack 6).
    """

    precision: Precision = "float32"
    batch: int = 32
    best_batch: int = 1
    shapes: dict[str, Shapes] = {}
    workspace_mb: float | None = None
    tf32: bool = False
    level: int = 3
    legacy_dla: int | None = None


class Plan(Record, frozen=True, kw_only=True):
    """Everything that an engine is built from, but the machine. ``model`` is the SHA-256 of the ONNX file.

    ``typing``: ``strong`` takes each precision from the graph; ``weak`` is the legacy mode, in which TensorRT chooses.
    ``profile`` has the inputs with free dimensions.
    """

    model: str
    precision: Precision
    typing: Literal["strong", "weak"]
    profile: dict[str, Shapes]
    workspace_bytes: int
    tf32: bool
    level: int
    dla_core: int | None


class Place(Record, frozen=True, kw_only=True):
    """Where an engine is built, and the only kind of place where it runs: versions, and the GPU's name and capability.

    ``cuda`` is the newest CUDA that the driver takes, as 12060 for 12.6; ``driver`` is empty where the system hides it.
    """

    tensorrt: str
    cuda: int
    driver: str
    gpu: str
    capability: str


class _Identity(Record, frozen=True, kw_only=True):
    """What shapes an engine."""

    plan: Plan
    place: Place


def plan(model: str, signature: Signature, target: Target, options: Options) -> Plan:
    """What would be built for the ONNX file whose SHA-256 is ``model``.

    Raises:
        Refused: the target is not TensorRT's or lacks the precision, an option is out of its range, a free dimension has
            no range, or an input is of a dtype that TensorRT does not take.
    """
    _check(target, options)
    free = [spec for spec in signature.inputs if None in spec.shape]
    names = {spec.name for spec in free}
    if unknown := sorted(options.shapes.keys() - names):
        raise Refused(
            f"there is no input '{unknown[0]}' with free dimensions",
            expected=", ".join(sorted(names)) or "no ranges: every input has one shape",
            next="correct the name of the range",
        )
    for spec in (*signature.inputs, *signature.outputs):
        if spec.dtype not in DTYPES:
            raise Refused(
                f"TensorRT does not take '{spec.name}'",
                found=spec.dtype,
                expected="one of " + ", ".join(DTYPES),
                next="export the model with that tensor in float32 or int64",
            )
    return Plan(
        model=model,
        precision=options.precision,
        typing="strong" if options.legacy_dla is None else "weak",
        profile={spec.name: _shapes(spec, signature, options) for spec in free},
        workspace_bytes=int(_workspace_mb(target, options) * 1e6),
        tf32=options.tf32,
        level=options.level,
        dla_core=options.legacy_dla,
    )


def key(plan: Plan, place: Place) -> str:
    """The name of the engine: SHA-256 of all that shapes it."""
    return digest(_Identity(plan=plan, place=place))


def refuse_version(plan: Plan, version: str) -> None:
    """Let only those versions through whose names are known.

    Raises:
        Refused: TensorRT is older than 10.3 or newer than 11, or than 10.7 where the plan is for a DLA.
    """
    release = _release(version)
    if not OLDEST <= release < BEYOND:
        raise Refused(f"TensorRT {version} is not one that this works with", expected="10.3 to 11", next="install one of those")
    if plan.typing == "weak" and release > LAST_LEGACY:
        raise Refused(
            "the legacy mode for a DLA is not in this TensorRT",
            found=version,
            expected="10.3 to 10.7: later releases have no DLA, or take the precision from the graph",
            next="leave legacy_dla out",
        )


def trtexec(plan: Plan, onnx: str, engine: str) -> tuple[str, ...]:
    """The command of NVIDIA's own tool that builds the same engine, for devices whose Python is too old for this package.

    Its ``--exportLayerInfo`` is what ``tensorrt_engine.read`` reads.
    """
    given = [f"--onnx={onnx}", f"--saveEngine={engine}", "--skipInference", "--profilingVerbosity=detailed"]
    given += [f"--exportLayerInfo={engine}.layers.json", f"--timingCacheFile={engine}.timing"]
    given += [f"--memPoolSize=workspace:{plan.workspace_bytes}B", f"--builderOptimizationLevel={plan.level}"]
    for flag, which in (("--minShapes", "least"), ("--optShapes", "best"), ("--maxShapes", "most")):
        if plan.profile:
            sizes = (f"{_quoted(name)}:{'x'.join(map(str, getattr(one, which)))}" for name, one in plan.profile.items())
            given.append(f"{flag}={','.join(sizes)}")
    if not plan.tf32:
        given.append("--noTF32")
    if plan.dla_core is None:
        given.append("--stronglyTyped")
    else:
        given += [f"--useDLACore={plan.dla_core}", "--allowGPUFallback", "--fp16"]
        given += ["--int8"] if plan.precision == "int8" else []
    return "trtexec", *given


def _quoted(name: str) -> str:
    """An input's name as trtexec reads it: a colon or comma would end it."""
    return f"'{name}'" if set(name) & {":", ","} else name


def _release(version: str) -> tuple[int, int]:
    first, second, *_ = [*version.split("."), "", ""]
    return (int(first), int(second)) if first.isdecimal() and second.isdecimal() else (0, 0)


def _check(target: Target, options: Options) -> None:
    if target.runtime != "tensorrt":
        raise Refused(
            f"target '{target.name}' does not run TensorRT",
            found=f"runtime {target.runtime}",
            next='name a target with runtime = "tensorrt" and device = "cuda"',
        )
    if options.precision not in target.precisions:
        raise Refused(
            f"target '{target.name}' does not multiply in {options.precision}",
            found=", ".join(target.precisions),
            next="ask for one of those, or correct the target's precisions",
        )
    if options.legacy_dla is not None and options.precision not in DLA_PRECISIONS:
        raise Refused(
            "a DLA does not multiply in " + options.precision, expected=" or ".join(DLA_PRECISIONS), next="ask for float16"
        )
    ranges = {
        "batch": (options.batch, options.batch >= 1, "at least 1"),
        "best_batch": (options.best_batch, 1 <= options.best_batch <= options.batch, f"1 to batch ({options.batch})"),
        "level": (options.level, 0 <= options.level <= TOP_LEVEL, f"0 to {TOP_LEVEL}"),
        "legacy_dla": (options.legacy_dla, (options.legacy_dla or 0) >= 0, "the number of a DLA core, 0 or more"),
    }
    for name, (value, good, expected) in ranges.items():
        if not good:
            raise Refused(f"{name} is out of its range", found=str(value), expected=expected, next=f"correct {name}")


def _workspace_mb(target: Target, options: Options) -> float:
    budget = target.memory_mb
    asked = options.workspace_mb
    if asked is None:
        return WORKSPACE_MB if budget is None else min(WORKSPACE_MB, budget / 2)
    if not 0 < asked <= (budget or 1e9):
        raise Refused(
            "workspace_mb is out of its range",
            found=f"{asked:g}",
            expected="more than 0" + (f", at most the {budget:g} MB of target '{target.name}'" if budget else ""),
            next="correct workspace_mb",
        )
    return asked


def _shapes(spec: TensorSpec, signature: Signature, options: Options) -> Shapes:
    given = options.shapes.get(spec.name)
    if given is None:
        given = _rows(spec, signature, options)
    elif not _fits(spec, given):
        raise Refused(
            f"the range of '{spec.name}' does not fit it",
            found=f"{list(given.least)} to {list(given.most)}, best {list(given.best)}",
            expected=f"shapes of {spec}, each size at least 1, least <= best <= most",
            next="correct the range",
        )
    if options.legacy_dla is None:
        return given
    return Shapes(least=given.most, best=given.most, most=given.most)  # a DLA takes one shape only


def _rows(spec: TensorSpec, signature: Signature, options: Options) -> Shapes:
    """A batch of 1 to ``batch`` rows, where only the rows are free."""
    first, *rest = spec.shape
    fixed = tuple(size for size in rest if size is not None)
    if first is not None or len(fixed) < len(rest) or not signature.is_batched:
        raise Refused(
            f"'{spec.name}' has free dimensions, and TensorRT has to know their range",
            found=str(spec),
            expected="a range for each free dimension but the rows of a batch",
            next=f"give the least, best and most shape of '{spec.name}'",
        )
    return Shapes(least=(1, *fixed), best=(options.best_batch, *fixed), most=(options.batch, *fixed))


def _fits(spec: TensorSpec, given: Shapes) -> bool:
    if not len(spec.shape) == len(given.least) == len(given.best) == len(given.most):
        return False
    sizes = zip(spec.shape, given.least, given.best, given.most, strict=True)
    return all(1 <= low <= best <= high and (size is None or low == size == high) for size, low, best, high in sizes)
