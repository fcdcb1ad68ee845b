"""The process that torch lives in: ``python -m shipworthy.backends.torch_child FOLDER`` does the job that lies there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipworthy.backends import errand, torch_model
from shipworthy.backends.torch import Recipe


def main() -> None:
    """Do the job; whatever goes wrong is the answer."""
    errand.fulfil(_do, "PyTorch")


def _do(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    recipe = Recipe(job["factory"], Path(job["rows"]) if job["rows"] else None, job["names"])
    trained = torch_model.load(Path(job["path"]), recipe)
    if job["deed"] == "convert":
        trained.write_onnx(Path(job["result"]), job["opset"], job["ir_version"])
        return {"packages": torch_model.versions()}
    errand.answer_rows(folder, trained.answer)
    return {}


if __name__ == "__main__":
    main()
