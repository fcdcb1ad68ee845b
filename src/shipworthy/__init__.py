"""Shipworthy takes a trained model to production and proves, at every step, that it is fit to ship.

The way of the data, and what each part hands to the next (all records are in ``shipworthy.records``)::

    trained file ─► check ─► optimize ─► measure ─► release ─► serve
                    Report   Optimized   Measured   Release    Served
                                         Choice     Promotion

- ``check.take_in`` makes any trained file an ONNX ``Model``; ``check.run`` says what would break.
- ``optimize.run`` makes the ``Variant`` s; ``measure.run`` takes the ``Evidence`` of each, side by side, in fresh
  processes; ``measure.judge`` and ``measure.choose`` hold them against the user's gates.
- ``release`` keeps bundles by their digests, and aliases that move by compare-and-swap; MLflow shows them to the team.
- ``serve`` answers over HTTP; ``watch`` has the baseline that live traffic will be compared with.

The whole way in one call::

    from pathlib import Path
    from shipworthy import settings
    from shipworthy.ship import ship
    from shipworthy.workspace import Workspace

    shipment = ship(settings.read(Path("examples/digits")), Workspace(Path(".shipworthy")))
    print(shipment.choice.reason, shipment.served.gap_points)

Step by step: ``examples/digits/step_by_step.py``. The rules of the house: ``docs/architecture.md``.
"""

__version__ = "0.1.0"
