"""The whole way as straight calls: train, take in, check, optimize, measure, choose, release, verify, promote, show.

Read this second, after the package's own page. Each arrow hands a record to the next; whatever an earlier run finished
and nothing has changed since is reused. ``until`` stops after a stage: that is all the verbs of the command line do.
"""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from shipworthy import check, data, measure, optimize, records, watch
from shipworthy.backends.runners import load
from shipworthy.data import Dataset
from shipworthy.errors import NotFound, Refused
from shipworthy.files import file_digest, write_bytes
from shipworthy.measure import report
from shipworthy.protocols import Quiet, Sink
from shipworthy.records import (
    Choice,
    Evidence,
    Measured,
    Model,
    Optimized,
    Progress,
    Promotion,
    Release,
    Report,
    Served,
    Shipment,
    Target,
    Tracked,
    Variant,
)
from shipworthy.release import bundle, mlflow
from shipworthy.release.registry import SqliteRegistry
from shipworthy.settings import Settings
from shipworthy.training import train
from shipworthy.verification import verify
from shipworthy.workspace import Workspace

Stage = Literal["check", "optimize", "measure", "release", "ship"]
STAGES: tuple[Stage, ...] = ("check", "optimize", "measure", "release", "ship")
VERSIONS = ("shipworthy", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "scikit-learn", "skl2onnx")


@dataclass(frozen=True)
class Job:
    """One model on its way: what the user asked for, where the work is kept, who is told."""

    settings: Settings
    workspace: Workspace
    target: Target
    sink: Sink = field(default_factory=Quiet)

    def tell(self, stage: str, text: str) -> None:
        """Say that a stage begins."""
        self.sink.emit(Progress(stage=stage, text=text))


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
    job = Job(settings, workspace, settings.target(target), sink or Quiet())
    workspace.reused.clear()
    with workspace.lock():
        if until in ("release", "ship"):
            _can_track(job)
        shipment = _walk(job, until)
        shipment = replace(shipment, reused=tuple(workspace.reused))
        return _write_report(job, shipment)


def _walk(job: Job, until: Stage) -> Shipment:
    train(job.settings, job.sink)
    model = take_in(job)
    rows = evaluation(job, model)
    shipment = Shipment(name=model.name, model=model, report=check_model(job, model, rows))
    if shipment.report.errors or until == "check":
        return replace(shipment, stopped=_what_check_said(shipment.report))
    optimized = optimize_model(job, model)
    shipment = replace(shipment, optimized=optimized)
    if until == "optimize":
        return shipment
    measured = measure_variants(job, model, optimized, rows)
    choice = choose_variant(job, optimized, measured)
    shipment = replace(shipment, measured=measured, choice=choice)
    variant = next((v for v in optimized.variants if v.digest == choice.variant), None)
    if variant is None or until == "measure":
        return replace(shipment, stopped="" if variant else choice.reason)
    shipment = replace(shipment, release=release_variant(job, shipment, measured, variant, rows))
    if until == "ship":
        evidence = next(one for one in measured.evidence if one.variant == variant.digest)
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
    trust = job.settings.model.trust
    key = {"source": file_digest(path), "path": str(path.absolute()), "name": job.settings.model.name, "trust": trust}
    return job.workspace.reuse(
        "intake",
        key | _versions(),
        Model,
        lambda: check.take_in(path, job.settings.model.name, job.workspace.models, trust=trust),
    )


def evaluation(job: Job, model: Model) -> Dataset | None:
    """The evaluation rows, checked against the signature; ``None`` when the settings name none."""
    named = job.settings.data
    if not named.evaluation:
        return None
    return data.read(job.settings.file(named.evaluation), model.signature, named.inputs, named.labels)


def check_model(job: Job, model: Model, rows: Dataset | None) -> Report:
    """Every law on the model."""
    job.tell("check", f"{len(check.LAWS)} laws")

    def build() -> Report:
        framework = check.reference(model, trust=job.settings.model.trust)
        return check.run(model, rows, framework, job.sink)

    key = {"model": model.digest, "source": model.source.digest, "rows": _rows_key(job, rows)}
    return job.workspace.reuse("check", key | _versions(), Report, build)


def optimize_model(job: Job, model: Model) -> Optimized:
    """The original and its variants."""
    job.tell("optimize", ", ".join(job.settings.optimize.passes) or "no passes")
    named = job.settings.data
    rows = data.read(job.settings.file(named.calibration), model.signature, named.inputs) if named.calibration else None
    passes = job.settings.optimize.passes
    key = {"model": model.digest, "passes": passes, "rows": rows.digest if rows else "", "inputs": named.inputs}
    return job.workspace.reuse(
        "optimize",
        key | {"target": records.dump(job.target)} | _versions(),
        Optimized,
        lambda: optimize.run(model, job.target, rows, passes, job.sink),
    )


