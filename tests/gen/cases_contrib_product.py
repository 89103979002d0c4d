"""Fused products of com.microsoft: transposes, factors, summands, activations, channels-last convolutions."""
import numpy as np

from ops_cases import C

MS = "com.microsoft"
SUMS = "the oracle multiplies and adds in f32, by blocks"
TOLERANCE = {op: (2e-5, 5e-6, SUMS) for op in ("FusedMatMul", "TransposeMatMul", "FusedGemm", "FusedConv", "NhwcConv",
                                               "NhwcFusedConv", "FusedMatMulActivation", "GemmFastGelu",
                                               "ConvTransposeWithDynamicPads")}


def floats(rng, *shape, dtype=np.float32):
    return np.asarray(rng.uniform(-1, 1, shape)).astype(dtype)


def swap(x):
    return np.ascontiguousarray(np.swapaxes(x, -1, -2))


def matmul(add, rng):
    a, b = floats(rng, 2, 3, 4), floats(rng, 2, 4, 5)
    for op in ("FusedMatMul", "TransposeMatMul"):
        for ta in (0, 1):
            for tb in (0, 1):
                add(op, 1, [swap(a) if ta else a, swap(b) if tb else b], domain=MS, transA=ta, transB=tb, alpha=0.5)
    add("FusedMatMul", 1, [floats(rng, 3, 4), floats(rng, 4, 2)], domain=MS, name="2d")
    add("FusedMatMul", 1, [floats(rng, 4), floats(rng, 2, 4, 2)], domain=MS, name="vector", transA=1)
    add("FusedMatMul", 1, [floats(rng, 2, 1, 3, 4), floats(rng, 3, 5, 4)], domain=MS, transB=1, name="broadcast")
    add("FusedMatMul", 1, [floats(rng, 3, 4, dtype=np.float64), floats(rng, 2, 4, dtype=np.float64)], domain=MS, transB=1,
        alpha=2.0, name="f64")
    # batch dims in the middle: [M, B1, B2, K]
    deep_a, deep_b = floats(rng, 3, 2, 2, 4), floats(rng, 4, 2, 2, 5)
    add("FusedMatMul", 1, [deep_a, floats(rng, 2, 2, 4, 5)], domain=MS, transBatchA=1, name="batch")
    add("FusedMatMul", 1, [floats(rng, 2, 2, 3, 4), deep_b], domain=MS, transBatchB=1, name="batch")
    add("FusedMatMul", 1, [floats(rng, 4, 2, 2, 3), floats(rng, 5, 2, 2, 4)], domain=MS, transBatchA=1, transBatchB=1,
        transA=1, transB=1, alpha=0.3, name="batch")
    # the oracle has these two on other devices only
    x, w, bias = floats(rng, 3, 4), floats(rng, 4, 2), floats(rng, 2)
    for name, fn in (("Relu", lambda v: np.maximum(v, 0)), ("Tanh", np.tanh)):
        add("FusedMatMulActivation", 1, [x, swap(w)], domain=MS, transB=1, alpha=2.0, activation=name, want=[fn(2 * (x @ w))])
    add("FusedMatMulActivation", 1, [x, w], domain=MS, activation="LeakyRelu", activation_alpha=0.2,
        want=[np.where(x @ w < 0, 0.2 * (x @ w), x @ w).astype(np.float32)])
    for extra in ([], [bias]):
        y = (x @ w + (bias if extra else 0)).astype(np.float64)
        add("GemmFastGelu", 1, [x, w] + extra, domain=MS,
            want=[(0.5 * y * (1 + np.tanh(0.7978845608 * (y + 0.044715 * y ** 3)))).astype(np.float32)])
    add("FusedMatMul", 1, [np.zeros((0, 3), np.float32), floats(rng, 3, 2)], domain=MS, name="empty",
        want=[np.zeros((0, 2), np.float32)])
    add.fails("SHAPE", "FusedMatMul", 1, [a, b], domain=MS, transA=1)
    add.fails("SHAPE", "FusedMatMul", 1, [floats(rng, 3, 2, 4), b], domain=MS, transB=1)
    add.fails("TYPE", "FusedMatMul", 1, [a.astype(np.int32), b.astype(np.int32)], domain=MS)
    add.fails("UNSUPPORTED", "FusedMatMulActivation", 1, [a, b], domain=MS, activation="Sine")


