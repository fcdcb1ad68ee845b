"""KServe's model server with a model of our own."""

from __future__ import annotations

import logging
import os

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Onnx(Model):
    """Tensors in, tensors out."""

    def __init__(self, name: str) -> None:
        """Name it; the file is loaded where it is served, since a session does not travel to a worker."""
        super().__init__(name)
        self.session: ort.InferenceSession | None = None
        self.ready = True

    async def predict(self, payload: InferRequest, _headers: object = None, _context: object = None) -> InferResponse:
        """The answer to a request."""
        if self.session is None:
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        tensor = payload.inputs[0]
        out = self.session.run([os.environ["OUTPUT"]], {tensor.name: tensor.as_numpy()})[0]
        output = InferOutput(os.environ["OUTPUT"], list(out.shape), "FP32")
        asked = payload.request_outputs
        output.set_data_from_numpy(out, binary_data=not asked or bool((asked[0].parameters or {}).get("binary_data", False)))
        return InferResponse(response_id=payload.id or "0", model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    grpc = os.environ["WORKERS"] == "1"
    ports = {"http_port": int(os.environ["PORT"]), "grpc_port": int(os.environ["GRPC_PORT"])}
    ModelServer(**ports, workers=int(os.environ["WORKERS"]), enable_grpc=grpc).start([Onnx(os.environ["NAME"])])
