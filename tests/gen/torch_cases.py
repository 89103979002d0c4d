#!/usr/bin/env python3
"""Writes tests/data/torch/good: small programs exported by PyTorch with the outputs that PyTorch gives, and
tests/data/torch/bad: archives that must be refused. Needs torch (2.15) in a venv of its own.

Each good folder has the layout of ONNX backend tests: model.pt2, test_data_set_N/{input,output}_K.pb. A case is a list of
functions of the same inputs, one operator family a case; it is exported as torch.export leaves it and, as NAME.core,
after run_decompositions(). Archives are written anew without what polestar does not read (stack traces, example
inputs), to keep them small; NAME.saved stays byte for byte as torch.export.save wrote it."""

import io
import json
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests/torch"))
from onnx_pb import tensor_bytes  # noqa: E402

GOOD, BAD = TOP / "tests/data/torch/good", TOP / "tests/data/torch/bad"
ZIP_ROOT = "model"


# ---- archives ----


def strip_graph(graph):
    """What polestar reads of a graph."""
    for node in graph["nodes"]:
        node.pop("metadata", None)
        node.pop("is_hop_single_tensor_return", None)
        for argument in node["inputs"]:
            argument.pop("kind", None)
            inner = argument["arg"].get("as_graph")
            if inner:
                strip_graph(inner["graph"])
    for meta in graph["tensor_values"].values():
        for key in ("requires_grad", "device", "strides", "storage_offset"):
            meta.pop(key, None)
    for key in ("custom_obj_values", "sym_float_values", "sym_bool_values", "sym_int_values"):
        graph.pop(key, None)


def entries_of(data):
    """name (without the top folder) → bytes"""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def stripped(data):
    entries = entries_of(data)
    program = json.loads(entries["models/model.json"])
    strip_graph(program["graph_module"]["graph"])
    for key in ("module_call_graph", "metadata", "treespec_namedtuple_fields"):
        program["graph_module"].pop(key, None)
    entries["models/model.json"] = json.dumps(program, separators=(",", ":")).encode()
    for name in ("data/sample_inputs/model.pt", ".data/serialization_id", ".data/version"):
        entries.pop(name, None)
    return zip_bytes(entries)