def gemm(add, rng):
    a, b, c = floats(rng, 3, 4), floats(rng, 4, 5), floats(rng, 5)
    for name, params in (("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("LeakyRelu", dict(activation_alpha=0.1)),
                         ("Elu", dict(activation_alpha=0.7)), ("Softplus", {}), ("Softsign", {}),
                         ("HardSigmoid", dict(activation_alpha=0.3, activation_beta=0.4))):
        add("FusedGemm", 1, [a, b, c], domain=MS, activation=name, alpha=1.5, beta=0.5, **params)
    add("FusedGemm", 1, [swap(a), swap(b)], domain=MS, activation="Relu", transA=1, transB=1)
    add.fails("SHAPE", "FusedGemm", 1, [a, b, floats(rng, 4)], domain=MS, activation="Relu")
    add.fails("UNSUPPORTED", "FusedGemm", 1, [a, b, c], domain=MS, activation="Sine")


def conv(add, rng):
    x, w, b = floats(rng, 1, 4, 5, 6), floats(rng, 6, 2, 3, 3), floats(rng, 6)
    z = floats(rng, 1, 6, 5, 6)
    same = dict(domain=MS, group=2, pads=[1, 1, 1, 1])
    for name, params in (("Relu", None), ("Sigmoid", None), ("Tanh", None), ("LeakyRelu", [0.1]), ("Clip", [-0.2, 0.3]),
                         ("HardSigmoid", [0.2, 0.5])):
        options = dict(same, activation=name, **({"activation_params": params} if params else {}))
        add("FusedConv", 1, [x, w, b], **options)
    add("FusedConv", 1, [x, w, b, z], activation="Relu", name="sum", **same)
    add("FusedConv", 1, [x, w, None, z], name="sum", **same)
    add("FusedConv", 1, [x, w], domain=MS, group=2, strides=[2, 1], activation="Relu")

    def last(t):
        return np.ascontiguousarray(np.moveaxis(t, 1, -1))
    # by a plain convolution: the oracle has these on other devices only
    import onnx
    from onnx import helper
    from onnx.reference import ReferenceEvaluator
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=2, pads=[1, 1, 1, 1], strides=[1, 2])
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, t.shape) for n, t in zip("xwb", (x, w, b))]
    graph = helper.make_graph([node], "conv", infos, [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)])
    y = ReferenceEvaluator(helper.make_model(graph)).run(None, dict(x=x, w=w, b=b))[0]
    options = dict(domain=MS, group=2, pads=[1, 1, 1, 1], strides=[1, 2])
    add("NhwcConv", 1, [last(x), w, b], want=[last(y)], **options)
    add("NhwcFusedConv", 1, [last(x), w, b], want=[last(np.maximum(y, 0))], activation="Relu", **options)
    z = floats(rng, *y.shape)
    add("NhwcFusedConv", 1, [last(x), w, b, last(z)], want=[last(np.tanh(y + z))], activation="Tanh", **options)
    add.fails("SHAPE", "FusedConv", 1, [x, w, b, z], activation="Relu", **same)
    add.fails("SHAPE", "NhwcConv", 1, [x, w, b], **options)
    add.fails("UNSUPPORTED", "FusedConv", 1, [x, w, b], activation="Sine", **same)


def deconv(add, rng):
    x, w, b = floats(rng, 1, 2, 4, 3), floats(rng, 2, 3, 3, 3), floats(rng, 3)
    for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 2]):
        add("ConvTransposeWithDynamicPads", 1, [x, w, C(pads), b], domain=MS, strides=[2, 2])
    add("ConvTransposeWithDynamicPads", 1, [x, w, C([1, 1, 1, 1])], domain=MS, strides=[2, 1], output_padding=[1, 0])
    add.fails("SHAPE", "ConvTransposeWithDynamicPads", 1, [x, w, C([0, 0, 0, 0]), floats(rng, 2)], domain=MS)


def build(add):
    rng = np.random.default_rng(53)
    matmul(add, rng)
    gemm(add, rng)
    conv(add, rng)
    deconv(add, rng)
