"""The frozen records that the stages hand on.

Each names the digest of what it speaks of, so that a live answer can be walked back to the trained file.
Units: sizes and memory in MB of 10**6 bytes, times in ms, shares in percent, times of day in UTC (ISO 8601).
"""

from shipworthy.records.base import Record, decode, digest, dump, encode, load
from shipworthy.records.evidence import Choice, Evidence, Figure, Gate, Judged, Machine, Measured, Verdict
from shipworthy.records.model import (
    RUNTIMES,
    Device,
    Finding,
    Model,
    Optimized,
    Report,
    Runtime,
    Signature,
    Skip,
    Source,
    Step,
    Target,
    TensorSpec,
    Variant,
)
from shipworthy.records.release import Bundle, Exchange, FileEntry, Progress, Promotion, Release, Served, Shipment, Tracked

__all__ = [
    "RUNTIMES",
    "Bundle",
    "Choice",
    "Device",
    "Evidence",
    "Exchange",
    "Figure",
    "FileEntry",
    "Finding",
    "Gate",
    "Judged",
    "Machine",
    "Measured",
    "Model",
    "Optimized",
    "Progress",
    "Promotion",
    "Record",
    "Release",
    "Report",
    "Runtime",
    "Served",
    "Shipment",
    "Signature",
    "Skip",
    "Source",
    "Step",
    "Target",
    "TensorSpec",
    "Tracked",
    "Variant",
    "Verdict",
    "decode",
    "digest",
    "dump",
    "encode",
    "load",
]
