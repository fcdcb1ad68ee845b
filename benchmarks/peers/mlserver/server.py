"""MLServer with a runtime of its own for ONNX files. The folder it is started in holds the two settings files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Onnx(MLModel):
    """Tensors in, tensors out."""

    async def load(self) -> bool:
        """Load the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answers to a request, which may be a batch of several."""
        tensor = payload.inputs[0]
        out = self.session.run([os.environ["OUTPUT"]], {tensor.name: NumpyCodec.decode_input(tensor)})[0]
        output = NumpyCodec.encode_output(os.environ["OUTPUT"], out)
        return InferenceResponse(model_name=self.name, outputs=[output])


def main() -> None:
    """Serve the model with the batches that are asked for."""
    batch = int(os.environ["BATCH"])
    model = {"name": os.environ["NAME"], "implementation": "server.Onnx"}
    if batch > 1:
        model |= {"max_batch_size": batch, "max_batch_time": 0.001}
    become(model, int(os.environ["PARALLEL"]))


def become(model: dict[str, object], parallel_workers: int) -> None:
    """Write the settings of a model and of the server, and become that server."""
    ports = {"http_port": int(os.environ["PORT"]), "grpc_port": int(os.environ["GRPC_PORT"]), "metrics_port": 0}
    settings = {"host": "127.0.0.1", "parallel_workers": parallel_workers, "metrics_endpoint": None, "debug": False}
    Path("model-settings.json").write_text(json.dumps(model))
    Path("settings.json").write_text(json.dumps(ports | settings))
    program = Path(sys.executable).with_name("mlserver")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(program, [str(program), "start", "."])  # noqa: S606


if __name__ == "__main__":
    main()
