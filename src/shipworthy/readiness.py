"""The arrows of ``check``: what is found on the trained file before anything loads it, then on the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from shipworthy import check, records
from shipworthy.backends import source, torch
from shipworthy.data import Dataset
from shipworthy.files import file_digest
from shipworthy.job import Job, rows_key, versions
from shipworthy.records import Model, Report


def inspect_file(job: Job) -> Report:
    """Every law on the trained file, before anything loads it."""
    job.tell("inspect", "the file, before anything loads it")
    file = origin(job)
    key = _key(file) | versions()
    return job.workspace.reuse("inspect", key, Report, lambda: check.apart.inspect(file))


def check_model(job: Job, model: Model, rows: Dataset | None) -> Report:
    """Every law on the model, and on the ONNX file where that was converted."""
    job.tell("check", f"{len(check.LAWS)} laws")
    file, recipe = origin(job), torch.recipe(job.settings)

    def build() -> Report:
        found = check.apart.run(model, file, rows, recipe)
        if model.source.framework == "onnx":
            return found
        return check.apart.inspect(dataclasses.replace(file, path=Path(model.path)), ["format"]) + found

    key = _key(file) | {"model": model.digest, "rows": rows_key(job, rows), "recipe": recipe.key}
    return job.workspace.reuse("check", key | versions(), Report, build)


def said(report: Report) -> str:
    """Why the model stops here; empty when no law found an error."""
    if not report.errors:
        return ""
    first, count = report.errors[0], len(report.errors)
    return f"check found {count} error{'s'[: count > 1]}; the first: {first.place}: {first.evidence}"


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
    """All that shapes what is found on a file."""
    lists = {kind: [file_digest(path) for path in getattr(file, kind)] for kind in ("serving", "training")}
    itself = {"source": source.digest(file.path), "path": str(file.path.absolute()), "trust": file.trust}
    return itself | lists | {"target": records.dump(file.target)}
