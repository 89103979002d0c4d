#!/usr/bin/env python3
"""Writes tests/data/torch/good/torch-VERSION and fuzz/corpus/torch/VERSION.pkl with the torch that runs it. The committed
ones are of 2.5 (serialized_exported_program.json and pickles) and 2.8 (archive_format, pickles): the forms that
torch_cases.py, which needs a newer torch, no longer writes."""

import io
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests/torch"))
from onnx_pb import tensor_bytes  # noqa: E402


class Old(nn.Module):
    """Tied, strided and half-precision weights, a literal."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.first = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.second, self.third = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)
        self.third.weight = self.second.weight
        self.register_buffer("steps", torch.arange(4.0))
        self.register_buffer("turned", torch.randn(5, 3).t())
        self.register_buffer("narrow", torch.ones(4).half())

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x))).mean((2, 3)) + self.steps * 2 + torch.tensor([1.0, 2, 3, 4]) + self.narrow
        return self.third(self.second(self.first(x))) @ self.turned.t()


def main():
    torch.manual_seed(1)
    version = ".".join(torch.__version__.split(".")[:2])
    module, x = Old().eval(), torch.randn(2, 3, 8, 8)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},))
    folder = TOP / f"tests/data/torch/good/torch-{version}"
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, folder / "model.pt2")
    (data / "input_0.pb").write_bytes(tensor_bytes(x.numpy()))
    (data / "output_0.pb").write_bytes(tensor_bytes(module(x).detach().numpy()))
    saved = io.BytesIO()
    torch.save(dict(module.state_dict()), saved)
    with zipfile.ZipFile(saved) as archive:
        pickle = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        (TOP / f"fuzz/corpus/torch/{version}.pkl").write_bytes(archive.read(pickle))


if __name__ == "__main__":
    main()
