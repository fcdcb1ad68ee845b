"""Train a small residual network on handwritten digits at 32x32: model.safetensors, train.npz, calibration.npz, evaluation.npz.

The digits that scikit-learn bundles, drawn four times as wide and high, to a ResNet-18 of a quarter of its usual widths.
Every file is written whole or not at all; the weights come last, so that they never stand there alone.

``make_model`` and ``fine_tune`` are named in shipworthy.toml: the network whose weights the file holds, and how it goes on
training while it is pruned.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).parent
WIDTHS = (16, 32, 64, 128)
BATCH = 64


class Block(nn.Module):
    """Two convolutions, and a shortcut around them."""

    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(taken, given, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(given)
        self.conv2 = nn.Conv2d(given, given, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(given)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or taken != given:
            self.shortcut = nn.Sequential(nn.Conv2d(taken, given, 1, stride, bias=False), nn.BatchNorm2d(given))

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out: float32 [rows, channels, height, width]."""
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """Four stages of two blocks, as ResNet-18; each stage halves height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
        stages, taken = [], WIDTHS[0]
        for number, given in enumerate(WIDTHS):
            stages += [Block(taken, given, 2 if number else 1), Block(given, given, 1)]
            taken = given
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(taken, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Images, float32 [rows, 1, 32, 32] from 0 to 1, to the logits of ten digits, float32 [rows, 10]."""
        return self.head(self.stages(self.stem(image)).mean((2, 3)))


def make_model() -> nn.Module:
    """The network, not trained."""
    return ResNet()


def fine_tune(model: nn.Module, steps: int) -> Iterator[None]:
    """Train the model in place on train.npz; hand over after every step."""
    rows = np.load(HERE / "train.npz")
    yield from fit(model, torch.from_numpy(rows["image"]), torch.from_numpy(rows["y"]), steps, rate=0.02)


def fit(model: nn.Module, images: Tensor, labels: Tensor, steps: int, rate: float) -> Iterator[None]:
    """``steps`` steps of stochastic gradient descent; the rate of learning rises, then falls to nothing."""
    torch.manual_seed(0)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=5e-4, nesterov=True, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    order = torch.randperm(0)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(images))
        chosen, order = order[:BATCH], order[BATCH:]
        loss = functional.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield


def main() -> None:
    """Split, train, write."""
    digits = load_digits()
    images = np.kron(digits.images, np.ones((1, 4, 4)))[:, None].astype(np.float32) / 16
    labels = digits.target.astype(np.int64)
    x_train, x_eval, y_train, y_eval = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    for name, x, y in (
        ("train.npz", x_train, y_train),
        ("calibration.npz", x_train[:256], y_train[:256]),
        ("evaluation.npz", x_eval, y_eval),
    ):
        with (HERE / f".{name}").open("wb") as stream:
            np.savez_compressed(stream, image=x, y=y)
        (HERE / f".{name}").replace(HERE / name)

    torch.manual_seed(0)
    model = make_model()
    for _ in fit(model, torch.from_numpy(x_train), torch.from_numpy(y_train), steps=200, rate=0.1):
        pass
    model.eval()
    with torch.no_grad():
        right = (model(torch.from_numpy(x_eval)).argmax(1).numpy() == y_eval).mean()
    save_file(model.state_dict(), HERE / ".model.safetensors")
    (HERE / ".model.safetensors").replace(HERE / "model.safetensors")
    print(f"trained on {len(x_train)} images; {100 * right:.2f} % right on {len(x_eval)} unseen ones")


if __name__ == "__main__":
    main()
