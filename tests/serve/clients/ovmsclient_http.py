"""ovmsclient over HTTP (TensorFlow Serving's REST) against a server of tests/serve/conftest.py: ``… HOST:PORT``."""

from __future__ import annotations

import sys

import numpy as np
from ovmsclient import make_http_client
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError

server = make_http_client(sys.argv[1])
pair = {name: np.ones((2, 3), np.float32) for name in "ab"}
assert (server.predict(pair, "two") == 2).all()
assert (server.predict(pair, "two", 3) == 2).all()
answer = server.predict({"x": np.zeros((4, 16), np.float32)}, "linear")
assert answer["scores"].shape == (4, 5)
assert answer["label"].tolist() == [0, 0, 0, 0]
assert server.get_model_status("two", 12)[12]["state"] == "AVAILABLE"
assert server.get_model_metadata("two", 1)
for wrong, name in (({"a": np.ones((1, 3), np.float32)}, "two"), (pair, "nobody")):
    try:
        server.predict(wrong, name)
    except (InvalidInputError, ModelNotFoundError) as error:
        print(error)  # noqa: T201
    else:
        raise AssertionError(name)
