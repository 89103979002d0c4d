"""What the zoo is made of: a case is a module with seeded random weights, and inputs for it."""

import dataclasses
import typing

import torch
from torch import nn

EXPORTERS = ("torchscript", "dynamo")


@dataclasses.dataclass
class Case:
    """A module ready to be exported.

    sets: argument tuples of tensors; the first is what the exporter sees, all are run. dynamic: which dims of which
    input may change, by name. outputs: names, or None for as many as the module has."""

    module: nn.Module
    sets: list
    inputs: list
    dynamic: dict = dataclasses.field(default_factory=dict)
    outputs: list | None = None
    opset: int | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    kind: str
    source: str
    build: typing.Callable
    exporters: tuple = EXPORTERS
    compare: str = "numbers"


MODELS = {}


def model(name, kind, source, exporters=EXPORTERS, compare="numbers"):
    """Registers build(exporter) -> Case."""

    def register(build):
        assert name not in MODELS, name
        MODELS[name] = Entry(name, kind, source, build, exporters, compare)
        return build

    return register


def settle(module, noise=0.1):
    """Initial weights are degenerate: biases 0, scales 1, layer scales 1e-6, statistics of batches 0 and 1. A wrong fold of any
    of them would go unseen, so every vector of equal numbers gets noise, and statistics become plausible ones."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(getattr(layer, "running_var", None), torch.Tensor):
                layer.running_mean.normal_(0, 0.2)
                layer.running_var.uniform_(0.6, 1.6)
        for parameter in module.parameters():
            if parameter.ndim <= 1 and parameter.numel() and bool((parameter == parameter.flatten()[0]).all()):
                base = parameter.clone() if float(parameter.flatten()[0].abs()) > 0.01 else torch.zeros_like(parameter)
                parameter.copy_(base + noise * torch.randn_like(parameter))
    return module.eval()


def calibrate(module, *args):
    """Statistics of batches as this input has them: activations of a deep net neither die out nor blow up, and answers depend on
    the picture instead of on biases alone."""
    norms = [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None
    ]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        module(*args)
    for layer in norms:
        layer.running_var.clamp_(min=1e-3)
    return module.eval()


class Flat(nn.Module):
    """call(module, *tensors) -> tensors, as a module of its own: keyword arguments and output classes stay out of the file."""

    def __init__(self, module, call):
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, *args):
        found = self.call(self.module, *args)
        return found if isinstance(found, torch.Tensor) else tuple(found)


def image(*shape):
    return torch.rand(shape) * 2 - 0.9


def picture(*shape):
    """Smooth blobs."""
    small = torch.randn(1, *shape[:-2], shape[-2] // 8, shape[-1] // 8)
    return nn.functional.interpolate(small.flatten(0, -4) if small.ndim > 4 else small, shape[-2:], mode="bicubic").reshape(shape)


def tokens(batch, length, vocabulary=100):
    return torch.randint(5, vocabulary, (batch, length))


def mask(batch, length):
    """Ones; the last row loses its last third, as a shorter text in a batch would."""
    found = torch.ones(batch, length, dtype=torch.int64)
    if batch > 1:
        found[-1, length - length // 3 :] = 0
    return found
