#!/usr/bin/env python3
"""Well-known network shapes with seeded weights, for speed only: they compute nothing useful.

    bench/models.py FOLDER [NAME...]      writes FOLDER/NAME/model.onnx (opset 17, batch is the symbol "batch")

Topologies: resnet50 (He et al. 2015, v1.5 strides), mobilenetv2 (Sandler et al. 2018), bert-base (Devlin et al. 2018, 12 layers of
768, 12 heads; sequence is a symbol), unet (Ronneberger et al. 2015, base 32, 256x256), mlp (784-512-512-10), lstm (two
layers of 256); and two for batches of requests, whose weights are read from memory once for all: mlp-wide
(1024-4096-4096-1024), lstm-rows (two layers of 512, the batch in front). Weights are He-scaled, so that activations neither
vanish nor overflow. BatchNormalization is kept apart from the convolutions, as exporters leave it.
"""

import math
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Collects nodes and weights; each method appends and returns the name of its output."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.count = [], [], 0

    def const(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def ints(self, *values):
        return self.const(np.array(values, np.int64))

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        output = f"{kind.lower()}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def normal(self, *shape, fan):
        return self.const((self.rng.standard_normal(shape) * math.sqrt(2 / fan)).astype(np.float32))

    def conv(self, x, cin, cout, size=1, stride=1, groups=1):
        weight = self.normal(cout, cin // groups, size, size, fan=cin // groups * size * size)
        pad = size // 2
        return self.op("Conv", x, weight, kernel_shape=[size, size], strides=[stride, stride], pads=[pad] * 4, group=groups)

    def batch_norm(self, x, channels, gain=1.0):
        def near(middle):
            return self.const((middle + 0.05 * self.rng.standard_normal(channels)).astype(np.float32))

        variance = self.const((1 + 0.1 * self.rng.random(channels)).astype(np.float32))
        return self.op("BatchNormalization", x, near(gain), near(0.0), near(0.0), variance)

    def dense(self, x, cin, cout):
        return self.op("Gemm", x, self.normal(cout, cin, fan=cin), self.const(np.zeros(cout, np.float32)), transB=1)

    def linear(self, x, cin, cout):
        """MatMul + Add over the last axis, as transformers export it."""
        product = self.op("MatMul", x, self.normal(cin, cout, fan=2 * cin))
        return self.op("Add", product, self.const(np.zeros(cout, np.float32)))

    def save(self, folder, name, inputs, output, shape):
        infos = [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs]
        graph = helper.make_graph(self.nodes, name, infos, [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
                                  self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="bench")
        path = Path(folder) / name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def resnet50(folder):
    net = Net(50)
    x = net.op("Relu", net.batch_norm(net.conv("input", 3, 64, 7, 2), 64))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.op("Relu", net.batch_norm(net.conv(x, channels, width), width))
            y = net.op("Relu", net.batch_norm(net.conv(y, width, width, 3, stride), width))
            y = net.batch_norm(net.conv(y, width, 4 * width), 4 * width, gain=0.2)
            if not block:
                x = net.batch_norm(net.conv(x, channels, 4 * width, 1, stride), 4 * width)
                channels = 4 * width
            x = net.op("Relu", net.op("Add", y, x))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.save(folder, "resnet50", [("input", FLOAT, ["batch", 3, 224, 224])], net.dense(x, 2048, 1000), ["batch", 1000])


def mobilenetv2(folder):
    net = Net(2)

    def relu6(x):
        return net.op("Clip", x, net.const(np.float32(0)), net.const(np.float32(6)))

    x = relu6(net.batch_norm(net.conv("input", 3, 32, 3, 2), 32))
    channels = 32
    for expand, cout, repeats, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                          (6, 160, 3, 2), (6, 320, 1, 1)):
        for index in range(repeats):
            step, hidden = stride if index == 0 else 1, channels * expand
            y = relu6(net.batch_norm(net.conv(x, channels, hidden), hidden)) if expand > 1 else x
            y = relu6(net.batch_norm(net.conv(y, hidden, hidden, 3, step, hidden), hidden))
            y = net.batch_norm(net.conv(y, hidden, cout), cout)
            x = net.op("Add", x, y) if step == 1 and channels == cout else y
            channels = cout
    x = relu6(net.batch_norm(net.conv(x, 320, 1280), 1280))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.save(folder, "mobilenetv2", [("input", FLOAT, ["batch", 3, 224, 224])], net.dense(x, 1280, 1000), ["batch", 1000])


def bert_base(folder):
    net, hidden, heads = Net(12), 768, 12
    ones, zeros = net.const(np.ones(hidden, np.float32)), net.const(np.zeros(hidden, np.float32))

    def gelu(x):
        bent = net.op("Erf", net.op("Div", x, net.const(np.float32(math.sqrt(2)))))
        return net.op("Mul", net.op("Mul", x, net.op("Add", bent, net.const(np.float32(1)))), net.const(np.float32(0.5)))

    def split_heads(x, perm):
        return net.op("Transpose", net.op("Reshape", x, net.ints(0, 0, heads, hidden // heads)), perm=perm)

    def norm(x):
        return net.op("LayerNormalization", x, ones, zeros, axis=-1, epsilon=1e-12)

    words = net.const((0.05 * net.rng.standard_normal((30522, hidden))).astype(np.float32))
    places = net.const((0.05 * net.rng.standard_normal((512, hidden))).astype(np.float32))
    length = net.op("Gather", net.op("Shape", "input_ids"), net.ints(1))
    position = net.op("Slice", places, net.ints(0), length, net.ints(0))
    x = norm(net.op("Add", net.op("Gather", words, "input_ids"), position))
    mask = net.op("Unsqueeze", net.op("Cast", "attention_mask", to=FLOAT), net.ints(1, 2))
    mask = net.op("Mul", net.op("Sub", net.const(np.float32(1)), mask), net.const(np.float32(-10000)))
    for _ in range(12):
        q, k, v = (split_heads(net.linear(x, hidden, hidden), perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        score = net.op("Div", net.op("MatMul", q, k), net.const(np.float32(math.sqrt(hidden // heads))))
        mixed = net.op("MatMul", net.op("Softmax", net.op("Add", score, mask), axis=-1), v)
        mixed = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), net.ints(0, 0, hidden))
        x = norm(net.op("Add", net.linear(mixed, hidden, hidden), x))
        x = norm(net.op("Add", net.linear(gelu(net.linear(x, hidden, 4 * hidden)), 4 * hidden, hidden), x))
    shape = ["batch", "sequence"]
    return net.save(folder, "bert-base", [("input_ids", INT64, shape), ("attention_mask", INT64, shape)], x, [*shape, hidden])


def unet(folder):
    net, base = Net(32), 32

    def double(x, cin, cout):
        return net.op("Relu", net.conv(net.op("Relu", net.conv(x, cin, cout, 3)), cout, cout, 3))

    skips, x, channels = [], "input", 3
    for level in range(4):
        x = double(x, channels, base << level)
        channels = base << level
        skips.append((x, channels))
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x, channels = double(x, channels, base << 4), base << 4
    for skip, width in reversed(skips):
        x = net.op("ConvTranspose", x, net.normal(channels, width, 2, 2, fan=channels), kernel_shape=[2, 2], strides=[2, 2])
        x, channels = double(net.op("Concat", skip, x, axis=1), 2 * width, width), width
    return net.save(folder, "unet", [("input", FLOAT, ["batch", 3, 256, 256])], net.conv(x, base, 2),
                    ["batch", 2, 256, 256])


def mlp(folder):
    net = Net(784)
    x = net.op("Relu", net.dense("input", 784, 512))
    x = net.op("Relu", net.dense(x, 512, 512))
    return net.save(folder, "mlp", [("input", FLOAT, ["batch", 784])], net.dense(x, 512, 10), ["batch", 10])


def lstm(folder):
    """Input [time, batch, 64]; two layers of 256, then the last step through a dense layer."""
    net, x, width = Net(256), "input", 64
    for _ in range(2):
        weight, recurrent = net.normal(1, 1024, width, fan=2 * width), net.normal(1, 1024, 256, fan=2 * 256)
        y = net.op("LSTM", x, weight, recurrent, net.const(np.zeros((1, 2048), np.float32)), hidden_size=256)
        x, width = net.op("Squeeze", y, net.ints(1)), 256
    last = net.op("Gather", x, net.const(np.array(-1, np.int64)), axis=0)
    return net.save(folder, "lstm", [("input", FLOAT, ["time", "batch", 64])], net.dense(last, 256, 10),
                    ["batch", 10])


def mlp_wide(folder):
    net = Net(1024)
    x = net.op("Relu", net.dense("input", 1024, 4096))
    x = net.op("Relu", net.dense(x, 4096, 4096))
    return net.save(folder, "mlp-wide", [("input", FLOAT, ["batch", 1024])], net.dense(x, 4096, 1024), ["batch", 1024])


def lstm_rows(folder):
    """Input [batch, 16, 64]: the sequence is the second dim, so that requests can share a run."""
    net, size, width = Net(512), 512, 64
    x = net.op("Transpose", "input", perm=[1, 0, 2])
    for _ in range(2):
        weight, recurrent = net.normal(1, 4 * size, width, fan=2 * width), net.normal(1, 4 * size, size, fan=2 * size)
        y = net.op("LSTM", x, weight, recurrent, net.const(np.zeros((1, 8 * size), np.float32)), hidden_size=size)
        x, width = net.op("Squeeze", y, net.ints(1)), size
    last = net.op("Gather", x, net.const(np.array(-1, np.int64)), axis=0)
    return net.save(folder, "lstm-rows", [("input", FLOAT, ["batch", 16, 64])], net.dense(last, size, 10), ["batch", 10])


MODELS = {"resnet50": resnet50, "mobilenetv2": mobilenetv2, "bert-base": bert_base, "unet": unet, "mlp": mlp, "lstm": lstm,
          "mlp-wide": mlp_wide, "lstm-rows": lstm_rows}


def main(arguments):
    if not arguments or arguments[0].startswith("-") or any(name not in MODELS for name in arguments[1:]):
        print(f"usage: bench/models.py FOLDER [{'|'.join(MODELS)}]...", file=sys.stderr)
        return 2
    for name in arguments[1:] or MODELS:
        path = MODELS[name](arguments[0])
        print(f"{path} {path.stat().st_size / 2**20:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
