"""PyTriton as its examination wants it: the Triton server with all outputs of the model behind it."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def main() -> None:
    """Serve until told to stop."""
    session = ort.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
    outputs = [one.name for one in session.get_outputs()]

    @batch
    def infer(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        # Triton's batched outputs have a second dimension.
        found = dict(zip(outputs, session.run(outputs, inputs), strict=True))
        return {name: array.reshape(len(array), -1) for name, array in found.items()}

    ports = {"http_port": int(os.environ["PORT"]), "grpc_port": int(os.environ["GRPC_PORT"])}
    config = TritonConfig(http_address="127.0.0.1", **ports, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=os.environ["NAME"],
            infer_func=infer,
            inputs=[Tensor(name=x.name, dtype=DTYPES[x.type], shape=tuple(x.shape[1:])) for x in session.get_inputs()],
            outputs=[
                Tensor(name=x.name, dtype=DTYPES[x.type], shape=tuple(x.shape[1:]) or (1,)) for x in session.get_outputs()
            ],
            config=ModelConfig(max_batch_size=256, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


if __name__ == "__main__":
    main()
