"""MLServer as its examination wants it: all inputs and outputs, their metadata, a version, refusals that blame the caller."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse

DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


class Onnx(MLModel):
    """Tensors in, tensors out."""

    async def load(self) -> bool:
        """Load the model."""
        self.session = ort.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answers to a request: the outputs it names, or all."""
        asked = [one.name for one in payload.outputs or ()] or [one.name for one in self.session.get_outputs()]
        if len({one.name for one in payload.inputs}) < len(payload.inputs):
            raise InferenceError("an input is given twice")
        try:
            found = self.session.run(asked, {one.name: NumpyCodec.decode_input(one) for one in payload.inputs})
        except Exception as error:
            raise InferenceError(str(error)) from error
        outputs = [NumpyCodec.encode_output(name, array) for name, array in zip(asked, found, strict=True)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def main() -> None:
    """Write the settings and become the server."""
    session = ort.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
    described = [  # its codec writes one number a row in the shape [rows, 1]
        [{"name": x.name, "datatype": DATATYPES[x.type], "shape": [-1, *(x.shape[1:] or [1])]} for x in tensors]
        for tensors in (session.get_inputs(), session.get_outputs())
    ]
    model = {"name": os.environ["NAME"], "implementation": "conform.Onnx", "parameters": {"version": "1"}, "versions": ["1"]}
    model |= {"inputs": described[0], "outputs": described[1], "platform": "onnxruntime_onnx"}
    ports = {"http_port": int(os.environ["PORT"]), "grpc_port": int(os.environ["GRPC_PORT"]), "metrics_port": 0}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "metrics_endpoint": None, "debug": False}
    Path("model-settings.json").write_text(json.dumps(model))
    Path("settings.json").write_text(json.dumps(ports | settings))
    program = Path(sys.executable).with_name("mlserver")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(program, [str(program), "start", "."])  # noqa: S606


if __name__ == "__main__":
    main()
