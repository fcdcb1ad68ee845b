"""A release shown in MLflow: one run, one model, one version, one alias; found again instead of made twice.

The bundle is what counts: every run, model and version carries its digest as the tag ``shipworthy.bundle``. A version
is made only after its run and its model are whole, and the alias moves last, so whoever looks sees all of a release or
nothing of it. What a killed process left half-made is deleted by the next one that tracks the same bundle.

MLflow is never imported with this module, only by ``track``; what serves never calls that (``mlflow_fetch`` is for it).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shipworthy import records
from shipworthy.errors import Failed, Refused, ShipworthyError
from shipworthy.files import machine_errors
from shipworthy.records import Bundle, Evidence, Measured, Model, Release, Served, Signature, TensorSpec, Tracked, Variant
from shipworthy.release import bundle
from shipworthy.release._reach import reachable, shown, without_password

__all__ = ["ENVIRONMENT", "TAG", "Place", "Subject", "available", "reachable", "track", "tracking_uri"]

TAG = "shipworthy.bundle"

# MLflow tries again for minutes and sends usage data unless told otherwise. What the user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_CHATTY = ("mlflow", "alembic", "sqlalchemy", "git", "urllib3")


@dataclass(frozen=True)
class Place:
    """Where releases are tracked.

    ``artifact_root`` is the folder that a new experiment keeps its files in; ``None`` leaves that to the server.
    """

    tracking_uri: str
    experiment: str
    artifact_root: Path | None = None


@dataclass(frozen=True)
class Subject:
    """What is tracked: the release, the folder of its bundle, and the records that the bundle was made from."""

    release: Release
    folder: Path
    model: Model
    variant: Variant
    served: Served | None = None


def tracking_uri(folder: Path) -> str:
    """Where releases of the workspace in ``folder`` are tracked: MLFLOW_TRACKING_URI, or a database of its own."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def available() -> bool:
    """Whether MLflow is installed, without importing it."""
    return importlib.util.find_spec("mlflow") is not None


def track(subject: Subject, place: Place, alias: str) -> Tracked:
    """Show the release in MLflow and point ``alias`` at it; a release that is there already is reused.

    Args:
        subject: the release; its bundle must hold ``signature.json`` and ``evidence.json``.
        place: the tracking server or database, and the experiment.
        alias: the alias of the model version; empty: none is set.

    Returns:
        Where MLflow shows it; the tracking URI without its password.

    Raises:
        Refused: MLflow is not installed, the URI is a folder, the bundle was changed, the experiment was deleted.
        Failed: the server does not answer or does not take it, or the database belongs to another version of MLflow.
    """
    if not available():
        raise Refused("MLflow is not installed", next="pip install 'shipworthy[mlflow]', or set mlflow = \"off\" in [release]")
    reachable(place.tracking_uri)
    manifest = bundle.verify(subject.folder, subject.release.bundle)
    with _narrowed(place), _calm():
        from mlflow import MlflowClient  # noqa: PLC0415 - heavy, and only here

        _make_database(place.tracking_uri)
        client = MlflowClient(tracking_uri=place.tracking_uri, registry_uri=place.tracking_uri)
        experiment = _experiment(client, place)
        name, number = subject.release.name, _found(client, experiment, subject.release)
        if number is None:
            number = _log(client, experiment, subject, manifest)
        if alias:
            client.set_registered_model_alias(name, alias, number)
        run_id = client.get_model_version(name, number).run_id
    return Tracked(
        tracking_uri=shown(place.tracking_uri),
        experiment=place.experiment,
        run_id=run_id,
        model_name=name,
        model_version=number,
        alias=alias,
    )


