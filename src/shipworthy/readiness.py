"""The arrows of ``check``: what is found on the trained file before anything loads it, then on the model."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Any

from shipworthy import check, records
from shipworthy.backends import source, torch
from shipworthy.data import Dataset
from shipworthy.files import file_digest, folder_digest
from shipworthy.job import Job, rows_key, versions
from shipworthy.records import Model, Report
from shipworthy.text import printable

# What is looked at once more where the trained file became ONNX.
OF_CONVERTED = ("format", "signature", "graph")


def inspect_file(job: Job) -> Report:
    """Every law on the trained file, before anything loads it."""
    job.tell("inspect", "the file, before anything loads it")
    file = origin(job)
    key = _key(file) | versions()
    report = job.workspace.reuse("inspect", key, Report, lambda: check.apart.inspect(file), keep=_is_sure)
    return check.silence.apply(report, job.settings.check.silence)


def check_model(job: Job, model: Model, rows: Dataset | None) -> Report:
    """Every law on the model, and on the ONNX file where that was converted."""
    job.tell("check", f"{len(check.LAWS)} laws")
    file, recipe = origin(job), torch.recipe(job.settings)

    def build() -> Report:
        found = check.apart.run(model, file, rows, recipe)
        if model.source.framework == "onnx":
            return found
        return check.apart.inspect(dataclasses.replace(file, path=Path(model.path)), OF_CONVERTED) + found

    key = _key(file) | {"model": model.digest, "rows": rows_key(job, rows), "recipe": recipe.key}
    report = job.workspace.reuse("check", key | versions(), Report, build, keep=_is_sure)
    return check.silence.apply(report, job.settings.check.silence)


def whole(job: Job, before: Report, after: Report) -> Report:
    """What was found on the file and on the model, and which silences were for nothing of it."""
    return check.silence.told_idle(before + after, job.settings.check.silence)


def said(report: Report) -> str:
    """Why the model stops here; empty when no law found an error."""
    if not report.errors:
        return ""
    first, count = report.errors[0], len(report.errors)
    return f"check found {count} error{'s'[: count > 1]}; the first: {printable(first.place)}: {first.evidence}"


def origin(job: Job) -> check.Origin:
    """The trained file, and what it is to run beside."""
    path, named = job.settings.file(job.settings.model.path), job.settings.check
    return check.Origin(
        path=path,
        named=path,
        target=job.target,
        trust=job.settings.model.trust,
        serving=tuple(map(job.settings.file, named.environment)),
        training=tuple(map(job.settings.file, named.training_environment)),
    )


def _key(file: check.Origin) -> dict[str, Any]:
    """All that shapes what is found on a file; lists of packages are compared with what is installed, too."""
    lists = {kind: [_digest(path) for path in getattr(file, kind)] for kind in ("serving", "training")}
    installed = sorted(f"{one.name} {one.version}" for one in metadata.distributions()) if file.serving or file.training else []
    itself = {"source": source.digest(file.path), "path": str(file.path.absolute()), "trust": file.trust}
    return itself | lists | {"installed": installed, "target": records.dump(file.target)}


def _digest(path: Path) -> str:
    """Of a list of packages, or of the folder that MLflow keeps several in; empty where nothing is: a law speaks of that."""
    if not path.exists():
        return ""
    return folder_digest(path) if path.is_dir() else file_digest(path)


def _is_sure(report: Report) -> bool:
    """Whether it would be found again: what did not come to its end may have had too little time or memory."""
    return all(one.law != check.apart.CONTAINED.name for one in report.findings)
