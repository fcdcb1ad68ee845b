"""PyTriton: the Triton server with a function of Python behind it."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

SHAPE = tuple(int(n) for n in os.environ["SHAPE"].split(","))[1:]
OUTPUT, BATCH = os.environ["OUTPUT"], int(os.environ["BATCH"])


def made() -> tuple[object, str]:
    """A function that answers a batch, and the name of its input."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    @batch
    def infer(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        return {OUTPUT: session.run([OUTPUT], inputs)[0]}

    return infer, name


if __name__ == "__main__":
    functions = [made() for _ in range(int(os.environ["WORKERS"]))]
    ports = {"http_port": int(os.environ["PORT"]), "grpc_port": int(os.environ["GRPC_PORT"])}
    config = TritonConfig(http_address="127.0.0.1", **ports, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=os.environ["NAME"],
            infer_func=[function for function, _ in functions],
            inputs=[Tensor(name=functions[0][1], dtype=np.float32, shape=SHAPE)],
            outputs=[Tensor(name=OUTPUT, dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()
