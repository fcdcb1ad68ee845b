"""The digits model through the Python API, one arrow at a time: records in, records out.

Run it from a folder of your own choice after ``python examples/digits/train.py``; it works in ./step-by-step.
"""

from pathlib import Path

from shipworthy import check, data, initialize, measure, optimize, settings
from shipworthy.ship import ship
from shipworthy.workspace import Workspace

HERE = Path(__file__).parent
work = Path("step-by-step").absolute()

# check: the trained file becomes an ONNX model, and the laws speak
model = check.take_in(HERE / "model.joblib", "digits", work / "models", trust=True)
rows = data.read(HERE / "evaluation.npz", model.signature, labels="y")
report = check.run(model, rows, check.reference(model, trust=True))
for finding in report.findings:
    print(finding.severity, finding.place, finding.evidence)

# optimize: variants beside the original
target = settings.read(HERE).target()
calibration = data.read(HERE / "calibration.npz", model.signature)
optimized = optimize.run(model, target, calibration)

# measure: every variant in a fresh process, in turn; then the gates
quick = settings.MeasureSettings(processes=1, repeats=3, repeat_seconds=0.05)
measured = measure.run(model, optimized.variants, target, quick, rows)
gates = measure.gates(settings.GateSettings(accuracy_percent=95.0, p99_ms=5.0), target)
judged = tuple(measure.judge(gates, evidence) for evidence in measured.evidence)
passes = {variant.name: len(variant.chain) for variant in optimized.variants}
choice = measure.choose(judged, measured.evidence, passes, goal="latency")
print(choice.reason)

# release, serve and verify: what the verb `ship` does with a settings file
plain = settings.read(HERE, {"measure.processes": "1", "measure.repeat_seconds": "0.05", "release.mlflow": "off"})
shipment = ship(plain, Workspace(work))
print(f"{shipment.name} version {shipment.release.version}, gap {shipment.served.gap_points} points")

# init: a commented settings file for any model
print("wrote", initialize.write(Path(optimized.variants[0].path), force=True))
