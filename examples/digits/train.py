"""Train the digits model and write it with its data splits: model.joblib, train.npz, calibration.npz, evaluation.npz.

A scikit-learn pipeline on the handwritten digits that scikit-learn bundles: pixels 0 to 16, scaled, then an MLP
64-1024-512-10. Every file is written whole or not at all; the model comes last, so that it never stands there alone.
"""

from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

HERE = Path(__file__).parent


def main() -> None:
    """Split, train, write."""
    digits = load_digits()
    pixels, labels = digits.data.astype(np.float32), digits.target.astype(np.int64)
    x_train, x_eval, y_train, y_eval = train_test_split(pixels, labels, test_size=0.25, random_state=0, stratify=labels)
    x_calibration, y_calibration = x_train[:256], y_train[:256]

    model = make_pipeline(
        MinMaxScaler(),
        MLPClassifier(hidden_layer_sizes=(1024, 512), max_iter=40, early_stopping=True, n_iter_no_change=8, random_state=0),
    )
    model.fit(x_train, y_train)

    for name, x, y in (
        ("train.npz", x_train, y_train),
        ("calibration.npz", x_calibration, y_calibration),
        ("evaluation.npz", x_eval, y_eval),
    ):
        with (HERE / f".{name}").open("wb") as stream:
            np.savez_compressed(stream, X=x, y=y)
        (HERE / f".{name}").replace(HERE / name)
    joblib.dump(model, HERE / ".model.joblib")
    (HERE / ".model.joblib").replace(HERE / "model.joblib")
    print(f"trained on {len(x_train)} rows; {100 * model.score(x_eval, y_eval):.2f} % right on {len(x_eval)} unseen rows")


if __name__ == "__main__":
    main()