def _make_database(uri: str) -> None:
    """Make a SQLite database that is not there, whole or not at all.

    MLflow builds its tables in many steps, and a database whose making was interrupted is one that it can neither use
    nor mend; so it is made beside its place, and renamed into it.
    """
    from mlflow import MlflowClient  # noqa: PLC0415

    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    with machine_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        for scrap in path.parent.glob(".mlflow-making-*"):
            shutil.rmtree(scrap, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-making-") as folder:
            making = f"sqlite:///{Path(folder) / path.name}"
            MlflowClient(tracking_uri=making, registry_uri=making).search_experiments(max_results=1)
            MlflowClient(tracking_uri=making, registry_uri=making).search_registered_models(max_results=1)
            (Path(folder) / path.name).replace(path)


def _experiment(client: Any, place: Place) -> str:
    if client.get_experiment_by_name(place.experiment) is None:
        root = place.artifact_root.absolute().as_uri() if place.artifact_root else None
        with _unless_it_exists():
            client.create_experiment(place.experiment, artifact_location=root)
    found = client.get_experiment_by_name(place.experiment)
    if found.lifecycle_stage == "deleted":
        raise Refused(
            f"the MLflow experiment '{place.experiment}' was deleted",
            next=f"mlflow experiments restore -x {found.experiment_id}, or name another one in [release] mlflow_experiment",
        )
    return str(found.experiment_id)


def _found(client: Any, experiment: str, release: Release) -> str | None:
    """The number of the finished version of that bundle; what was left half-made is deleted on the way."""
    same = f"tags.`{TAG}` = '{release.bundle}'"
    versions = client.search_model_versions(f"name = '{release.name}' and {same}", order_by=["version_number ASC"])
    kept = {one.run_id: str(one.version) for one in versions if one.status == "READY"}
    for run in client.search_runs([experiment], same):
        if run.info.status == "FINISHED":
            continue
        if run.info.run_id in kept:
            client.set_terminated(run.info.run_id)
            continue
        for model in client.search_logged_models([experiment], f"source_run_id = '{run.info.run_id}'"):
            client.delete_logged_model(model.model_id)
        client.delete_run(run.info.run_id)
    return next(iter(kept.values()), None)


def _log(client: Any, experiment: str, subject: Subject, manifest: Bundle) -> str:
    """Make run, model and version, in that order; the number of the version."""
    from mlflow.entities import LoggedModelOutput, Metric, Param  # noqa: PLC0415

    release = subject.release
    evidence = _evidence(subject.folder, manifest)
    tags = {TAG: release.bundle, "shipworthy.release": str(release.version)}
    tags |= {f"shipworthy.{key}": getattr(manifest, key) for key in ("source", "model", "variant")}
    run = client.create_run(
        experiment, tags=tags | {"mlflow.user": release.created_by}, run_name=f"{release.name} v{release.version}"
    )
    run_id, params, now = run.info.run_id, _params(subject, evidence), time.time_ns() // 1_000_000
    logged = client.create_logged_model(experiment, release.name, source_run_id=run_id, tags=tags, params=params)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.log_batch(
        run_id,
        metrics=[
            Metric(key, value, now, 0, model_id=logged.model_id) for key, value in _metrics(evidence, subject.served).items()
        ],
        params=[Param(key, value) for key, value in params.items()],
    )
    with tempfile.TemporaryDirectory() as scratch:
        parts, saved = Path(scratch) / "bundle", Path(scratch) / "model"
        parts.mkdir()
        for file in (bundle.MANIFEST, *manifest.files):
            if file != bundle.MODEL:  # it is the model's own artifact
                shutil.copyfile(subject.folder / file, parts / file)
        client.log_artifacts(run_id, str(parts), "bundle")
        _save(subject.folder, saved, logged, run_id, evidence)
        client.log_model_artifacts(logged.model_id, str(saved))
    client.finalize_logged_model(logged.model_id, "READY")
    with _unless_it_exists():
        client.create_registered_model(release.name)
    # By its place, not as models:/ID: that would be looked up in whatever store the process calls its own.
    made = client.create_model_version(
        release.name, logged.artifact_location, run_id=run_id, tags=tags, model_id=logged.model_id
    )
    link = [{"name": release.name, "version": str(made.version)}]
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": msgspec.json.encode(link).decode()})
    client.set_terminated(run_id)
    return str(made.version)


def _save(folder: Path, saved: Path, logged: Any, run_id: str, evidence: Evidence) -> None:
    """Write the folder that MLflow loads and serves; its model is the bundle's, byte for byte."""
    import mlflow.onnx  # noqa: PLC0415
    import onnx  # noqa: PLC0415 - MLflow takes nothing but a proto
    from mlflow.models import Model as MlflowModel  # noqa: PLC0415

    about = MlflowModel(
        artifact_path=logged.artifact_location, run_id=run_id, model_uuid=logged.model_id, model_id=logged.model_id
    )
    mlflow.onnx.save_model(
        onnx.load(folder / bundle.MODEL),
        str(saved),
        mlflow_model=about,
        signature=_signature(records.decode(Signature, (folder / "signature.json").read_bytes())),
        # Named, because MLflow would start a process for 5 s to find them out.
        pip_requirements=[f"{package}=={version(package)}" for package in ("numpy", "onnx", "onnxruntime")],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": evidence.target.threads, "inter_op_num_threads": 1},
        save_as_external_data=False,  # otherwise the weights are taken out of the proto
    )
    shutil.copyfile(folder / bundle.MODEL, saved / bundle.MODEL)


def _signature(signature: Signature) -> Any:
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import Schema  # noqa: PLC0415
    from mlflow.types import TensorSpec as MlflowTensorSpec  # noqa: PLC0415

    def schema(specs: tuple[TensorSpec, ...]) -> Any:
        shapes = [tuple(-1 if n is None else n for n in spec.shape) for spec in specs]
        return Schema([MlflowTensorSpec(np.dtype(s.dtype), shape, s.name) for s, shape in zip(specs, shapes, strict=True)])

    return ModelSignature(inputs=schema(signature.inputs), outputs=schema(signature.outputs))


def _evidence(folder: Path, manifest: Bundle) -> Evidence:
    measured = records.decode(Measured, (folder / "evidence.json").read_bytes())
    for evidence in measured.evidence:
        if evidence.variant_name == manifest.variant_name:
            return evidence
    raise Refused(
        f"the bundle {folder} has no evidence of its own variant",
        found=", ".join(evidence.variant_name for evidence in measured.evidence) or "none",
        expected=manifest.variant_name,
        next="measure and release again",
    )


def _params(subject: Subject, evidence: Evidence) -> dict[str, str]:
    """What shaped the release, as text: the model, the passes and their options, the target."""
    chain, target = subject.variant.chain, evidence.target
    params = {
        "variant": subject.variant.name,
        "passes": " > ".join(step.name for step in chain) or "none",
        "framework": subject.model.source.framework,
        "opset": subject.model.opset,
        "target": target.name,
        "device": target.device,
        "runtime": target.runtime,
        "threads": target.threads,
        "memory_mb": "no limit" if target.memory_mb is None else target.memory_mb,
    }
    options = {f"pass.{step.name}": msgspec.json.encode(step.options, order="sorted").decode() for step in chain}
    return {key: str(value) for key, value in params.items()} | options


def _metrics(evidence: Evidence, served: Served | None) -> dict[str, float]:
    """The median of every figure under its own name, and what the served model gave under ``served_``."""
    metrics = {figure.name: figure.median for figure in evidence.figures}
    for exchange in served.exchanges if served else ():
        own = {"accuracy_percent": exchange.accuracy_percent, "p50_ms": exchange.p50_ms, "p99_ms": exchange.p99_ms}
        metrics |= {f"served_{exchange.encoding}_{key}": value for key, value in own.items() if value is not None}
    return metrics


@contextmanager
def _unless_it_exists() -> Iterator[None]:
    """Somebody else may make the same thing at the same moment: that is as good as making it."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def _calm() -> Iterator[None]:
    """MLflow without its long retries, its usage data and its chatter; everything as before afterwards."""
    before = {key: os.environ.get(key) for key in ENVIRONMENT}
    os.environ.update({key: value for key, value in ENVIRONMENT.items() if before[key] is None})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401, PLC0415 - it sets its loggers up, which we then lower

        loggers = [logging.getLogger(name) for name in _CHATTY]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            for key in (key for key, value in before.items() if value is None):
                os.environ.pop(key, None)


@contextmanager
def _narrowed(place: Place) -> Iterator[None]:
    """Let out only our own errors, whatever MLflow, its database layer or its HTTP client raise."""
    try:
        yield
    except ShipworthyError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where, found = shown(place.tracking_uri), without_password(said, place.tracking_uri)[:400]
        if "database schema" in found or "Can't locate revision" in str(error):
            raise Failed(
                f"the database of MLflow at {where} belongs to another version of MLflow",
                found=found,
                expected=f"the schema of MLflow {version('mlflow')}, which is installed",
                next="install the MLflow that wrote it, or back it up and run: mlflow db upgrade URI",
            ) from error
        raise Failed(
            f"MLflow at {where} did not take the release",
            found=found,
            next="mend what MLflow says, then run the same command again: what was finished is found again",
        ) from error
