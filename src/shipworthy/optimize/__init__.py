"""optimize: the variants of a model. One family of passes a file; every variant keeps the signature.

``run`` tries chains of passes, the most promising first; what a variant is worth is for its caller to say (``judge``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from shipworthy import machine, targets
from shipworthy.data import Dataset
from shipworthy.errors import ShipworthyError, StorageFailed
from shipworthy.files import draft_folder, file_digest, machine_errors, need_room, publish, size_mb
from shipworthy.optimize import apart, guard
from shipworthy.optimize.damage import Damage, Found
from shipworthy.optimize.int8 import Int8Static
from shipworthy.optimize.plan import Candidate, candidates, pruned
from shipworthy.protocols import Pass, Quiet, Sink
from shipworthy.records import Made, Model, Optimized, Progress, Skip, Step, Target, Variant

PASSES = ("graph", "int8_dynamic", "int8_static")


@dataclass(frozen=True)
class Opinion:
    """Why a variant is not worth keeping (empty: it is), and whether that is for its accuracy."""

    reason: str = ""
    inaccurate: bool = False


Judge = Callable[[Variant], Opinion]
Remember = Callable[[dict[str, Any], Callable[[], Made]], Made]
"""Gives what was made earlier from the same key, or makes it."""


def run(
    model: Model,
    target: Target,
    calibration: Dataset | None = None,
    passes: Sequence[str | Candidate] = PASSES,
    sink: Sink | None = None,
    judge: Judge = lambda _: Opinion(),
    remember: Remember | None = None,
    budget_seconds: float = math.inf,
) -> Optimized:
    """The original and every variant that is worth keeping; their files lie beside the model's, named by digest.

    A chain that cannot be applied, fails, or crashes, is a recorded skip with its reason and never stops the others.

    Args:
        model: from ``check.take_in``.
        target: where the variants will run.
        calibration: training rows that set the ranges of INT8.
        passes: words of ``[optimize] passes``, and chains of the caller's own, which are tried after those.
        sink: told which variant is being made.
        judge: asked about every variant that was made.
        remember: asked for what a pass has given earlier; the key names all that shapes it but the versions of libraries.
        budget_seconds: after them no other chain is begun, and the one under way ends.

    Raises:
        StorageFailed: the disk is full.
    """
    workshop = Workshop(model, target, calibration, remember or _Memory(), time.monotonic() + budget_seconds)
    return _Search(workshop, target, judge, sink or Quiet()).run(list(candidates(passes, target)), original(model))


class _Search:
    """One run: what was made, what was skipped, and what missed the accuracy."""

    def __init__(self, workshop: Workshop, target: Target, judge: Judge, sink: Sink) -> None:
        self._workshop = workshop
        self._target = target
        self._judge = judge
        self._sink = sink
        self._made: list[Variant] = []
        self._skips: list[Skip] = []
        self._missed: set[str] = set()
        self._cut_short = False

    def run(self, plan: Sequence[Candidate], first: Variant) -> Optimized:
        """Try every candidate that there is time and reason for."""
        self._made.append(first)
        for done, candidate in enumerate(plan):
            if candidate.instead_of and candidate.instead_of not in self._missed:
                continue
            if time.monotonic() > self._workshop.until:
                self._cut_short = True
                self._skips.append(Skip(name=candidate.name, reason="the budget was spent before it was tried"))
                continue
            self._sink.emit(Progress(stage="optimize", text=candidate.name, done=done, total=len(plan)))
            self._keep(candidate, *(self._guarded(candidate, first) if candidate.guarded else self._tried(candidate, first)))
        return Optimized(variants=tuple(self._made), skips=tuple(self._skips), cut_short=self._cut_short)

    def _tried(self, candidate: Candidate, first: Variant) -> tuple[Made, str, bool]:
        """What came of it, why it is not kept (empty: it is), and whether that is for its accuracy."""
        made = self._workshop.make(candidate, first)
        if made.variant is None:
            return made, made.reason, False
        if twin := _twin(made.variant, self._made, self._target):
            return made, twin, False
        opinion = self._judge(made.variant)
        return made, opinion.reason, opinion.inaccurate

    def _guarded(self, candidate: Candidate, first: Variant) -> tuple[Made, str, bool]:
        """The candidate with as few nodes in float as the accuracy needs."""
        *before, step = candidate.chain
        if not isinstance(step, Int8Static):
            raise TypeError("only static INT8 has an accuracy guard")
        start = self._workshop.follow(before, first).variant or first
        folder = Path(start.path).parent
        try:
            with machine_errors(folder), draft_folder(folder) as draft:
                found = self._workshop.examine(step, start, draft / "damage.json")
                ranges = draft / "ranges.json"
                ranges.write_bytes(msgspec.json.encode(found.ranges))

                def attempt(changed: Int8Static) -> tuple[Made, str, bool]:
                    return self._tried(replace(candidate, chain=(*before, replace(changed, ranges_file=str(ranges)))), first)

                made, reason = guard.repair(step, found, attempt, self._workshop.until, self._sink)
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001  whatever a library raises: the other variants go on
            return Made(reason=_why(error, folder, Path(start.path))), "", False
        return made, reason or made.reason, False

    def _keep(self, candidate: Candidate, made: Made, reason: str, inaccurate: bool) -> None:  # noqa: FBT001
        if made.variant is not None and not reason:
            self._made.append(made.variant)
            self._missed.discard(candidate.instead_of)
            return
        self._cut_short = self._cut_short or (made.variant is None and time.monotonic() > self._workshop.until)
        if inaccurate:
            self._missed.add(candidate.name)
        self._skips.append(Skip(name=candidate.name, reason=reason or made.reason, log="" if made.variant else made.log))


class Workshop:
    """Makes variants of one model for one target; what a pass gives is remembered."""

    def __init__(
        self, model: Model, target: Target, calibration: Dataset | None, remember: Remember, until: float = math.inf
    ) -> None:
        """``until`` is of ``time.monotonic``."""
        self._model = model
        self._target = target
        # What is made for elsewhere is tried out here on the CPU: that it loads and answers, not how fast.
        self._tried_on = Target() if targets.is_here(target, machine.describe()) else target
        self._calibration = calibration
        self._remember = remember
        self.until = until

    def make(self, candidate: Candidate, original: Variant) -> Made:
        """What comes of a chain of passes, or why nothing does; a graph that cannot be cleaned is left as it is."""
        only_graph = len(candidate.chain) == 1 and candidate.runtime is None
        made = self.follow(candidate.chain, original, strict=only_graph)
        if made.variant is None:
            return made
        variant = structs.replace(made.variant, name=candidate.name, runtime=candidate.runtime, precision=candidate.precision)
        return self._try_out(variant) if candidate.runtime else Made(variant=variant, log=made.log)

    def follow(self, chain: Sequence[Pass], original: Variant, *, strict: bool = False) -> Made:
        """What comes of the passes; a graph that cannot be cleaned goes on as it is, unless that is ``strict``ly wanted."""
        made = Made(variant=original)
        for step in chain:
            start = made.variant or original
            key = {
                "parent": start.digest,
                "step": step.name,
                "options": step.options,
                "target": [self._target.device, self._target.runtime, self._target.int8, self._target.precisions],
                "rows": self._calibration.digest if self._calibration else "",
            }
            made = self._remember(key, lambda step=step, start=start: self._apply(step, start))  # type: ignore[misc]
            if made.variant is None and (strict or step.name != "graph"):
                return made
            if made.variant is None:
                made = Made(variant=start)
        return made

    def examine(self, step: Int8Static, start: Variant, result: Path) -> Found:
        """What INT8 does to each node of a file, and the ranges of its activations; ``result`` is a file to write.

        Raises:
            Exception: whatever the runtime has raised.
        """
        rows = self._calibration.inputs if self._calibration else None
        job = apart.Job(Damage(step), Path(start.path), result, rows)
        apart.run(job, self.until - time.monotonic())
        return msgspec.json.decode(result.read_bytes(), type=Found)

    def _apply(self, step: Pass, start: Variant) -> Made:
        """One pass on one file."""
        folder = Path(start.path).parent
        if self._target.device not in step.devices:
            return Made(reason=f"it is for {', '.join(step.devices)}, and the target is {self._target.device}")
        rows = self._calibration.inputs if self._calibration else None
        said = ""
        try:
            reason = step.requires(Path(start.path), self._target, rows)
            if reason:
                return Made(reason=reason)
            with machine_errors(folder), draft_folder(folder) as draft:
                result = draft / "variant.onnx"
                job = apart.Job(step, Path(start.path), result, rows, (self._model.signature, self._tried_on))
                try:
                    apart.run(job, self.until - time.monotonic())
                finally:
                    said = apart.log(job)
                digest = file_digest(result)
                if digest == start.digest:
                    return Made(reason="it changes nothing")
                final = folder / f"{digest}.onnx"
                publish(result, final)
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001  a quantizer raises anything; the other variants go on
            return Made(reason=_why(error, folder, Path(start.path)), log=said)
        variant = Variant(
            name=step.name,
            path=str(final),
            digest=digest,
            parent=self._model.digest,
            chain=(*start.chain, Step(name=step.name, options=step.options)),
            devices=step.devices,
            size_mb=size_mb(final),
        )
        return Made(variant=variant, log=said)

    def _try_out(self, variant: Variant) -> Made:
        """Whether another runtime than the target's takes the file, too."""
        folder = Path(variant.path).parent
        try:
            with machine_errors(folder), draft_folder(folder) as draft:
                (draft / "variant.onnx").symlink_to(variant.path)
                on = variant.on(self._tried_on)
                job = apart.Job(None, Path(variant.path), draft / "variant.onnx", None, (self._model.signature, on))
                apart.run(job, self.until - time.monotonic())
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001  a runtime raises anything; the other variants go on
            return Made(reason=_why(error, folder, Path(variant.path)))
        return Made(variant=variant)


