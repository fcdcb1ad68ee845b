"""The process that TensorFlow lives in: ``python -m shipworthy.backends.tensorflow_child FOLDER`` does the job there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipworthy.backends import errand, tensorflow_model


def main() -> None:
    """Do the job; whatever goes wrong is the answer."""
    errand.fulfil(_do, "TensorFlow")


def _do(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    trained = tensorflow_model.load(Path(job["path"]), job["kind"], trust=job["trust"])
    if job["deed"] == "convert":
        packages = tensorflow_model.write_onnx(trained, Path(job["result"]), job["opset"], job["ir_version"])
        return {"packages": packages}
    errand.answer_rows(folder, trained.answer)
    return {}


if __name__ == "__main__":
    main()
