"""Draw the pictures of README from a shipment: ``shipworthy ship examples/digits --json | python docs/pictures.py``."""

import json
import sys
from pathlib import Path

from shipworthy import records
from shipworthy.files import write_bytes
from shipworthy.measure.report import plots

HERE = Path(__file__).parent / "pictures"

shipment = records.load(records.Shipment, json.load(sys.stdin))
for name, draw in (("accuracy-latency", plots.accuracy_latency), ("size-memory", plots.size_memory)):
    write_bytes(HERE / f"{name}.svg", draw(shipment).encode())
    print(f"wrote docs/pictures/{name}.svg")
