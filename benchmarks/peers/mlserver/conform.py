"""MLServer as its examination wants it: all inputs and outputs, their metadata, a version, refusals that blame the caller."""

from __future__ import annotations

import os

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse
from server import become

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
    """Serve the model with its metadata."""
    session = ort.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
    described = [  # its codec writes one number a row in the shape [rows, 1]
        [{"name": x.name, "datatype": DATATYPES[x.type], "shape": [-1, *(x.shape[1:] or [1])]} for x in tensors]
        for tensors in (session.get_inputs(), session.get_outputs())
    ]
    model = {"name": os.environ["NAME"], "implementation": "conform.Onnx", "parameters": {"version": "1"}, "versions": ["1"]}
    model |= {"inputs": described[0], "outputs": described[1], "platform": "onnxruntime_onnx"}
    become(model, 0)


if __name__ == "__main__":
    main()
