"""RNN, GRU, LSTM: directions, biases, lengths, initial states, peepholes, activations, clip, layouts."""
import numpy as np

from ops_cases import BF16

LIBM = "the oracle uses rational approximations of sigmoid and tanh, and f32 states"
TOLERANCE = {op: (5e-5, 5e-6, LIBM) for op in ("RNN", "GRU", "LSTM")}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SEQ, BATCH, INPUT, HIDDEN = 4, 2, 3, 2
DIRECTIONS = ("forward", "reverse", "bidirectional")


def floats(rng, shape, dtype=np.float32, scale=1.0):
    return np.asarray(rng.uniform(-scale, scale, shape)).astype(dtype)


def swap(v):
    return None if v is None else np.ascontiguousarray(np.swapaxes(v, 0, 1))


class Net:
    """Inputs of one network in layout 0."""

    def __init__(self, rng, op, direction, dtype=np.float32):
        d, g = (2 if direction == "bidirectional" else 1), GATES[op]
        self.op, self.attrs = op, dict(hidden_size=HIDDEN, direction=direction)
        self.x = floats(rng, (SEQ, BATCH, INPUT), dtype)
        self.w = floats(rng, (d, g * HIDDEN, INPUT), dtype)
        self.r = floats(rng, (d, g * HIDDEN, HIDDEN), dtype)
        self.b = floats(rng, (d, 2 * g * HIDDEN), dtype)
        self.h = floats(rng, (d, BATCH, HIDDEN), dtype)
        self.c = floats(rng, (d, BATCH, HIDDEN), dtype)
        self.p = floats(rng, (d, 3 * HIDDEN), dtype)
        self.lens = np.array([SEQ, 2], np.int32)

    def inputs(self, *use, batch_first=False):
        s = swap if batch_first else lambda v: v
        take = lambda name: getattr(self, name) if name in use else None
        row = [s(self.x), self.w, self.r, take("b"), take("lens"), s(take("h"))]
        if self.op == "LSTM":
            row += [s(take("c")), take("p")]
        while row[-1] is None:
            row.pop()
        return row


def variants(add, rng, op):
    n_out = 3 if op == "LSTM" else 2
    uses = [(), ("b",), ("b", "lens"), ("b", "h", "lens"), ("h",)]
    if op == "LSTM":
        uses += [("b", "h", "c"), ("b", "p"), ("b", "lens", "h", "c", "p")]
    for direction in DIRECTIONS:
        net = Net(rng, op, direction)
        for use in uses:
            add(op, 14, net.inputs(*use), n_out=n_out, name=direction, **net.attrs)
        add(op, 7, net.inputs("b"), n_out=n_out, name="old", **net.attrs)
        add(op, 14, net.inputs("b"), n_out=[True], name="y-only", **net.attrs)
        add(op, 14, net.inputs("b"), n_out=[False, True], name="last-only", **net.attrs)
        add(op, 14, net.inputs("b", "h"), n_out=n_out, clip=0.4, name="clip", **net.attrs)
        # layout 1 is layout 0 with two dims swapped: ONNX Runtime has no kernel for it
        layout(add, net, n_out)
    for dtype in (np.float16, BF16):
        # one rounding for the oracle's f32 outputs, states are not rounded in between
        net = Net(rng, op, "forward", dtype)
        add(op, 14, net.inputs("b"), n_out=n_out, name="type", tol=(1e-2, 1e-2) if dtype is BF16 else (1e-3, 1e-3), **net.attrs)


def layout(add, net, n_out):
    from ops_cases import make_model, ort_outputs
    use = ("b", "lens", "h", "c", "p")
    model, feeds = make_model(net.op, 14, "", net.inputs(*use), [True] * n_out, net.attrs)
    out = ort_outputs(model, feeds)
    y = np.ascontiguousarray(out[0].transpose(2, 0, 1, 3))
    add(net.op, 14, net.inputs(*use, batch_first=True), n_out=n_out, layout=1, want=[y] + [swap(o) for o in out[1:]],
        name="layout", **net.attrs)


def activations(add, rng):
    def run(op, names, **attrs):
        net = Net(rng, op, attrs.pop("direction", "forward"))
        add(op, 14, net.inputs("b", "h"), n_out=2, activations=names, name="-".join(names), **net.attrs, **attrs)

    for f in ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus"):
        run("RNN", [f])
    run("RNN", ["LeakyRelu"], activation_alpha=[0.2])
    run("RNN", ["ThresholdedRelu"], activation_alpha=[0.3])
    run("RNN", ["Elu"], activation_alpha=[0.7])
    run("RNN", ["HardSigmoid"], activation_alpha=[0.3], activation_beta=[0.4])
    run("RNN", ["HardSigmoid"])
    run("RNN", ["ScaledTanh"], activation_alpha=[1.2], activation_beta=[0.6])
    run("RNN", ["Affine"], activation_alpha=[0.5], activation_beta=[0.1])
    run("RNN", ["Tanh", "Relu"], direction="bidirectional")
    run("GRU", ["HardSigmoid", "Softsign"], activation_alpha=[0.3], activation_beta=[0.4])
    run("LSTM", ["Sigmoid", "Relu", "Softsign"])
    run("LSTM", ["HardSigmoid", "LeakyRelu", "Elu"], activation_alpha=[0.3, 0.2, 0.7], activation_beta=[0.4])
    run("LSTM", ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Relu", "Tanh"], direction="bidirectional")


def edges(add, rng):
    for before in (0, 1):
        for direction in DIRECTIONS:
            net = Net(rng, "GRU", direction)
            add("GRU", 14, net.inputs("b", "h", "lens"), n_out=2, linear_before_reset=before, name="linear-before-reset",
                **net.attrs)
    net = Net(rng, "LSTM", "forward")
    add("LSTM", 14, net.inputs("b", "h", "c"), n_out=3, input_forget=1, name="input-forget", **net.attrs)
    # no steps: the last states are the initial ones
    empty = np.zeros((0, BATCH, INPUT), np.float32)
    add("LSTM", 14, [empty] + net.inputs("b", "h", "c")[1:], n_out=3, name="empty",
        want=[np.zeros((0, 1, BATCH, HIDDEN), np.float32), net.h, net.c], **net.attrs)
    good = net.inputs("b", "lens", "h", "c", "p")
    for i in range(8):
        bad = list(good)
        bad[i] = np.concatenate([good[i], good[i]], axis=-1)
        add.fails("SHAPE", "LSTM", 14, bad, **net.attrs)
    add.fails("INVALID", "LSTM", 14, good, hidden_size=HIDDEN, direction="sideways")
    add.fails("LIMIT", "LSTM", 14, good, hidden_size=2**40)
    add.fails("LIMIT", "LSTM", 14, good, hidden_size=0)
    add.fails("INVALID", "LSTM", 14, good, layout=2, **net.attrs)
    add.fails("INVALID", "LSTM", 14, good, activations=["Tanh"], **net.attrs)
    add.fails("UNSUPPORTED", "LSTM", 14, good, activations=["Sigmoid", "Tanh", "Cosh"], **net.attrs)
    add.fails("TYPE", "LSTM", 14, good[:4] + [good[4].astype(np.int64)], **net.attrs)


def build(add):
    rng = np.random.default_rng(16)
    for op in ("RNN", "GRU", "LSTM"):
        variants(add, rng, op)
    activations(add, rng)
    edges(add, rng)
