"""Channels that are zero everywhere can go without a change of any answer: so what depends on what was found right."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from shipworthy.backends import torch_channels
from shipworthy.backends.torch_channels import OUT
from shipworthy.backends.torch_model import Trained
from shipworthy.errors import Refused

IMAGE, TABLE, TOKENS = (3, 8, 8), (12,), (5, 16)


class Net(nn.Module):
    """Named layers, and what is done with them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.does = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.does(self, x)


def conv(taken, given, **options):
    return nn.Conv2d(taken, given, 3, padding=1, **options)


def residual(net, x):
    x = functional.relu(net.norm(net.stem(x)))
    y = functional.relu(net.norm1(net.conv1(x)))
    x = functional.relu(net.norm2(net.conv2(y)) + x)
    return net.head(x.mean((2, 3)))


RESIDUAL = {
    "stem": lambda: conv(3, 16, bias=False),
    "norm": lambda: nn.BatchNorm2d(16),
    "conv1": lambda: conv(16, 32),
    "norm1": lambda: nn.BatchNorm2d(32),
    "conv2": lambda: conv(32, 16),
    "norm2": lambda: nn.BatchNorm2d(16),
    "head": lambda: nn.Linear(16, 10),
}
NETS = {
    "residual": (residual, RESIDUAL, IMAGE, {"stem.weight": "16 to 8", "conv1.weight": "32 to 16"}),
    "pictures as rows": (
        lambda net, x: net.b(torch.flatten(functional.max_pool2d(functional.silu(net.a(x)), 2), 1)),
        {"a": lambda: conv(3, 16), "b": lambda: nn.Linear(16 * 16, 10)},
        IMAGE,
        {"a.weight": "16 to 8"},
    ),
    "a filter a channel": (
        lambda net, x: net.c(net.b(functional.relu(net.a(x)))).mean((2, 3)),
        {"a": lambda: conv(3, 16), "b": lambda: conv(16, 16, groups=16), "c": lambda: conv(16, 10)},
        IMAGE,
        {"a.weight": "16 to 8"},
    ),
    "matrices": (
        lambda net, x: net.c(functional.relu(net.b(functional.relu(net.a(x) * 0.5)))),
        {"a": lambda: nn.Linear(12, 32), "b": lambda: nn.Linear(32, 24), "c": lambda: nn.Linear(24, 10)},
        TABLE,
        {"a.weight": "32 to 16", "b.weight": "24 to 16"},
    ),
    "tokens": (
        lambda net, x: (net.b(functional.gelu(net.a(x))) + x).mean(1),
        {"a": lambda: nn.Linear(16, 64), "b": lambda: nn.Linear(64, 16)},
        TOKENS,
        {"a.weight": "64 to 32"},
    ),
    "side by side": (
        lambda net, x: net.d(functional.relu(net.c(torch.cat([net.a(x), net.b(x)], 1)))).mean((2, 3)),
        {"a": lambda: conv(3, 16), "b": lambda: conv(3, 16), "c": lambda: conv(32, 16), "d": lambda: conv(16, 10)},
        IMAGE,
        {"c.weight": "16 to 8"},
    ),
    "filters in groups": (
        lambda net, x: net.d(functional.relu(net.c(functional.relu(net.b(functional.relu(net.a(x))))))).mean((2, 3)),
        {"a": lambda: conv(3, 16), "b": lambda: conv(16, 16, groups=2), "c": lambda: conv(16, 16), "d": lambda: conv(16, 10)},
        IMAGE,
        {"c.weight": "16 to 8"},
    ),
    "one layer twice": (
        lambda net, x: net.d(functional.relu(net.c(net.b(net.b(net.a(x)))))).mean((2, 3)),
        {"a": lambda: conv(3, 16), "b": lambda: conv(16, 16), "c": lambda: conv(16, 16), "d": lambda: conv(16, 10)},
        IMAGE,
        {"c.weight": "16 to 8"},
    ),
    "a gate over channels": (
        lambda net, x: net.c(net.a(x) * net.b(x)).mean((2, 3)),
        {"a": lambda: conv(3, 16), "b": lambda: conv(3, 16), "c": lambda: conv(16, 10)},
        IMAGE,
        {"a.weight": "16 to 8"},
    ),
}


def build(kind):
    torch.manual_seed(0)
    forward, layers, shape, expected = NETS[kind]
    net = Net(forward, **{name: make() for name, make in layers.items()}).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
    return Trained(net, {"x": torch.randn(2, *shape)}), torch.randn(7, *shape), expected


def silence(trained, share):
    """Set some channels of every set to zero, wherever they are made."""
    tensors = trained.module.state_dict()
    for group in torch_channels._groups(trained):
        if not group.fixed:
            mute = torch.randperm(group.size)[: int(group.size * share)]
            for one in group.slices:
                if one.axis == OUT and "running" not in one.parameter:
                    tensors[one.parameter][mute] = 0


@pytest.mark.parametrize("kind", NETS)
def test_silent_channels_go_without_a_trace(kind):
    trained, rows, expected = build(kind)
    silence(trained, 0.5)
    before, count = trained.module(rows), sum(one.numel() for one in trained.module.parameters())
    assert torch_channels.narrow(trained, 0.5) == expected
    torch.testing.assert_close(trained.module(rows), before, rtol=1e-4, atol=1e-5)
    assert sum(one.numel() for one in trained.module.parameters()) < count
    torch.export.export(trained.module, (rows,))  # goes on as any other module does


def test_layers_say_their_new_sizes():
    trained, _, _ = build("residual")
    torch_channels.narrow(trained, 0.5)
    net = trained.module
    assert (net.conv1.in_channels, net.conv1.out_channels, net.norm1.num_features, net.head.in_features) == (8, 16, 16, 8)
    trained, _, _ = build("a filter a channel")
    torch_channels.narrow(trained, 0.5)
    assert (trained.module.b.groups, trained.module.b.in_channels, trained.module.b.out_channels) == (8, 8, 8)


@pytest.mark.parametrize(
    ("share", "kept"), [(0.1, None), (0.25, "32 to 24"), (0.5, "32 to 16"), (0.9, "32 to 8"), (0.99, "32 to 8")]
)
def test_what_is_left_is_a_multiple_of_eight(share, kept):
    trained, _, _ = build("matrices")
    if kept is None:
        with pytest.raises(Refused, match="no channels"):
            torch_channels.narrow(trained, share)
    else:
        assert torch_channels.narrow(trained, share)["a.weight"] == kept


def test_what_cannot_be_traced_or_does_not_work_is_refused():
    branching = Trained(Net(lambda net, x: net.a(x) if x.sum() > 0 else x, a=nn.Linear(12, 12)), {"x": torch.randn(2, 12)})
    with pytest.raises(Refused, match="cannot be traced"):
        torch_channels.narrow(branching, 0.5)
    stubborn = Net(lambda net, x: net.b(functional.relu(net.a(x)) + 0 * net.a.weight.shape[0]), a=conv(3, 16), b=conv(16, 8))
    stubborn.does = lambda net, x: net.b(_checked(functional.relu(net.a(x))))
    with pytest.raises(Refused, match="does not work with fewer channels") as caught:
        torch_channels.narrow(Trained(stubborn.eval(), {"x": torch.randn(2, *IMAGE)}), 0.5)
    assert "sixteen" in caught.value.found


def _checked(x):
    if x.shape[1] != 16:
        raise ValueError("there must be sixteen")
    return x
