"""From what a user names to what the server loads: a release, a bundle, a folder with settings, or a bare model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shipworthy import records
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.records import Evidence, Measured, Target
from shipworthy.release import bundle
from shipworthy.release.registry import SqliteRegistry
from shipworthy.serve.plan import Cost
from shipworthy.serve.source import ServedModel
from shipworthy.settings import FILE_NAME, RolloutSettings, Settings, for_model, read
from shipworthy.workspace import Workspace


def resolve(what: str, workspace: Path, overrides: Mapping[str, str]) -> tuple[ServedModel, Settings]:
    """The model that ``what`` names, and the settings that go with it.

    Args:
        what: ``NAME``, ``NAME@ALIAS`` or ``NAME@VERSION`` of a release; a bundle's folder; a folder with a
            shipworthy.toml, or that file: its release is meant; or an .onnx file.
        workspace: whose registry is asked.
        overrides: as for ``settings.read``.

    Raises:
        Refused: nothing of that name, or a bundle whose files are not those it was released with.
    """
    path = Path(what)
    if path.suffix == ".onnx":
        settings = for_model(path, overrides)
        return ServedModel(settings.model.name, 1, path, settings.target()), settings
    if (path / bundle.MANIFEST).is_file():
        manifest = bundle.verify(path)
        return _of_bundle(path, manifest, 1, file_digest(path / bundle.MANIFEST)), for_model(Path(manifest.name), overrides)
    if path.suffix == ".toml" or (path / FILE_NAME).is_file():
        settings = read(path, overrides)
        return _of_registry(settings.model.name, settings.rollout.alias, workspace), settings
    name, _, which = what.partition("@")
    if path.exists() or "/" in name:
        raise Refused(
            f"there is nothing to serve in {what}",
            expected="an .onnx file, a bundle, a folder with a shipworthy.toml, or the name of a release",
            next=f"convert it first: shipworthy ship {what}",
        )
    return _of_registry(name, which or RolloutSettings().alias, workspace), for_model(Path(name), overrides)


def _of_registry(name: str, which: str, workspace: Path) -> ServedModel:
    home = Workspace(workspace)
    release = SqliteRegistry(home.registry).get(name, which)
    folder, manifest = bundle.open_bundle(home.store, release.bundle)
    return _of_bundle(folder, manifest, release.version, release.bundle)


def _of_bundle(folder: Path, manifest: records.Bundle, version: int, digest: str) -> ServedModel:
    measured = records.decode(Measured, (folder / "evidence.json").read_bytes())
    evidence = next((one for one in measured.evidence if one.variant == manifest.variant), None)
    target = evidence.target if evidence else Target()
    return ServedModel(manifest.name, version, folder / bundle.MODEL, target, digest, _cost(evidence))


def _cost(evidence: Evidence | None) -> Cost | None:
    """What a run costs, as it was measured: how the model is served follows from that."""
    row, batched = (evidence.figure(name) if evidence else None for name in ("p50_ms", "throughput_rps"))
    return Cost(row.median, batched.median) if row and batched else None
