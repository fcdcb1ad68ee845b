"""TorchServe: a front in Java, a handler of our own. Writes archive and settings into its folder, then becomes the server."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

HANDLER = """
import os
import numpy as np
import onnxruntime as ort
SHAPE = tuple(int(n) for n in os.environ["SHAPE"].split(","))[1:]
OUTPUT = os.environ["OUTPUT"]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
INPUT = session.get_inputs()[0].name
def handle(data, context):
    rows = [np.frombuffer(one.get("body") or one.get("data"), np.float32).reshape(SHAPE) for one in data or []]
    return [row.tobytes() for row in session.run([OUTPUT], {INPUT: np.stack(rows)})[0]] if rows else None
"""


def main() -> None:
    """Write, then start."""
    batch, workers, port = (int(os.environ[key]) for key in ("BATCH", "WORKERS", "PORT"))
    manifest = {"runtime": "python", "model": {"modelName": "model", "handler": "handler.py", "modelVersion": "1.0"}}
    with zipfile.ZipFile("model.mar", "w") as archive:
        archive.writestr("handler.py", HANDLER)
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    model = {"marName": "model.mar", "minWorkers": workers, "maxWorkers": workers, "batchSize": batch, "maxBatchDelay": 1}
    settings = {
        "inference_address": f"http://127.0.0.1:{port}",
        "management_address": f"http://127.0.0.1:{os.environ['GRPC_PORT']}",
        "grpc_inference_port": 0,
        "grpc_management_port": 0,
        "enable_metrics_api": "false",
        "disable_token_authorization": "true",
        "disable_system_metrics": "true",
        "load_models": "model.mar",
        "default_response_timeout": 60,
        "models": json.dumps({"model": {"1.0": {"defaultVersion": True} | model}}),
    }
    Path("config.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    program = Path(sys.executable).with_name("torchserve")
    os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    where = ["--model-store", ".", "--ts-config", "config.properties", "--ncs", "--disable-token-auth"]
    os.execv(program, [str(program), "--start", "--foreground", *where])  # noqa: S606


if __name__ == "__main__":
    main()