def zip_bytes(entries, method=zipfile.ZIP_STORED):
    """Entries in order, dated alike, as PyTorch lays them out: in one folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(f"{ZIP_ROOT}/{name}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            archive.writestr(info, content)
    return out.getvalue()


def save(program):
    out = io.BytesIO()
    torch.export.save(program, out)
    return out.getvalue()


# ---- cases ----


class Many(nn.Module):
    def __init__(self, functions, weights):
        super().__init__()
        self.functions = functions
        for name, value in weights.items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)
            else:
                self.register_buffer(name, value)

    def forward(self, *inputs):
        results = []
        for function in self.functions:
            made = function(*inputs) if function.__code__.co_argcount == len(inputs) else function(self, *inputs)
            results += [*made] if isinstance(made, (tuple, list)) else [made]
        return tuple(r.clone() if any(r is i for i in inputs) else r for r in results)


def flat(values):
    return [v for v in values if isinstance(v, torch.Tensor)]


def write_set(folder, index, inputs, outputs):
    data = folder / f"test_data_set_{index}"
    data.mkdir(parents=True)
    for kind, values in (("input", inputs), ("output", outputs)):
        for k, value in enumerate(values):
            (data / f"{kind}_{k}.pb").write_bytes(tensor_bytes(value.detach().numpy()))


def write_case(name, module, inputs, dynamic=None, more=(), core=True, keep=False):
    """more: further inputs, for programs with open dims."""
    module.eval()
    with torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic)
    for suffix, made in (("", program), (".core", program.run_decompositions() if core else None)):
        if made is None:
            continue
        folder = GOOD / (name + suffix)
        folder.mkdir(parents=True)
        data = save(made)
        (folder / "model.pt2").write_bytes(data if keep else stripped(data))
        for index, values in enumerate((inputs, *more)):
            with torch.no_grad():
                outputs = module(*[v.clone() for v in values])
            outputs = flat(outputs if isinstance(outputs, (tuple, list)) else [outputs])
            write_set(folder, index, values, outputs)


CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def many(name, functions, inputs, weights=None, **kwargs):
    write_case(name, Many(functions, weights or {}), inputs, **kwargs)


@case
def pointwise():
    x = torch.randn(3, 4) * 2
    many(
        "pointwise",
        [
            lambda x: x.abs(),
            lambda x: -x,
            lambda x: x.sign(),
            lambda x: x.exp(),
            lambda x: x.exp2(),
            lambda x: x.expm1(),
            lambda x: x.abs().log(),
            lambda x: x.abs().log2(),
            lambda x: x.abs().log10(),
            lambda x: x.abs().log1p(),
            lambda x: x.abs().sqrt(),
            lambda x: x.abs().rsqrt(),
            lambda x: x.reciprocal(),
            lambda x: x.square(),
            lambda x: x.sin(),
            lambda x: x.cos(),
            lambda x: x.tan(),
            lambda x: x.tanh().asin(),
            lambda x: x.tanh().acos(),
            lambda x: x.atan(),
            lambda x: x.sinh(),
            lambda x: x.cosh(),
            lambda x: x.asinh(),
            lambda x: (x.abs() + 1).acosh(),
            lambda x: (x / 9).atanh(),
            lambda x: x.erf(),
            lambda x: x.erfc(),
            lambda x: x.floor(),
            lambda x: x.ceil(),
            lambda x: x.round(),
            lambda x: x.round(decimals=1),
            lambda x: x.trunc(),
            lambda x: x.frac(),
            lambda x: x.sigmoid(),
            lambda x: x.tanh(),
            lambda x: x.isnan(),
            lambda x: x.isinf(),
            lambda x: x.isfinite(),
            lambda x: x.rad2deg(),
            lambda x: x.deg2rad(),
            lambda x: x.sigmoid().logit(eps=1e-3),
            lambda x: torch.nan_to_num(x / (x > 0), nan=5.0),
        ],
        (x,),
    )


@case
def activation():
    x = torch.randn(2, 4, 3) * 3
    many(
        "activation",
        [
            lambda x: F.relu(x),
            lambda x: F.relu6(x),
            lambda x: F.gelu(x),
            lambda x: F.gelu(x, approximate="tanh"),
            lambda x: F.silu(x),
            lambda x: F.mish(x),
            lambda x: F.hardswish(x),
            lambda x: F.hardsigmoid(x),
            lambda x: F.hardtanh(x, -0.5, 1.5),
            lambda x: F.leaky_relu(x, 0.2),
            lambda x: F.elu(x, 0.7),
            lambda x: F.celu(x, 1.3),
            lambda x: F.selu(x),
            lambda x: F.softplus(x),
            lambda x: F.softplus(x, beta=2, threshold=3),
            lambda x: F.logsigmoid(x),
            lambda x: F.hardshrink(x, 0.6),
            lambda x: F.softshrink(x, 0.6),
            lambda x: F.threshold(x, 0.1, 7),
            lambda x: F.tanhshrink(x),
            lambda x: F.softsign(x),
            lambda x: F.glu(x, 1),
            lambda x: F.rrelu(x),
            lambda m, x: m.prelu(x),
            lambda x: F.dropout(x, 0.5, False),
            lambda x: x.clamp(-1, 1),
            lambda x: x.clamp(min=0.5),
            lambda x: x.clamp(max=torch.tensor(0.25)),
            lambda x: F.softmax(x, 1),
            lambda x: F.log_softmax(x, -1),
            lambda x: F.softmin(x, 2),
        ],
        (x,),
        {"prelu": nn.PReLU(4)},
    )


@case
def binary():
    x, y = torch.randn(3, 4), torch.randn(4)
    many(
        "binary",
        [
            lambda x, y: x + y,
            lambda x, y: torch.add(x, y, alpha=3),
            lambda x, y: x - y,
            lambda x, y: 2 - x,
            lambda x, y: x * y,
            lambda x, y: x / y,
            lambda x, y: torch.div(x, y, rounding_mode="floor"),
            lambda x, y: torch.div(x, y, rounding_mode="trunc"),
            lambda x, y: x // 0.7,
            lambda x, y: x % 0.7,
            lambda x, y: torch.remainder(x, y),
            lambda x, y: torch.fmod(x, y),
            lambda x, y: x**2,
            lambda x, y: x.abs() ** 0.5,
            lambda x, y: x.abs() ** y,
            lambda x, y: 2**x,
            lambda x, y: torch.maximum(x, y),
            lambda x, y: torch.minimum(x, y),
            lambda x, y: torch.fmax(x, y),
            lambda x, y: torch.atan2(x, y),
            lambda x, y: torch.hypot(x, y),
            lambda x, y: torch.xlogy(x, y.abs()),
            lambda x, y: torch.logaddexp(x, y),
            lambda x, y: x == y,
            lambda x, y: x != 0,
            lambda x, y: x < y,
            lambda x, y: x <= 0.5,
            lambda x, y: x > y,
            lambda x, y: x >= y,
            lambda x, y: (x > 0) & (y > 0),
            lambda x, y: (x > 0) | (y > 0),
            lambda x, y: (x > 0) ^ (y > 0),
            lambda x, y: ~(x > 0),
            lambda x, y: torch.logical_not(x),
            lambda x, y: torch.where(x > 0, x, y),
            lambda x, y: torch.where(x > 0, x, 1),
            lambda x, y: x.masked_fill(x > 0, -1),
            lambda x, y: torch.lerp(x, y.expand(3, 4), 0.3),
            lambda x, y: torch.addcmul(x, y, y, value=2),
            lambda x, y: torch.addcdiv(x, y, x.abs() + 1),
            lambda x, y: torch.clamp(x, y, y + 1),
        ],
        (x, y),
    )


@case
def promotion():
    i, h, b = torch.tensor([[7, -7], [5, 0]]), torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([True, False])
    f, s = torch.tensor([0.5, -1.5]), torch.tensor(2.5, dtype=torch.float64)
    many(
        "promotion",
        [
            lambda i, h, b, f, s: i + 1,
            lambda i, h, b, f, s: i + 1.5,
            lambda i, h, b, f, s: i / 2,
            lambda i, h, b, f, s: i // 2,
            lambda i, h, b, f, s: i % 3,
            lambda i, h, b, f, s: torch.fmod(i, 3),
            lambda i, h, b, f, s: -i // 2,
            lambda i, h, b, f, s: i * h,
            lambda i, h, b, f, s: h + h,
            lambda i, h, b, f, s: h + 300 - 300,
            lambda i, h, b, f, s: b + b,
            lambda i, h, b, f, s: b * b,
            lambda i, h, b, f, s: b + 1,
            lambda i, h, b, f, s: b * 1.5,
            lambda i, h, b, f, s: i * f,
            lambda i, h, b, f, s: f * s,
            lambda i, h, b, f, s: i * s,
            lambda i, h, b, f, s: s * 2,
            lambda i, h, b, f, s: i == f,
            lambda i, h, b, f, s: b < 1,
            lambda i, h, b, f, s: i.sqrt(),
            lambda i, h, b, f, s: b.exp(),
            lambda i, h, b, f, s: i.floor(),
            lambda i, h, b, f, s: i**2,
            lambda i, h, b, f, s: i.sum(),
            lambda i, h, b, f, s: b.sum(),
            lambda i, h, b, f, s: h.cumsum(0),
            lambda i, h, b, f, s: i.abs(),
            lambda i, h, b, f, s: i << 2,
            lambda i, h, b, f, s: i >> 1,
            lambda i, h, b, f, s: i & 6,
            lambda i, h, b, f, s: i | 8,
            lambda i, h, b, f, s: i ^ 5,
            lambda i, h, b, f, s: ~i,
            lambda i, h, b, f, s: torch.where(b, i, f),
            lambda i, h, b, f, s: i.clamp(0, 5),
            lambda i, h, b, f, s: torch.cat([i, i.float()]),
            lambda i, h, b, f, s: i.to(torch.float64),
            lambda i, h, b, f, s: f.long(),
            lambda i, h, b, f, s: i.float().mean(),
            lambda i, h, b, f, s: torch.full_like(i, 3),
            lambda i, h, b, f, s: h.type_as(f),
        ],
        (i, h, b, f, s),
    )


@case
def views():
    x = torch.arange(24.0).reshape(2, 3, 4)
    many(
        "views",
        [
            lambda x: x.view(6, 4),
            lambda x: x.reshape(-1),
            lambda x: x.view(2, -1, 2),
            lambda x: x.flatten(1),
            lambda x: x.flatten(0, 1),
            lambda x: x.unflatten(2, (2, 2)),
            lambda x: x.unsqueeze(1),
            lambda x: x.unsqueeze(-1),
            lambda x: x[:1].squeeze(0),
            lambda x: x[:1, :, :1].squeeze(),
            lambda x: x.squeeze(1),
            lambda x: x.permute(2, 0, 1),
            lambda x: x.transpose(0, -1),
            lambda x: x[0].t(),
            lambda x: x.mT,
            lambda x: x.movedim(0, 2),
            lambda x: x[0, :1].expand(5, 4),
            lambda x: x[:, :, :1].expand(-1, -1, 3),
            lambda x: x.repeat(1, 2, 1),
            lambda x: x.repeat(2, 1, 1, 2),
            lambda x: torch.tile(x, (2,)),
            lambda x: x.repeat_interleave(2, 1),
            lambda x: x[:, 1:3],
            lambda x: x[..., ::2],
            lambda x: x[:, -1],
            lambda x: x[1, 2, 3],
            lambda x: x.narrow(2, 1, 2),
            lambda x: x.unbind(1),
            lambda x: x.split(2, 2),
            lambda x: x.split([1, 2], 1),
            lambda x: x.chunk(3, 2),
            lambda x: torch.tensor_split(x, 3, 2),
            lambda x: x.unfold(2, 3, 1),
            lambda x: x.unfold(1, 2, 1),
            lambda x: x[0].tril(),
            lambda x: x.triu(1),
            lambda x: x.diagonal(0, 1, 2),
            lambda x: x.flip(0, 2),
            lambda x: x.view_as(x.reshape(4, 6)),
            lambda x: x[0].ravel(),
            lambda x: x.contiguous().clone(),
            lambda x: x.swapaxes(1, 2),
            lambda x: x.expand_as(x),
            lambda x: torch.broadcast_to(x[:, :1], (2, 3, 4)),
        ],
        (x,),
    )


@case
def join():
    x, y = torch.arange(12.0).reshape(3, 4), torch.arange(8.0).reshape(2, 4)
    many(
        "join",
        [
            lambda x, y: torch.cat([x, y]),
            lambda x, y: torch.cat([x, x], 1),
            lambda x, y: torch.stack([x, x + 1], 1),
            lambda x, y: torch.hstack([x, x]),
            lambda x, y: torch.vstack([x, y]),
            lambda x, y: x.roll(1, 0),
            lambda x, y: x.roll((1, -2), (0, 1)),
            lambda x, y: x.roll(5),
            lambda x, y: torch.meshgrid(x[0], y[:, 0], indexing="ij"),
            lambda x, y: torch.meshgrid(x[0], y[:, 0], indexing="xy"),
            lambda x, y: torch.broadcast_tensors(x[:1], y)[0],
            lambda x, y: F.pad(x, (1, 2)),
            lambda x, y: F.pad(x, (0, 1, 2, 0), value=3),
            lambda x, y: F.pad(x, (-1, -1)),
            lambda x, y: F.pad(x[None], (1, 2), mode="reflect"),
            lambda x, y: F.pad(x[None], (2, 1), mode="replicate"),
            lambda x, y: F.pad(x[None], (1, 1), mode="circular"),
            lambda x, y: (
                torch.slice_scatter(x, y[:, :2], 1, 1, 3) if False else torch.slice_scatter(x, x[:, :2], 1, 1, 3)
            ),
            lambda x, y: torch.slice_scatter(x, x[:, :2] * 9, 1, 0, 4, 2),
            lambda x, y: torch.select_scatter(x, x[:, 0] * 9, 1, 2),
            lambda x, y: torch.select_scatter(x, x[0] * 9, 0, -1),
            lambda x, y: x.diff(),
            lambda x, y: x.diff(dim=0, prepend=y[:1]),
        ],
        (x, y),
    )
    z = torch.arange(64.0).reshape(1, 4, 4, 4)
    many(
        "blocks",
        [lambda z: F.pixel_shuffle(z, 2), lambda z: F.pixel_unshuffle(z, 2), lambda z: F.channel_shuffle(z, 2)],
        (z,),
    )


@case
def reduce():
    x, b = torch.randn(2, 3, 4), torch.tensor([[True, False], [False, False]])
    many(
        "reduce",
        [
            lambda x, b: x.sum(),
            lambda x, b: x.sum(1),
            lambda x, b: x.sum((0, 2), keepdim=True),
            lambda x, b: x.mean(-1),
            lambda x, b: x.mean(),
            lambda x, b: x.prod(2),
            lambda x, b: x.amax((1, 2)),
            lambda x, b: x.amin(0, keepdim=True),
            lambda x, b: x.max(),
            lambda x, b: x.max(1),
            lambda x, b: x.min(2, keepdim=True),
            lambda x, b: x.argmax(),
            lambda x, b: x.argmax(1),
            lambda x, b: x.argmin(2, keepdim=True),
            lambda x, b: b.any(),
            lambda x, b: b.any(1),
            lambda x, b: b.all(0),
            lambda x, b: torch.count_nonzero(b, 0),
            lambda x, b: x.var(),
            lambda x, b: x.var(1),
            lambda x, b: x.var(2, correction=0),
            lambda x, b: x.std(1, keepdim=True),
            lambda x, b: torch.var_mean(x, 1),
            lambda x, b: torch.std_mean(x, (1, 2)),
            lambda x, b: x.norm(),
            lambda x, b: torch.linalg.vector_norm(x, 1, 2),
            lambda x, b: x.norm(3, 1),
            lambda x, b: torch.linalg.vector_norm(x, float("inf"), 2),
            lambda x, b: F.normalize(x, dim=1),
            lambda x, b: x.logsumexp(2),
            lambda x, b: x.cumsum(1),
            lambda x, b: b.cumsum(0),
            lambda x, b: x.topk(2, 2),
            lambda x, b: x.topk(2, 1, largest=False),
            lambda x, b: x.sort(2),
            lambda x, b: x.sort(1, descending=True),
            lambda x, b: x.argsort(2),
            lambda x, b: torch.sum(x, 1, dtype=torch.float64),
            lambda x, b: torch.max(x, x * 0),
            lambda x, b: x.softmax(1, dtype=torch.float64),
            lambda x, b: x[0, 0, 0].sum(0),
        ],
        (x, b),
    )


@case
def conv():
    x1, x2, x3 = torch.randn(2, 4, 9), torch.randn(2, 4, 8, 7), torch.randn(1, 2, 4, 5, 4)
    parts = {
        "a": nn.Conv2d(4, 6, 3, padding=1),
        "b": nn.Conv2d(4, 4, (3, 2), stride=2, groups=4, bias=False),
        "c": nn.Conv1d(4, 5, 3, dilation=2, padding="same"),
        "d": nn.Conv3d(2, 3, 2),
        "e": nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        "f": nn.ConvTranspose1d(4, 2, 4, groups=2),
        "g": nn.Conv2d(4, 3, 3, padding="valid"),
        "h": nn.Conv2d(4, 3, 4, padding="same"),
    }
    many(
        "conv",
        [
            lambda m, x1, x2, x3: m.a(x2),
            lambda m, x1, x2, x3: m.b(x2),
            lambda m, x1, x2, x3: m.c(x1),
            lambda m, x1, x2, x3: m.d(x3),
            lambda m, x1, x2, x3: m.e(x2),
            lambda m, x1, x2, x3: m.f(x1),
            lambda m, x1, x2, x3: m.g(x2),
            lambda m, x1, x2, x3: m.h(x2),
            lambda m, x1, x2, x3: m.a(x2[0]),
        ],
        (x1, x2, x3),
        parts,
    )


@case
def norm():
    x, y = torch.randn(2, 4, 5, 3), torch.randn(3, 4)
    bn, bn1 = nn.BatchNorm2d(4), nn.BatchNorm1d(4, affine=False)
    for part in (bn, bn1):
        part.running_mean.uniform_(-1, 1)
        part.running_var.uniform_(0.5, 2)
    parts = {
        "a": bn,
        "b": bn1,
        "c": nn.LayerNorm((5, 3)),
        "d": nn.LayerNorm(3, elementwise_affine=False),
        "e": nn.GroupNorm(2, 4),
        "f": nn.InstanceNorm2d(4, affine=True),
        "g": nn.InstanceNorm2d(4),
        "h": nn.RMSNorm(3),
        "i": nn.GroupNorm(4, 4, affine=False),
        "j": nn.LayerNorm(3, bias=False),
    }
    for part in parts.values():
        for weight in part.parameters():
            nn.init.uniform_(weight, 0.5, 1.5)
    many(
        "norm",
        [
            lambda m, x, y: m.a(x),
            lambda m, x, y: m.b(y),
            lambda m, x, y: m.c(x),
            lambda m, x, y: m.d(x),
            lambda m, x, y: m.e(x),
            lambda m, x, y: m.f(x),
            lambda m, x, y: m.g(x),
            lambda m, x, y: m.h(x),
            lambda m, x, y: m.i(x),
            lambda m, x, y: m.j(x),
            lambda m, x, y: F.local_response_norm(x, 3),
        ],
        (x, y),
        parts,
    )


@case
def pool():
    x, y, z = torch.randn(1, 2, 7, 6), torch.randn(2, 3, 9), torch.randn(1, 2, 4, 4, 6)
    many(
        "pool",
        [
            lambda x, y, z: F.max_pool2d(x, 2),
            lambda x, y, z: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
            lambda x, y, z: F.max_pool2d(x, 2, 1, dilation=2),
            lambda x, y, z: F.max_pool1d(y, 3),
            lambda x, y, z: F.max_pool3d(z, 2),
            lambda x, y, z: F.avg_pool2d(x, 3, 2, 1),
            lambda x, y, z: F.avg_pool2d(x, (2, 3), count_include_pad=False, padding=(1, 1)),
            lambda x, y, z: F.avg_pool2d(x, 2, divisor_override=3),
            lambda x, y, z: F.avg_pool1d(y, 3, 2),
            lambda x, y, z: F.avg_pool3d(z, 2),
            lambda x, y, z: F.adaptive_avg_pool2d(x, 1),
            lambda x, y, z: F.adaptive_avg_pool2d(x, (3, 4)),
            lambda x, y, z: F.adaptive_avg_pool2d(x, (7, 3)),
            lambda x, y, z: F.adaptive_avg_pool1d(y, 3),
            lambda x, y, z: F.adaptive_max_pool2d(x, 1),
            lambda x, y, z: F.adaptive_avg_pool3d(z, 2),
            lambda x, y, z: F.avg_pool2d(x[0], 2),
        ],
        (x, y, z),
    )


@case
def matmul():
    a, b, v = torch.randn(3, 4), torch.randn(2, 4, 5), torch.randn(4)
    many(
        "matmul",
        [
            lambda m, a, b, v: m.l(a),
            lambda m, a, b, v: m.l(v),
            lambda m, a, b, v: m.l(b.mT),
            lambda m, a, b, v: a @ b,
            lambda m, a, b, v: a @ v,
            lambda m, a, b, v: v @ b,
            lambda m, a, b, v: v @ v,
            lambda m, a, b, v: torch.mm(a, b[0]),
            lambda m, a, b, v: torch.bmm(b.mT, b),
            lambda m, a, b, v: torch.addmm(a[:, :3], a, a.t(), beta=0.5, alpha=2),
            lambda m, a, b, v: torch.baddbmm(b[:, :1, :], b.mT, b, alpha=2),
            lambda m, a, b, v: torch.outer(v, v),
            lambda m, a, b, v: torch.dot(v, v),
            lambda m, a, b, v: torch.addmv(a[:, 0], a, v),
            lambda m, a, b, v: m.n(a),
        ],
        (a, b, v),
        {"l": nn.Linear(4, 3), "n": nn.Linear(4, 2, bias=False)},
    )


@case
def attention():
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 6, 8), torch.randn(2, 4, 6, 8)
    mask = torch.rand(5, 6) > 0.4
    mask[2] = False
    many(
        "attention",
        [
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v),
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask.float(), scale=0.3),
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True),
        ],
        (q, k, v, mask),
    )
    x = torch.randn(2, 5, 16)
    parts = {
        "a": nn.MultiheadAttention(16, 4, batch_first=True),
        "b": nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
    }
    many("layers", [lambda m, x: m.a(x, x, x)[0], lambda m, x: m.a(x, x, x), lambda m, x: m.b(x)], (x,), parts)


@case
def resize():
    x, g = torch.randn(1, 2, 4, 5), torch.rand(1, 3, 4, 2) * 2.4 - 1.2
    many(
        "resize",
        [
            lambda x, g: F.interpolate(x, scale_factor=2),
            lambda x, g: F.interpolate(x, size=(7, 3)),
            lambda x, g: F.interpolate(x, size=(7, 9), mode="bilinear"),
            lambda x, g: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True),
            lambda x, g: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
            lambda x, g: F.interpolate(x, size=(8, 10), mode="bicubic"),
            lambda x, g: F.interpolate(x, size=(6, 7), mode="nearest-exact"),
            lambda x, g: F.interpolate(x[0], scale_factor=2, mode="linear"),
            lambda x, g: F.interpolate(x[None], scale_factor=(1, 2, 2), mode="trilinear"),
            lambda x, g: F.grid_sample(x, g, align_corners=False),
            lambda x, g: F.grid_sample(x, g, mode="nearest", padding_mode="border", align_corners=True),
        ],
        (x, g),
        core=False,
    )


@case
def rnn():
    x = torch.randn(3, 5, 4)
    kwargs = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    parts = {
        "a": nn.LSTM(4, 3, **kwargs),
        "b": nn.GRU(4, 3, **kwargs),
        "c": nn.RNN(4, 3),
        "d": nn.RNN(4, 3, nonlinearity="relu", bias=False),
        "e": nn.LSTM(4, 3, bias=False),
        "f": nn.LSTMCell(4, 3),
        "g": nn.GRUCell(4, 3),
    }
    many(
        "rnn",
        [
            lambda m, x: (m.a(x)[0], *m.a(x)[1]),
            lambda m, x: m.b(x),
            lambda m, x: m.c(x),
            lambda m, x: m.d(x)[0],
            lambda m, x: m.e(x[0])[0],
            lambda m, x: m.f(x[0]),
            lambda m, x: m.g(x[0]),
        ],
        (x,),
        parts,
        core=False,
    )


@case
def index():
    x, i = torch.randn(4, 5, 3), torch.tensor([[2, 0], [3, 1]])
    mask = torch.tensor([True, False, True, False])
    many(
        "index",
        [
            lambda m, x, i, mask: m.e(i),
            lambda m, x, i, mask: x.index_select(0, i[0]),
            lambda m, x, i, mask: torch.gather(x, 0, i[:, :, None]),
            lambda m, x, i, mask: torch.take(x, i),
            lambda m, x, i, mask: torch.take_along_dim(x, i[:, :1, None], 0),
            lambda m, x, i, mask: x[i],
            lambda m, x, i, mask: x[:, i],
            lambda m, x, i, mask: x[i, i],
            lambda m, x, i, mask: x[:, i, i % 3],
            lambda m, x, i, mask: x[i, :, i % 3],
            lambda m, x, i, mask: x[i, 1],
            lambda m, x, i, mask: x[-i],
            lambda m, x, i, mask: x[mask],
            lambda m, x, i, mask: torch.masked_select(x, x > 0),
            lambda m, x, i, mask: torch.nonzero(mask),
            lambda m, x, i, mask: F.one_hot(i, 4),
            lambda m, x, i, mask: x[0].scatter(0, i, 7.0),
            lambda m, x, i, mask: x[0].scatter(1, i % 3, x[1]),
            lambda m, x, i, mask: x[0].scatter_add(0, i, x[1]),
            lambda m, x, i, mask: x[0].scatter_reduce(0, i, x[1], "amax"),
            lambda m, x, i, mask: x.index_add(0, i[0], x[:2], alpha=2),
            lambda m, x, i, mask: x.index_copy(1, i[0], x[:, :2] * 2),
            lambda m, x, i, mask: x.index_fill(2, i[0] % 2, 9.0),
            lambda m, x, i, mask: x.index_put((i,), x[0]),
            lambda m, x, i, mask: x.index_put((i, i), torch.tensor(1.0)),
            lambda m, x, i, mask: x.index_put((i[0],), x[:2], accumulate=True),
            lambda m, x, i, mask: x.index_put((mask,), torch.tensor(5.0)),
            lambda m, x, i, mask: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])),
            lambda m, x, i, mask: torch.bucketize(i, torch.tensor([0, 1, 2]), right=True),
            lambda m, x, i, mask: torch.isin(i, torch.tensor([0, 3])),
            lambda m, x, i, mask: x.masked_scatter(mask[:, None, None], x.flatten()),
        ],
        (x, i, mask),
        {"e": nn.Embedding(6, 3)},
    )


@case
def create():
    x = torch.randn(2, 3)
    many(
        "create",
        [
            lambda x: torch.arange(5) + x.sum().long() * 0,
            lambda x: x + torch.arange(3),
            lambda x: x + torch.arange(0.5, 2, 0.5),
            lambda x: torch.arange(8, 2, -2) * x.size(0),
            lambda x: torch.full((2, 3), 1.5) + x,
            lambda x: torch.zeros(2, 1) + x,
            lambda x: torch.ones(3) * x,
            lambda x: torch.zeros_like(x) + x,
            lambda x: torch.ones_like(x),
            lambda x: torch.full_like(x, 2),
            lambda x: x.new_zeros(4),
            lambda x: x.new_ones((2, 2)),
            lambda x: x.new_full((3,), 7),
            lambda x: torch.linspace(0, 1, 3) + x,
            lambda x: torch.eye(3) + x[:1],
            lambda x: torch.eye(2, 3) * x,
            lambda x: torch.tensor([1.0, 2.0, 3.0]) + x,
            lambda x: torch.zeros(3, dtype=torch.int32) + 1,
            lambda x: torch.scalar_tensor(2.0) * x,
            lambda x: torch.arange(3, dtype=torch.float64),
        ],
        (x,),
    )


class Symbols(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, y):
        n, t = x.shape[0], x.shape[1]
        a = self.linear(x).reshape(n * t, 2, -1)
        b = a.view(n, t, 2, 2).transpose(1, 2).flatten(2)
        c = torch.arange(t) + torch.zeros(n, t, dtype=torch.int64) * (n // 2)
        d = x[:, : t - 1] + x[:, 1:]
        e = torch.cat([x, y], 1).mean(1) * (t + n) / (n - 0.5)
        f = torch.full((t, n), n % 3)
        return a, b, c, d, e, f, x.expand(2, n, t, 4).sum(0), F.pad(x, (0, 0, t // 2, 1)), x.var(1), y.chunk(2, 2)[1]


@case
def symbols():
    n, t, s = (torch.export.Dim(name, min=low, max=64) for name, low in (("n", 2), ("t", 3), ("s", 3)))
    write_case(
        "symbols",
        Symbols(),
        (torch.randn(2, 6, 4), torch.randn(2, 3, 4)),
        ({0: n, 1: t}, {0: n, 1: s}),
        [(torch.randn(3, 5, 4), torch.randn(3, 4, 4)), (torch.randn(5, 3, 4), torch.randn(5, 7, 4))],
    )


class InPlace(nn.Module):
    def forward(self, x):
        y = x + 1
        y.mul_(2).relu_()
        z = y.clone()
        z.clamp_(max=3.0)
        z += y
        z.masked_fill_(z > 5, 0.0)
        w = torch.zeros(2, 3)
        w.fill_(4.0)
        w.copy_(z)
        with torch.no_grad():
            v = torch.sin(w)
        u = torch.zeros_like(x)
        u.index_put_((torch.tensor([1]),), x[0])
        with torch.autocast("cpu", enabled=False):
            v = v * 2
        return y, z, w.sub_(1), v, u


@case
def inplace():
    write_case("inplace", InPlace(), (torch.randn(2, 3),))


class Tied(nn.Module):
    """Tied weights, a strided weight, a constant, an integer and None beside the tensors, a number as an output."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("turned", torch.randn(4, 3).t())
        self.register_buffer("table", torch.randn(2, 2), persistent=False)

    def forward(self, x, scale: int, nothing=None):
        y = self.head(self.embed(x)) @ torch.ones(5, 4) * scale
        return y @ self.turned.t(), self.table * torch.tensor([[1.0, 2.0]]), x.shape[0]


