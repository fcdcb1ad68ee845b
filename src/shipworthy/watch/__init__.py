"""watch: what live traffic is compared with. The detectors that judge it come with the issue on drift."""

from shipworthy.watch.baseline import run

__all__ = ["run"]