def measure_variants(job: Job, model: Model, optimized: Optimized, rows: Dataset | None) -> Measured:
    """The evidence of every variant on this machine."""
    job.tell("measure", f"{len(optimized.variants)} variants, each in a fresh process, taken in turn")
    key = {
        "variants": [[v.name, v.digest] for v in optimized.variants],
        "target": records.dump(job.target),
        "machine": records.dump(measure.machine.describe()),
        "rows": _rows_key(job, rows),
        "settings": msgspec.to_builtins(job.settings.measure),
    }
    prediction = job.settings.data.prediction
    return job.workspace.reuse(
        "measure",
        key | _versions(),
        Measured,
        lambda: measure.run(model, optimized.variants, job.target, job.settings.measure, rows, prediction, job.sink),
    )


def choose_variant(job: Job, optimized: Optimized, measured: Measured) -> Choice:
    """Every variant before the gates, and the one that ships."""
    job.tell("gate", "limits against figures")
    gates = measure.gates(job.settings.gates, job.target)
    judged = tuple(measure.judge(gates, one) for one in measured.evidence)
    passes = {v.digest: len(v.chain) for v in optimized.variants}
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
        "rows": _rows_key(job, rows),
        "gates": [records.dump(gate) for gate in gates],
        "machine": records.dump(evidence.machine),
    }
    file = job.workspace.store / release.bundle / bundle.MODEL
    return job.workspace.reuse(
        "verify",
        key | _versions(),
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
    if not _tracks(job.settings):
        return None
    place = _place(job)
    job.tell("track", f"MLflow at {place.tracking_uri}")
    folder, _ = bundle.open_bundle(job.workspace.store, release.bundle)
    subject = mlflow.Subject(release, folder, shipment.model, variant, shipment.served)
    return mlflow.track(subject, place, job.settings.rollout.alias)


# ---------------------------------------------------------------- parts of the arrows


def _baseline(job: Job, variant: Variant, model: Model, rows: Dataset | None) -> bytes:
    named = job.settings.data
    training = data.read(job.settings.file(named.baseline), model.signature, named.inputs) if named.baseline else rows
    if training is None:
        return watch.run({}, {}, job.settings.watch)
    runner = load(Path(variant.path), job.target)
    outputs = runner.run((rows or training).inputs)
    runner.close()
    return watch.run(training.inputs, outputs, job.settings.watch)


def _write_report(job: Job, shipment: Shipment) -> Shipment:
    version = f"-v{shipment.release.version}" if shipment.release else ""
    path = job.workspace.reports / f"{shipment.name}{version}.html"
    shipment = replace(shipment, html=str(path))
    write_bytes(path, report.html(shipment).encode())
    return shipment


def _can_track(job: Job) -> None:
    if _tracks(job.settings):
        mlflow.reachable(_place(job).tracking_uri)


def _tracks(settings: Settings) -> bool:
    wanted = settings.release.mlflow
    if wanted == "on" and not mlflow.available():
        raise Refused(
            "MLflow is switched on and not installed",
            found='mlflow = "on" under [release]',
            next="pip install 'shipworthy[mlflow]', or set mlflow = \"off\"",
        )
    return wanted != "off" and mlflow.available()


def _place(job: Job) -> mlflow.Place:
    home, experiment = job.workspace.folder, job.settings.release.mlflow_experiment
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else home / "mlflow"
    return mlflow.Place(mlflow.tracking_uri(home), experiment, own)


def _rows_key(job: Job, rows: Dataset | None) -> dict[str, Any]:
    named = job.settings.data
    names = {"inputs": named.inputs, "labels": named.labels, "prediction": named.prediction}
    return names | {"digest": rows.digest if rows else ""}


def _versions() -> dict[str, Any]:
    found = {dist.name.lower(): dist.version for dist in metadata.distributions()}
    return {"versions": {name: found.get(name, "") for name in VERSIONS}}


def _what_check_said(report: Report) -> str:
    """Why the model stops here; empty when no law found an error."""
    if not report.errors:
        return ""
    first, count = report.errors[0], len(report.errors)
    return f"check found {count} error{'s'[: count > 1]}; the first: {first.place}: {first.evidence}"


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