@case
def weights():
    module = Tied().eval()
    x = torch.tensor([[1, 2], [4, 0], [3, 3]])
    with torch.no_grad():
        program = torch.export.export(
            module, (x, 3, None), dynamic_shapes={"x": {0: torch.export.Dim.AUTO}, "scale": None, "nothing": None}
        )
        outputs = module(x, 3, None)
    for name, data in (("weights.saved", save(program)), ("weights", stripped(save(program)))):
        (GOOD / name).mkdir(parents=True)
        (GOOD / name / "model.pt2").write_bytes(data)
        write_set(GOOD / name, 0, [x], [*outputs[:2], torch.tensor(outputs[2])])


# ---- archives that must be refused ----


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x).relu()


class Random(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Sparse(nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x)


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count.add_(1)
        return x + self.count


class StaleView(nn.Module):
    def forward(self, x):
        y = x + 1
        row = y[0]
        y.mul_(2)
        return row + y


def bad():
    """name → bytes; what the sentence must say is in tests/unit/test_torch.c."""
    good = entries_of(stripped(save(torch.export.export(Small().eval(), (torch.randn(1, 3),)))))

    def with_program(change):
        program = json.loads(good["models/model.json"])
        change(program)
        return zip_bytes({**good, "models/model.json": json.dumps(program).encode()})

    def with_config(change):
        config = json.loads(good["data/weights/model_weights_config.json"])
        change(config["config"])
        return zip_bytes({**good, "data/weights/model_weights_config.json": json.dumps(config).encode()})

    def graph(program):
        return program["graph_module"]["graph"]

    whole = zip_bytes(good)
    without = {name: content for name, content in good.items() if name != "data/weights/weight_0"}
    files = {
        "cut": whole[: len(whole) // 2],
        "cut-end": whole[:-10],
        "empty-zip": b"PK\5\6" + bytes(18),
        "no-program": zip_bytes({n: c for n, c in good.items() if not n.startswith("models/")}),
        "two-programs": zip_bytes({**good, "models/other.json": good["models/model.json"]}),
        "no-format": zip_bytes({n: c for n, c in good.items() if n != "archive_format"}),
        "other-format": zip_bytes({**good, "archive_format": b"pt3"}),
        "big-endian": zip_bytes({**good, "byteorder": b"big"}),
        "missing-weight": zip_bytes(without),
        "short-weight": zip_bytes({**good, "data/weights/weight_0": b"1234"}),
        "compressed": zip_bytes(good, zipfile.ZIP_DEFLATED),
        "damaged-weight": whole.replace(good["data/weights/weight_0"], bytes(24)),
        "no-json": zip_bytes({**good, "models/model.json": b"{"}),
        "json-list": zip_bytes({**good, "models/model.json": b"[]"}),
        "deep-json": zip_bytes({**good, "models/model.json": b"[" * 100000}),
        "same-name": whole.replace(b"data/weights/weight_1", b"data/weights/weight_0"),
        "path-trick": zip_bytes({**without, "data/weights/../weight_0": good["data/weights/weight_0"]}),
        "torchscript": zip_bytes({"constants.pkl": b"\x80\2.", "code/a.py": b""}),
        "pickle-zip": zip_bytes({"data.pkl": b"\x80\2.", "version": b"3"}),
        "pickle": b"\x80\2}q\0.",
        "schema": with_program(lambda p: p["schema_version"].update(major=9)),
        "cycle": with_program(lambda p: graph(p)["nodes"].reverse()),
        "undefined": with_program(
            lambda p: graph(p)["nodes"][0]["inputs"][0]["arg"]["as_tensor"].update(name="nobody")
        ),
        "twice": with_program(lambda p: graph(p)["nodes"].append(graph(p)["nodes"][0])),
        "no-meta": with_program(lambda p: graph(p)["tensor_values"].pop("linear")),
        "control-name": with_program(lambda p: graph(p)["nodes"][0].update(name="a\nb")),
        "wrong-type": with_program(
            lambda p: graph(p)["tensor_values"]["relu"].update(dtype=5)
            or graph(p)["tensor_values"]["relu"].update(sizes=[{"as_int": 7}, {"as_int": 7}])
        ),
        "huge-dims": with_program(
            lambda p: graph(p)["tensor_values"]["x"].update(sizes=[{"as_int": 2**62}, {"as_int": 2**62}])
        ),
        "negative-dim": with_program(
            lambda p: graph(p)["tensor_values"]["x"].update(sizes=[{"as_int": -1}, {"as_int": 3}])
        ),
        "many-dims": with_program(lambda p: graph(p)["tensor_values"]["x"].update(sizes=[{"as_int": 1}] * 9)),
        "sparse": with_program(lambda p: graph(p)["tensor_values"]["x"].update(layout=1)),
        "hop": with_program(lambda p: graph(p)["nodes"][0].update(target="torch.ops.higher_order.map_impl")),
        "custom": with_program(lambda p: graph(p)["nodes"][0].update(target="torch.ops.mine.op.default")),
        "huge-weight": with_config(
            lambda c: c["linear.weight"]["tensor_meta"].update(
                sizes=[{"as_int": 2**40}, {"as_int": 3}], strides=[{"as_int": 0}, {"as_int": 1}]
            )
        ),
        "far-weight": with_config(
            lambda c: c["linear.weight"]["tensor_meta"].update(strides=[{"as_int": 2**62}, {"as_int": 2**62}])
        ),
        "offset-weight": with_config(
            lambda c: c["linear.weight"]["tensor_meta"].update(storage_offset={"as_int": 2**62})
        ),
        "pickled-weight": with_config(lambda c: c["linear.weight"].update(use_pickle=True)),
        "unlisted-weight": with_config(lambda c: c.pop("linear.bias")),
        "other-shape": with_config(lambda c: c["linear.bias"]["tensor_meta"].update(sizes=[{"as_int": 1}])),
        "random": stripped(save(torch.export.export(Random(), (torch.ones(2),)))),
        "inverse": stripped(save(torch.export.export(Sparse(), (torch.eye(2),)))),
        "state": stripped(save(torch.export.export(Stateful(), (torch.ones(2),)))),
        "stale-view": stripped(save(torch.export.export(StaleView(), (torch.ones(2, 2),)))),
        "training": stripped(
            save(torch.export.export(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train(), (torch.ones(2, 2),)))
        ),
    }
    for name, content in files.items():
        BAD.mkdir(parents=True, exist_ok=True)
        (BAD / f"{name}.pt2").write_bytes(content)


# ---- seeds of fuzz/corpus/torch: an archive, and programs by themselves, whose weights are inputs ----


def seeds():
    corpus = TOP / "fuzz/corpus/torch"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    (corpus / "small.pt2").write_bytes(stripped(save(torch.export.export(Small().eval(), (torch.randn(1, 3),)))))
    x, i = torch.randn(2, 3, 4), torch.tensor([1, 0])
    n = torch.export.Dim("n", min=2, max=9)
    programs = {
        "view": (
            [
                lambda x: x.view(6, -1),
                lambda x: x.permute(1, 0, 2),
                lambda x: x.unbind(1),
                lambda x: x.split(2, 2),
                lambda x: x.unfold(2, 2, 1),
            ],
            (x,),
            None,
        ),
        "index": (
            [lambda x, i: x[i, :, i], lambda x, i: x.index_put((i,), x), lambda x, i: x[0].scatter(0, i[None], 1.0)],
            (x, i),
            None,
        ),
        "conv": (
            [lambda x, w: F.conv1d(x, w, padding=1), lambda x, w: F.conv_transpose1d(x, w[:, :3].transpose(0, 1))],
            (x, torch.randn(5, 3, 3)),
            None,
        ),
        "attention": (
            [lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), lambda x: F.adaptive_avg_pool1d(x, 3)],
            (x,),
            None,
        ),
        "symbol": ([lambda x: x.reshape(x.shape[0], -1), lambda x: torch.arange(x.shape[0] * 2)], (x,), {0: n}),
        "inplace": (
            [lambda x: x.clone().mul_(2), lambda x: torch.stack([x, x]), lambda x: x.max(1), lambda x: x.std(2)],
            (x,),
            None,
        ),
    }
    for name, (functions, inputs, dims) in programs.items():
        dynamic = (tuple(dims for _ in inputs),) if dims else None
        program = torch.export.export(Many(functions, {}), inputs, dynamic_shapes=dynamic)
        (corpus / f"{name}.json").write_bytes(entries_of(stripped(save(program)))["models/model.json"])

    class Gradless(nn.Module):
        def forward(self, x, w, u, h):
            with torch.no_grad():
                x = x * 2
            return torch.gru(x, h, [w, u], False, 1, 0.0, False, False, True)

    program = torch.export.export(Gradless(), (x, torch.randn(6, 4), torch.randn(6, 2), torch.zeros(1, 2, 2)))
    (corpus / "rnn.json").write_bytes(entries_of(stripped(save(program)))["models/model.json"])


def main():
    warnings.simplefilter("ignore")
    names = sys.argv[1:]
    for name, make in CASES.items():
        if names and name not in names:
            continue
        for old in [GOOD / name, *GOOD.glob(name + ".*")]:
            shutil.rmtree(old, ignore_errors=True)
        if name in ("join", "attention"):
            for other in ("blocks", "layers") if not names else ({"join": "blocks", "attention": "layers"}[name],):
                for old in [GOOD / other, *GOOD.glob(other + ".*")]:
                    shutil.rmtree(old, ignore_errors=True)
        torch.manual_seed(3)
        try:
            make()
        except Exception as problem:
            raise SystemExit(f"{name}: {problem}") from problem
    if not names or "bad" in names:
        shutil.rmtree(BAD, ignore_errors=True)
        torch.manual_seed(3)
        bad()
    if not names or "seeds" in names:
        torch.manual_seed(3)
        seeds()


if __name__ == "__main__":
    main()
