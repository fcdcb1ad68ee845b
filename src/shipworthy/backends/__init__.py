"""The only place that imports model runtimes and frameworks; each file imports its own, where it is used."""

import os

# onnxruntime 1.32 opens a database of usage events and a thread that sends them when it is imported; what its API has for
# that comes too late. It reads this while it is imported. What a user has set stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
