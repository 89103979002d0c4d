"""Activation functions: attributes and their defaults, every float type, zero sizes, rank 0, NaN and infinities."""
import numpy as np

from cases_elementwise import EDGE, FLOATS, INTS, LIBM, floats, ints
from ops_cases import BF16, C

TOLERANCE = {op: (2e-6, 1e-6, LIBM) for op in
             ("Sigmoid", "Tanh", "Elu", "Celu", "Selu", "Softplus", "Softsign", "Mish", "Swish", "Gelu", "QuickGelu",
                 "HardSwish", "HardSigmoid")}

PLAIN = [("Relu", 14), ("LeakyRelu", 16), ("Sigmoid", 13), ("Tanh", 13), ("HardSigmoid", 6), ("HardSwish", 14), ("Elu", 6),
    ("Celu", 12),
         ("ThresholdedRelu", 10), ("Selu", 6), ("Softplus", 1), ("Softsign", 1), ("Shrink", 9), ("Mish", 18), ("Gelu", 20)]
WITH_ATTRS = [("LeakyRelu", 16, dict(alpha=0.3)), ("HardSigmoid", 6, dict(alpha=0.5, beta=0.1)), ("Elu", 6, dict(alpha=2.0)),
              ("Celu", 12, dict(alpha=2.0)), ("ThresholdedRelu", 10, dict(alpha=0.5)), ("Selu", 6, dict(alpha=2.0, gamma=3.0)),
              ("Shrink", 9, dict(lambd=1.5, bias=0.25)), ("Gelu", 20, dict(approximate="tanh")), ("Swish", 24, dict(alpha=0.7))]


def clip(add, rng):
    x = floats(rng, (3, 4))
    add("Clip", 6, [x], min=-1.0, max=0.5)
    add("Clip", 6, [x], min=0.0)
    add("Clip", 6, [EDGE], name="default")
    lo, hi = C(np.float32(-1).reshape(())), C(np.float32(0.5).reshape(()))
    for inputs in ([x], [x, lo], [x, None, hi], [x, lo, hi], [x, hi, lo], [EDGE, lo, hi], [np.float32(3).reshape(()), lo,
        hi], [np.zeros((0, 2), np.float32), lo, hi]):
        add("Clip", 13, inputs)
    for t in INTS:
        v = ints(rng, (6,), t)
        a, b = np.array(3, t), np.array(60, t)
        add("Clip", 13, [v, C(a), C(b)], want=[np.clip(v, a, b)], name="type")
    add("Clip", 13, [floats(rng, (5,), np.float16), C(np.array(-1, np.float16)), C(np.array(1, np.float16))], name="type")
    add("Clip", 13, [floats(rng, (5,), BF16), C(np.array(-1, BF16)), C(np.array(1, BF16))], name="type")
    add.fails("SHAPE", "Clip", 13, [x, np.zeros(2, np.float32)])
    add.fails("TYPE", "Clip", 13, [x, np.zeros((), np.int32)])


def prelu(add, rng):
    x = floats(rng, (2, 3, 4))
    for slope in ((), (1,), (4,), (3, 1), (2, 3, 4)):
        add("PRelu", 16, [x, floats(rng, slope)])
    add("PRelu", 6, [x, floats(rng, (3,))], name="channel")
    add("PRelu", 6, [x, floats(rng, (1,))], name="shared")
    v, s = np.array([-3, 0, 5], np.int32), np.array([2], np.int32)
    add("PRelu", 16, [v, s], want=[np.where(v < 0, v * s, v)], name="type")
    add.fails("SHAPE", "PRelu", 16, [x, floats(rng, (3,))])
    add.fails("SHAPE", "PRelu", 16, [floats(rng, (4,)), floats(rng, (2, 4))])


def build(add):
    rng = np.random.default_rng(2)
    for op, version in PLAIN:
        add(op, version, [floats(rng, (3, 7), low=-5, high=5)])
        add(op, version, [np.float32(-0.75).reshape(())], name="scalar")
        add(op, version, [np.zeros((2, 0), np.float32)], name="empty")
        # there the oracle gives NaN for 0 * inf, or loses NaN
        if op not in ("Selu", "HardSwish", "Shrink", "Mish", "ThresholdedRelu", "Celu"):
            want = None if op != "Relu" else [np.maximum(EDGE, 0)]
            add(op, version, [EDGE], name="edge", want=want, oracle="reference")
        for t in FLOATS[1:]:
            tol = {np.float64: (1e-6, 1e-7), np.float16: (2e-3, 1e-3), BF16: (1e-2, 1e-2)}[t]  # f64: the oracle works in f32
            add(op, version, [floats(rng, (6,), t)], name="type", tol=tol, dtypes=[{np.float64: "f64", np.float16: "f16",
                BF16: "bf16"}[t]])
    for op, version, attrs in WITH_ATTRS:
        add(op, version, [floats(rng, (2, 9), low=-4, high=4)], name="attributes", **attrs)
    add("Selu", 1, [floats(rng, (5,))], want=None, oracle="reference", name="old", tol=(1e-4, 1e-4))
    for t in INTS[:4]:
        v = ints(rng, (6,), t)
        add("Relu", 14, [v], want=[np.maximum(v, 0)], name="type")
    for t in INTS:
        v = np.array([0, 1, 2, 3, 100, 127], t)
        add("Shrink", 9, [v if t in (np.uint8, np.uint16, np.uint32, np.uint64) else v - 50], lambd=1.5, bias=1.0, name="whole")
    # a bias that leaves the range stops at its end
    add("Shrink", 9, [np.array([-120, 5, 120], np.int8)], lambd=0.5, bias=-100.0, name="end",
        want=[np.array([-128, 105, 127], np.int8)])
    add("Gelu", 1, [floats(rng, (7,))], domain="com.microsoft")
    add("QuickGelu", 1, [floats(rng, (7,))], domain="com.microsoft")
    # far arguments: neither overflow nor NaN
    far = np.array([-200, -100, -50, 50, 100, 200], np.float32)
    add("Softplus", 1, [far], want=[np.array([0, 3.783506e-44, 1.9287499e-22, 50, 100, 200], np.float32)], name="far",
        tol=(1e-5, 1e-40))
    add("Sigmoid", 13, [far], want=[np.array([0, 3.783506e-44, 1.9287499e-22, 1, 1, 1], np.float32)], name="far", tol=(1e-5, 1e-40))
    add("Mish", 18, [far], want=[np.array([0, 0, 0, 50, 100, 200], np.float32)], name="far", tol=(1e-5, 1e-20))
    clip(add, rng)
    prelu(add, rng)
    add.fails("TYPE", "Sigmoid", 13, [np.zeros(3, np.int32)])
    add.fails("FORMAT", "Gelu", 20, [np.zeros(3, np.float32)], approximate="fast")
