"""Ray Serve: a proxy and one replica on this machine."""

from __future__ import annotations

import os
import signal

import numpy as np
import onnxruntime as ort
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

SHAPE = tuple(int(n) for n in os.environ["SHAPE"].split(","))[1:]
OUTPUT, MODEL, BATCH = os.environ["OUTPUT"], os.environ["MODEL"], int(os.environ["BATCH"])


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.5})
class Onnx:
    """Bytes in, bytes out."""

    def __init__(self) -> None:
        """Load the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.001)
    async def run(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        """The answers to a batch."""
        return list(self.session.run([OUTPUT], {self.input: np.stack(rows)})[0])

    async def __call__(self, request: Request) -> Response:
        """The answer to a request."""
        out = await self.run(np.frombuffer(await request.body(), np.float32).reshape(SHAPE))
        return Response(out.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Onnx.bind(), route_prefix="/", blocking=False)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
