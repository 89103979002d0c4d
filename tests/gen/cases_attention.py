"""ai.onnx Attention: what the official node cases leave out, which are wrong inputs, empty ones, and mixed options."""
import numpy as np

SUMS = "the oracle computes in f32 and splits the scale in two"
TOLERANCE = {"Attention": (1e-5, 2e-6, SUMS)}


def floats(rng, *shape, dtype=np.float32):
    return np.asarray(rng.uniform(-1, 1, shape)).astype(dtype)


def build(add):
    rng = np.random.default_rng(57)
    op, heads = "Attention", dict(q_num_heads=2, kv_num_heads=1)
    q, k, v = floats(rng, 2, 3, 8), floats(rng, 2, 4, 4), floats(rng, 2, 4, 6)
    deep = [floats(rng, 2, 4, 3, 4), floats(rng, 2, 2, 5, 4), floats(rng, 2, 2, 5, 3)]
    for version in (23, 24, 25):
        add(op, version, [q, k, v], oracle="reference", **heads)
        add(op, version, deep, is_causal=1, softcap=1.5, oracle="reference")
    masks = [floats(rng, 5), floats(rng, 3, 5), floats(rng, 4, 3, 5), floats(rng, 2, 1, 3, 5), rng.uniform(0, 1, (3, 5)) > 0.4,
             floats(rng, 3, 2), np.zeros((3, 5), bool)]
    for mask in masks:
        for mode in (0, 1, 2, 3):
            if mode in (0, 3) or mask is masks[1]:
                add(op, 24, deep + [mask], n_out=[True, False, False, True], qk_matmul_output_mode=mode,
                    softcap=0.7 if mode else 0.0,  # mode 0 is before the cap, which the reference evaluator forgets
                    oracle="reference", name="mask")
    past = [floats(rng, 2, 2, 3, 4), floats(rng, 2, 2, 3, 3)]
    for causal in (0, 1):
        add(op, 23, deep + [None] + past, n_out=4, is_causal=causal, scale=0.2, oracle="reference", name="past")
    for lengths in ([5, 2], [0, 4], [1, 1]):
        for causal in (0, 1):
            add(op, 24, deep + [None, None, None, np.array(lengths, np.int64)], is_causal=causal, oracle="reference",
                name="lengths")
    for left, right in ((1, -1), (0, 1), (2, 0)):
        add(op, 25, deep + [masks[1]], left_window_size=left, right_window_size=right, oracle="reference", name="window")
    add(op, 23, [x.astype(np.float64) for x in deep], oracle="reference", name="f64", tol=(1e-7, 1e-8))
    empty = np.zeros((2, 4, 0, 4), np.float32)
    add(op, 23, [empty] + deep[1:], want=[np.zeros((2, 4, 0, 3), np.float32)], name="empty")
    # no key at all: nothing is seen
    add(op, 23, [deep[0], deep[1][:, :, :0], deep[2][:, :, :0]], want=[np.zeros((2, 4, 3, 3), np.float32)], name="no-keys")
    add.fails("INVALID", op, 23, [q, k, v])
    add.fails("SHAPE", op, 23, [q, k, v], q_num_heads=3, kv_num_heads=1)
    add.fails("SHAPE", op, 23, [q, k, v], q_num_heads=2, kv_num_heads=2)
    add.fails("SHAPE", op, 23, [q, k, deep[2]], **heads)
    add.fails("SHAPE", op, 23, [deep[0], deep[1], deep[2][:, :, :4]])
    add.fails("SHAPE", op, 23, [deep[0][:, :3]] + deep[1:])
    add.fails("SHAPE", op, 23, deep + [floats(rng, 2, 5)])
    add.fails("SHAPE", op, 23, deep + [floats(rng, 3, 6)])
    add.fails("INVALID", op, 23, deep + [None, past[0]])
    add.fails("SHAPE", op, 23, deep + [None, past[0], past[1][:, :, :2]])
    add.fails("INVALID", op, 24, deep + [None] + past + [np.array([1, 1], np.int64)])
    add.fails("SHAPE", op, 24, deep + [None, None, None, np.array([1], np.int64)])
    add.fails("TYPE", op, 24, deep + [None, None, None, np.array([1, 1], np.int32)])
    add.fails("INVALID", op, 25, deep, left_window_size=-2)
    add.fails("INVALID", op, 23, deep, qk_matmul_output_mode=4)
    add.fails("TYPE", op, 23, deep, softmax_precision=7)
    add.fails("TYPE", op, 23, [deep[0], deep[1].astype(np.float64), deep[2]])
