"""The process that TensorFlow lives in: ``python -m shipworthy.backends.tensorflow_child FOLDER`` does the job there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.backends import errand, tensorflow_model


def main() -> None:
    """Do the job; whatever goes wrong is the answer."""
    errand.fulfil(_do, "TensorFlow")


def _do(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    trained = tensorflow_model.load(Path(job["path"]), job["kind"], trust=job["trust"])
    if job["deed"] == "convert":
        packages = tensorflow_model.write_onnx(trained, Path(job["result"]), job["opset"], job["ir_version"])
        return {"packages": packages}
    with np.load(folder / errand.INPUTS, allow_pickle=False) as arrays:
        outputs = trained.answer({name: arrays[name] for name in arrays.files})
    np.savez(folder / errand.OUTPUTS, **{str(place): output for place, output in enumerate(outputs)})  # type: ignore[arg-type]
    return {}


if __name__ == "__main__":
    main()
