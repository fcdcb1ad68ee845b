"""KServe's model server as its examination wants it: all inputs and outputs, their metadata, refusals that blame the caller."""

from __future__ import annotations

import logging
import os
import uuid

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput

DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


class Onnx(Model):
    """Tensors in, tensors out."""

    def __init__(self, name: str) -> None:
        """Load the model."""
        super().__init__(name)
        self.session = ort.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
        self.ready = True

    def get_input_types(self) -> list[dict[str, object]]:
        """The inputs, for the metadata."""
        return _described(self.session.get_inputs())

    def get_output_types(self) -> list[dict[str, object]]:
        """The outputs, for the metadata."""
        return _described(self.session.get_outputs())

    async def predict(self, payload: InferRequest, _headers: object = None, _context: object = None) -> InferResponse:
        """The answer to a request: the outputs it names, or all."""
        types = {one.name: DATATYPES[one.type] for one in self.session.get_outputs()}
        asked = [one.name for one in payload.request_outputs or ()] or list(types)
        if len({one.name for one in payload.inputs}) < len(payload.inputs):
            raise InvalidInput("an input is given twice")
        try:
            found = self.session.run(asked, {one.name: one.as_numpy() for one in payload.inputs})
        except Exception as error:
            raise InvalidInput(str(error)) from error
        outputs = []
        for name, array in zip(asked, found, strict=True):
            output = InferOutput(name, list(array.shape), types[name])
            output.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(
            response_id=payload.id or str(uuid.uuid4()),
            model_name=self.name,
            infer_outputs=outputs,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


def _described(tensors: list[ort.NodeArg]) -> list[dict[str, object]]:
    return [{"name": x.name, "datatype": DATATYPES[x.type], "shape": [-1, *x.shape[1:]]} for x in tensors]


if __name__ == "__main__":
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    ports = {"http_port": int(os.environ["PORT"]), "grpc_port": int(os.environ["GRPC_PORT"])}
    ModelServer(**ports, workers=1, enable_grpc=True).start([Onnx(os.environ["NAME"])])
