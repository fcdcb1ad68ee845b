"""optimize: the variants of a model. One family of passes a file; every variant keeps the signature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from shipworthy.backends.runners import load
from shipworthy.data import Dataset, made_up
from shipworthy.errors import Failed, ShipworthyError, StorageFailed
from shipworthy.files import draft_folder, file_digest, machine_errors, need_room, publish, size_mb
from shipworthy.optimize.graph import Graph
from shipworthy.optimize.int8 import Int8Dynamic, Int8Static
from shipworthy.protocols import Arrays, Pass, Quiet, Sink
from shipworthy.records import Model, Optimized, Progress, Signature, Skip, Step, Target, Variant

# The quantizing passes that each word of the settings stands for; each is tried on the cleaned graph, or the original.
QUANTIZING: dict[str, dict[str, Pass]] = {
    "int8_dynamic": {"int8_dynamic": Int8Dynamic()},
    "int8_static": {
        "int8_static": Int8Static(per_channel=True),
        "int8_static_per_tensor": Int8Static(per_channel=False),
    },
}


def run(
    model: Model,
    target: Target,
    calibration: Dataset | None = None,
    passes: Sequence[str] = ("graph", "int8_dynamic", "int8_static"),
    sink: Sink | None = None,
) -> Optimized:
    """The original and every variant that the passes give; their files lie beside the model's, named by digest.

    A pass that cannot be applied, or fails, is a recorded skip with its reason and never stops the others.

    Args:
        model: from ``check.take_in``.
        target: where the variants will run.
        calibration: training rows that set the ranges of INT8.
        passes: words of ``[optimize] passes``.
        sink: told which variant is being made.

    Raises:
        StorageFailed: the disk is full.
    """
    sink = sink or Quiet()
    original = Variant(
        name="original",
        path=model.path,
        digest=model.digest,
        parent=model.digest,
        chain=(),
        devices=("cpu", "cuda"),
        size_mb=size_mb(Path(model.path)),
    )
    made, skips = [original], []
    start = original
    plan = list(_plan(passes))
    for done, (name, step) in enumerate(plan):
        sink.emit(Progress(stage="optimize", text=name, done=done, total=len(plan)))
        result = _make(name, step, start, model, target, calibration.inputs if calibration else None)
        twin = next((one.name for one in made if isinstance(result, Variant) and one.digest == result.digest), "")
        if isinstance(result, Skip):
            skips.append(result)
        elif twin:
            skips.append(Skip(name=name, reason=f"it gives the same file as {twin}"))
        else:
            made.append(result)
            start = result if name == "graph" else start
    return Optimized(variants=tuple(made), skips=tuple(skips))


def _plan(passes: Sequence[str]) -> Iterator[tuple[str, Pass]]:
    if "graph" in passes:
        yield "graph", Graph()
    for word, family in QUANTIZING.items():
        if word in passes:
            yield from family.items()


def _make(name: str, step: Pass, start: Variant, model: Model, target: Target, calibration: Arrays | None) -> Variant | Skip:
    """One variant, or why there is none."""
    folder = Path(model.path).parent
    if target.device not in step.devices:
        return Skip(name=name, reason=f"it is for {', '.join(step.devices)}, and the target is {target.device}")
    try:
        reason = step.requires(Path(start.path), target, calibration)
        if reason:
            return Skip(name=name, reason=reason)
        with machine_errors(folder), draft_folder(folder) as draft:
            result = draft / "variant.onnx"
            step.apply(Path(start.path), result, calibration)
            _ensure(result, model.signature, target)
            digest = file_digest(result)
            if digest == start.digest:
                return Skip(name=name, reason="it changes nothing")
            final = folder / f"{digest}.onnx"
            publish(result, final)
    except StorageFailed:
        raise
    except ShipworthyError as error:
        return Skip(name=name, reason=f"{error.what}: {error.found}" if error.found else error.what)
    except Exception as error:  # noqa: BLE001  a quantizer raises anything; the other variants go on
        need_room(folder, Path(start.path).stat().st_size)
        return Skip(name=name, reason=f"it failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
    return Variant(
        name=name,
        path=str(final),
        digest=digest,
        parent=model.digest,
        chain=(*start.chain, Step(name=step.name, options=step.options)),
        devices=step.devices,
        size_mb=size_mb(final),
    )


def _ensure(result: Path, signature: Signature, target: Target) -> None:
    """What every pass promises: the variant loads, answers, and has kept the signature."""
    runner = load(result, target)
    try:
        if runner.signature != signature:
            raise Failed("the pass changed the signature", found=str(runner.signature), expected=str(signature))
        runner.run(made_up(signature, 2).inputs)
    finally:
        runner.close()
