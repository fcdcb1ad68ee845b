"""mosec: a front in Rust, workers in Python, batches of what waits."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import onnxruntime as ort
from mosec import Server, Worker

SHAPE = tuple(int(n) for n in os.environ["SHAPE"].split(","))[1:]
OUTPUT = os.environ["OUTPUT"]


class Bytes(Worker):
    """Bytes in, bytes out."""

    def __init__(self) -> None:
        """Load the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def deserialize(self, data: bytes) -> np.ndarray:
        """The row of a request."""
        return np.frombuffer(data, np.float32).reshape(SHAPE)

    def serialize(self, data: np.ndarray) -> bytes:
        """The answer to a row."""
        return data.tobytes()

    def forward(self, data):  # noqa: ANN001, ANN201  # mosec reads annotations, and knows no such union
        """A batch, or a row where batches are off."""
        batch = np.stack(data) if isinstance(data, list) else data[None]
        out = self.session.run([OUTPUT], {self.input: batch})[0]
        return list(out) if isinstance(data, list) else out[0]


class Numbers(Bytes):
    """JSON in, JSON out."""

    def deserialize(self, data: bytes) -> np.ndarray:
        """The row of a request."""
        return np.array(json.loads(data)["x"], np.float32).reshape(SHAPE)

    def serialize(self, data: np.ndarray) -> bytes:
        """The answer to a row."""
        return json.dumps(data.ravel().tolist()).encode()


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", os.environ["PORT"]]
    server = Server()
    batch = int(os.environ["BATCH"])
    kind = {"json": Numbers, "raw": Bytes}[os.environ["WIRE"]]
    server.append_worker(kind, num=int(os.environ["WORKERS"]), max_batch_size=batch, max_wait_time=1 if batch > 1 else 0)
    server.run()
