"""The server by hand that people write: FastAPI, uvicorn workers on one socket, async handlers, no batching."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

SHAPE = tuple(int(n) for n in os.environ["SHAPE"].split(","))
OUTPUT = os.environ["OUTPUT"]

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
INPUT = session.get_inputs()[0].name
app = FastAPI()


class Body(BaseModel):
    """Rows, one here."""

    x: list[list[float]]


@app.post("/json")
async def of_json(body: Body) -> list[float]:
    """Numbers in, numbers out."""
    row = np.array(body.x, np.float32).reshape(SHAPE)
    return session.run([OUTPUT], {INPUT: row})[0].ravel().tolist()


@app.post("/raw")
async def of_bytes(request: Request) -> Response:
    """Bytes in, bytes out."""
    row = np.frombuffer(await request.body(), np.float32).reshape(SHAPE)
    return Response(session.run([OUTPUT], {INPUT: row})[0].tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    port, workers = int(os.environ["PORT"]), int(os.environ["WORKERS"])
    uvicorn.run("server:app", port=port, workers=workers, access_log=False, log_level="warning")
