"""BentoML: a service in as many workers, batches of what waits. Started by ``bentoml serve``."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime as ort

SHAPE = tuple(int(n) for n in os.environ["SHAPE"].split(","))
OUTPUT = os.environ["OUTPUT"]
BATCH = int(os.environ["BATCH"])


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 60}, metrics={"enabled": True})
class Service:
    """Numbers in, numbers out."""

    def __init__(self) -> None:
        """Load the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    @bentoml.api(route="/predict", batchable=BATCH > 1, max_batch_size=max(2, BATCH), max_latency_ms=60_000)
    def predict(self, x: list[list[float]]) -> list[list[float]]:
        """The answers to a batch of rows."""
        rows = np.array(x, np.float32).reshape(-1, *SHAPE[1:])
        return self.session.run([OUTPUT], {self.input: rows})[0].tolist()
