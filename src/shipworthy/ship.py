"""The whole way as straight calls: train, take in, check, optimize, measure, choose, release, verify, promote, show.

Read this second, after the package's own page. Each arrow hands a record to the next; whatever an earlier run finished
and nothing has changed since is reused. ``until`` stops after a stage: that is all the verbs of the command line do.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from shipworthy import check, data, machine, measure, optimize, readiness, records, targets, tracking, watch
from shipworthy.backends import source, tensorflow, torch
from shipworthy.backends.runners import load
from shipworthy.data import Dataset
from shipworthy.errors import NotFound
from shipworthy.files import write_bytes
from shipworthy.job import Job, rows_key, versions
from shipworthy.measure import report
from shipworthy.protocols import Quiet, Sink
from shipworthy.records import (
    Choice,
    Evidence,
    Made,
    Measured,
    Model,
    Optimized,
    Promotion,
    Release,
    Served,
    Shipment,
    Tracked,
    Variant,
)
from shipworthy.release import bundle
from shipworthy.release.registry import SqliteRegistry
from shipworthy.search import Screen
from shipworthy.settings import Settings
from shipworthy.training import train
from shipworthy.verification import verify
from shipworthy.workspace import Workspace

Stage = Literal["check", "measure", "release", "ship"]
STAGES: tuple[Stage, ...] = ("check", "measure", "release", "ship")


def ship(
    settings: Settings, workspace: Workspace, *, target: str | None = None, until: Stage = "ship", sink: Sink | None = None
) -> Shipment:
    """Take the model that the settings describe through every stage up to ``until``.

    Args:
        settings: from ``settings.read``.
        workspace: where models, releases and the records of finished stages are kept.
        target: a target of the settings; ``None``: the only one.
        until: the last stage.
        sink: told what happens.

    Returns:
        The records of all stages; ``stopped`` says where and why when a law or a gate said no.

    Raises:
        Refused: the settings, the model or the data are wrong, or somebody else works in this workspace.
        Failed: this machine, or a server it depends on, could not do its part.
    """
    job = Job(settings, workspace, targets.fit(settings.target(target), machine.describe()), sink or Quiet())
    check.silence.refuse_unknown(settings.check.silence, check.LAWS)
    workspace.reused.clear()
    with workspace.lock():
        if until in ("release", "ship"):
            tracking.check(job.settings, workspace.folder)
        shipment = _walk(job, until)
        shipment = replace(shipment, reused=tuple(workspace.reused))
        return _write_report(job, shipment)


def _walk(job: Job, until: Stage) -> Shipment:
    train(job.settings, job.sink)
    before = readiness.inspect_file(job)
    if before.errors:
        unread = check.unread(readiness.origin(job).path, job.settings.model.name, before.model)
        return Shipment(name=unread.name, model=unread, report=before, stopped=readiness.said(before))
    model = take_in(job)
    rows = evaluation(job, model)
    report = readiness.whole(job, before, readiness.check_model(job, model, rows))
    shipment = Shipment(name=model.name, model=model, report=report)
    if shipment.report.errors or until == "check":
        return replace(shipment, stopped=readiness.said(shipment.report))
    optimized = optimize_model(job, model, rows)
    if reason := job.elsewhere:
        return replace(shipment, optimized=optimized, stopped=measure.elsewhere(job.target, reason))
    measured = measure_variants(job, model, optimized, rows)
    choice = choose_variant(job, optimized, measured)
    shipment = replace(shipment, optimized=optimized, measured=measured, choice=choice)
    variant = next((v for v in optimized.variants if v.name == choice.variant_name), None)
    if variant is None:
        return replace(shipment, stopped=choice.reason)
    if until == "measure":
        return replace(shipment, measured=measure_curves(job, model, (optimized.variants[0], variant), measured, rows))
    shipment = replace(shipment, release=release_variant(job, shipment, measured, variant, rows))
    if until == "ship":
        evidence = next(one for one in measured.evidence if one.variant_name == variant.name)
        shipment = replace(shipment, served=verify_release(job, shipment, evidence, rows))
    return _show(job, shipment, variant)


def _show(job: Job, shipment: Shipment, variant: Variant) -> Shipment:
    """Put the alias on a release that may have it, and tell MLflow."""
    if shipment.served and not shipment.served.passed:
        return replace(shipment, stopped=_why_not(shipment.served))
    if not shipment.release or not job.settings.rollout.promote:
        return shipment
    verified = ", and the served answers equalled the measured ones" if shipment.served else ""
    promotion = promote(job, shipment.release, f"passed every gate{verified}")
    return replace(shipment, promotion=promotion, tracked=track(job, shipment, shipment.release, variant))


# ---------------------------------------------------------------- the arrows


def take_in(job: Job) -> Model:
    """The trained file as an ONNX model."""
    job.tell("intake", f"{job.settings.model.path} to ONNX")
    path = job.settings.file(job.settings.model.path)
    trust, recipe = job.settings.model.trust, torch.recipe(job.settings)
    key = {"source": source.digest(path), "path": str(path.absolute()), "name": job.settings.model.name, "trust": trust}
    return job.workspace.reuse(
        "intake",
        key | {"recipe": recipe.key} | versions(),
        Model,
        lambda: check.take_in(path, job.settings.model.name, job.workspace.models, trust=trust, recipe=recipe),
    )


def evaluation(job: Job, model: Model) -> Dataset | None:
    """The evaluation rows, checked against the signature; ``None`` when the settings name none."""
    named = job.settings.data
    if not named.evaluation:
        return None
    return data.read(job.settings.file(named.evaluation), model.signature, named.inputs, named.labels)


def optimize_model(job: Job, model: Model, evaluated: Dataset | None) -> Optimized:
    """The original, and the variants that are worth a measurement."""
    job.tell("optimize", ", ".join(job.settings.optimize.passes) or "no passes")
    named = job.settings.data
    rows = data.read(job.settings.file(named.calibration), model.signature, named.inputs) if named.calibration else None
    wanted = job.settings.optimize
    tuning = torch.tuning(job.settings, model) or tensorflow.tuning(job.settings, model)
    gates = measure.gates(job.settings.gates, job.target, job.metric)

    def remember(key: dict[str, Any], build: Callable[[], Made]) -> Made:
        return job.workspace.recall("variant", key | names | versions(), Made, build, lambda made: made.variant is not None)

    def build() -> Optimized:
        original = optimize.original(model)
        screen = Screen(model, original, job.target, gates, job.settings.measure, evaluated, named.prediction, job.metric)
        judge: optimize.Judge = (lambda _: optimize.Opinion()) if job.elsewhere else screen
        passes = (*wanted.passes, *optimize.pruned(wanted, job.target, tuning))
        return optimize.run(model, job.target, rows, passes, job.sink, judge, remember, wanted.budget_seconds)

    names = {"inputs": named.inputs}
    key = names | {
        "model": model.digest,
        # What bounds the search, and what is chosen from it, shapes no variant.
        "wanted": msgspec.to_builtins(replace(wanted, budget_seconds=1, goal="latency")),
        "tuning": tuning.options if tuning else {},
        "rows": rows.digest if rows else "",
        "evaluation": rows_key(job, evaluated),
        "gates": [records.dump(gate) for gate in gates],
        "target": records.dump(job.target),
        "machine": records.dump(machine.describe()),
    }
    return job.workspace.reuse("optimize", key | versions(), Optimized, build, keep=lambda made: not made.cut_short)


def measure_variants(job: Job, model: Model, optimized: Optimized, rows: Dataset | None) -> Measured:
    """The evidence of every variant on this machine."""
    job.tell("measure", f"{len(optimized.variants)} variants, each in a fresh process, taken in turn")
    key = {
        "variants": [[v.name, v.digest, v.runtime, v.precision] for v in optimized.variants],
        "target": records.dump(job.target),
        "machine": records.dump(machine.describe()),
        "rows": rows_key(job, rows),
        "settings": msgspec.to_builtins(job.settings.measure),
    }
    prediction = job.settings.data.prediction
    return job.workspace.reuse(
        "measure",
        key | versions(),
        Measured,
        lambda: measure.run(
            model, optimized.variants, job.target, job.settings.measure, rows, prediction, job.sink, job.metric
        ),
    )


def measure_curves(job: Job, model: Model, variants: Sequence[Variant], measured: Measured, rows: Dataset | None) -> Measured:
    """The evidence, with the latency of these variants, each once, by the rows of a call and by threads."""
    variants = list({one.name: one for one in variants}.values())
    job.tell("measure", "latency by batch and threads")
    key = {
        "variants": [[v.name, v.digest, v.runtime, v.precision] for v in variants],
        "target": records.dump(job.target),
        "machine": records.dump(machine.describe()),
        "rows": rows_key(job, rows),
    }
    found = job.workspace.reuse(
        "curves",
        key | versions(),
        Measured,
        lambda: Measured(evidence=(), curves=measure.curves.run(model, variants, job.target, rows, job.sink)),
    )
    return replace(measured, curves=found.curves)


def choose_variant(job: Job, optimized: Optimized, measured: Measured) -> Choice:
    """Every variant before the gates, and the one that ships."""
    job.tell("gate", "limits against figures")
    gates = measure.gates(job.settings.gates, job.target, job.metric)
    judged = tuple(measure.judge(gates, one) for one in measured.evidence)
    passes = {v.name: len(v.chain) for v in optimized.variants}
    return measure.choose(judged, measured.evidence, passes, job.settings.optimize.goal)


def release_variant(job: Job, shipment: Shipment, measured: Measured, variant: Variant, rows: Dataset | None) -> Release:
    """The variant and its evidence as a bundle in the store, under a version number in the registry."""
    job.tell("release", f"{shipment.name}: bundle and registry")
    model = shipment.model
    parts: dict[str, bytes | Path] = {
        "model.onnx": Path(variant.path),
        "signature.json": records.encode(model.signature),
        "source.json": records.encode(replace(model.source, path=Path(model.source.path).name)),
        "report.json": records.encode(shipment.report),
        "variant.json": records.encode(replace(variant, path="model.onnx")),
        "evidence.json": records.encode(measured),
        "baseline.npz": _baseline(job, variant, model, rows),
        "environment.json": records.encode(measured.evidence[0].machine),
    }
    if shipment.choice:
        parts["choice.json"] = records.encode(shipment.choice)
    digest, written = bundle.write(
        job.workspace.store,
        parts,
        name=model.name,
        variant_name=variant.name,
        source=model.source.digest,
        model=model.digest,
        variant=variant.digest,
    )
    registry = SqliteRegistry(job.workspace.registry)
    before = len(registry.releases(written.name))
    release = registry.add(written.name, digest, _user())
    if len(registry.releases(written.name)) == before:
        job.workspace.reused.append("release")
    return release


def verify_release(job: Job, shipment: Shipment, evidence: Evidence, rows: Dataset | None) -> Served | None:
    """The release in a real server process, asked every evaluation row over HTTP."""
    release = shipment.release
    if release is None:
        return None
    job.tell("verify", f"{release.name} version {release.version} in a server of its own")
    gates = measure.gates(job.settings.gates, job.target, served=True)
    key = {
        "bundle": release.bundle,
        "rows": rows_key(job, rows),
        "gates": [records.dump(gate) for gate in gates],
        "machine": records.dump(evidence.machine),
    }
    file = job.workspace.store / release.bundle / bundle.MODEL
    return job.workspace.reuse(
        "verify",
        key | versions(),
        Served,
        lambda: verify(job.settings, job.workspace.folder, file, release, evidence, rows, gates),
        keep=lambda served: served.passed,
    )


def promote(job: Job, release: Release, reason: str) -> Promotion:
    """Move the alias to the release by compare-and-swap; the log line that did so, now or in an earlier run."""
    alias = job.settings.rollout.alias
    job.tell("promote", f"{release.name}@{alias} to version {release.version}")
    registry = SqliteRegistry(job.workspace.registry)
    try:
        before = registry.get(release.name, alias).version
    except NotFound:
        before = None
    if before == release.version:
        job.workspace.reused.append("promote")
        return next(line for line in reversed(registry.log(release.name)) if line.alias == alias)
    return registry.swap(release.name, alias, expected=before, version=release.version, by=_user(), reason=reason)


def track(job: Job, shipment: Shipment, release: Release, variant: Variant) -> Tracked | None:
    """The release where the team sees it: in MLflow, when it is wanted and installed."""
    place = tracking.place(job.settings, job.workspace.folder)
    if place is None:
        return None
    job.tell("track", f"MLflow at {place.tracking_uri}")
    folder, _ = bundle.open_bundle(job.workspace.store, release.bundle)
    return tracking.track(place, folder, shipment, release, variant, job.settings.rollout.alias)


# ---------------------------------------------------------------- parts of the arrows


def _baseline(job: Job, variant: Variant, model: Model, rows: Dataset | None) -> bytes:
    named = job.settings.data
    training = data.read(job.settings.file(named.baseline), model.signature, named.inputs) if named.baseline else rows
    if training is None:
        return watch.run({}, {}, job.settings.watch)
    runner = load(Path(variant.path), variant.on(job.target))
    outputs = runner.run((rows or training).inputs)
    runner.close()
    return watch.run(training.inputs, outputs, job.settings.watch)


def _write_report(job: Job, shipment: Shipment) -> Shipment:
    version = f"-v{shipment.release.version}" if shipment.release else ""
    path = job.workspace.reports / f"{shipment.name}{version}.html"
    shipment = replace(shipment, html=str(path))
    write_bytes(path, report.html(shipment).encode())
    return shipment


def _why_not(served: Served) -> str:
    refused = "; ".join(bad.reason for bad in served.verdicts if not bad)
    if refused:
        return refused
    apart = "its outputs differ from the measured ones"
    if served.gap_points is not None:
        apart = f"its accuracy is {served.gap_points:+.2f} points away over HTTP"
    return f"the served model is not the measured one: {apart}; the release stays in the registry without the alias"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