class _Memory:
    """Remembers for one run: several chains begin in the same way."""

    def __init__(self) -> None:
        self._made: dict[bytes, Made] = {}

    def __call__(self, key: dict[str, Any], build: Callable[[], Made]) -> Made:
        """What was made from the key, or is made now."""
        name = msgspec.json.encode(key, order="sorted")
        if name not in self._made:
            self._made[name] = build()
        return self._made[name]


def original(model: Model) -> Variant:
    """The model as it was taken in."""
    return Variant(
        name="original",
        path=model.path,
        digest=model.digest,
        parent=model.digest,
        chain=(),
        devices=("cpu", "cuda"),
        size_mb=size_mb(Path(model.path)),
    )


def _twin(variant: Variant, made: Sequence[Variant], target: Target) -> str:
    """The reason why another variant that is run in the same way makes this one superfluous; empty: none does."""
    for one in made:
        if one.digest == variant.digest and one.on(target) == variant.on(target):
            return f"it gives the same file as {one.name}"
    return ""


def _why(error: Exception, folder: Path, start: Path) -> str:
    """What a failed pass is told as.

    Raises:
        StorageFailed: the disk is full, which not every library says.
    """
    if isinstance(error, ShipworthyError):
        return f"{error.what}: {error.found}" if error.found else error.what
    need_room(folder, start.stat().st_size)
    return f"it failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


__all__ = ["PASSES", "Judge", "Opinion", "Remember", "Workshop", "original", "pruned", "run"]
