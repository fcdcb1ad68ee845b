"""LitServe: two API server processes, one worker."""

from __future__ import annotations

import os

import litserve as ls
import numpy as np
import onnxruntime as ort

SHAPE = tuple(int(n) for n in os.environ["SHAPE"].split(","))
OUTPUT = os.environ["OUTPUT"]


class Api(ls.LitAPI):
    """Numbers in, numbers out."""

    def setup(self, _device: str) -> None:
        """Load the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def decode_request(self, request: dict[str, list[list[float]]]) -> np.ndarray:
        """The row of a request."""
        return np.array(request["x"], np.float32).reshape(SHAPE)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The answer to a row."""
        return self.session.run([OUTPUT], {self.input: x})[0]

    def encode_response(self, output: np.ndarray) -> list[float]:
        """The answer on the wire."""
        return output.ravel().tolist()


if __name__ == "__main__":
    workers = int(os.environ["WORKERS"])
    server = ls.LitServer(Api(), accelerator="cpu", workers_per_device=workers, timeout=60)
    port, fronts = int(os.environ["PORT"]), 2 if workers == 1 else 1
    server.run(host="127.0.0.1", port=port, num_api_servers=fronts, log_level="warning", generate_client_file=False)
