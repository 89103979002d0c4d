"""DeformConv: groups, offset groups, masks, padding, dilation; one to three spatial dims."""
import numpy as np

TOLERANCE = {"DeformConv": (1e-4, 1e-5, "the oracle multiplies and adds in f32, ours in f64")}


def case(add, space, kernel, channels, out, name="", group=1, offset_group=1, bias=True, mask=True, dtype=np.float32, **attrs):
    rng = np.random.default_rng(10)
    n = len(space)
    strides, pads, dilations = (attrs.get(k, d) for k, d in (("strides", [1] * n), ("pads", [0] * 2 * n), ("dilations", [1] * n)))
    size = [(space[d] + pads[d] + pads[n + d] - dilations[d] * (kernel[d] - 1) - 1) // strides[d] + 1 for d in range(n)]
    taps = int(np.prod(kernel))
    draw = lambda *shape: rng.uniform(-1, 1, shape).astype(dtype)
    inputs = [draw(2, channels, *space), draw(out, channels // group, *kernel), draw(2, offset_group * taps * n, *size)]
    inputs[2] *= dtype(1.5)
    inputs += [draw(out) if bias else None] + ([np.abs(draw(2, offset_group * taps, *size))] if mask else [])
    add("DeformConv", 19, inputs[:4] if bias and not mask else inputs if mask else inputs[:3], name=name, group=group,
        offset_group=offset_group, oracle="reference", **attrs)


def build(add):
    case(add, [5, 6], [3, 3], 2, 3)
    case(add, [5, 6], [3, 2], 2, 3, pads=[1, 0, 1, 1], strides=[2, 1], name="pads")
    case(add, [7, 6], [2, 2], 4, 4, group=2, offset_group=2, dilations=[2, 1], name="groups")
    case(add, [5, 5], [2, 2], 4, 2, offset_group=4, bias=False, name="no_bias")
    case(add, [5, 5], [2, 2], 4, 2, mask=False, name="no_mask")
    case(add, [4, 4], [2, 2], 2, 2, bias=False, mask=False, dtype=np.float64, name="f64")
    x, w = np.ones((1, 2, 4, 4), np.float32), np.ones((2, 2, 2, 2), np.float32)
    add("DeformConv", 19, [x[:0], w, np.zeros((0, 8, 3, 3), np.float32)], name="empty", want=[np.zeros((0, 2, 3, 3), np.float32)])
    # offsets that are no numbers or far outside read zero
    far = np.full((1, 8, 3, 3), np.nan, np.float32)
    far[:, :4] = 1e30
    add("DeformConv", 19, [x, w, far], name="far", want=[np.zeros((1, 2, 3, 3), np.float32)])
    add.fails("SHAPE", "DeformConv", 19, [x, w, np.zeros((1, 8, 3, 2), np.float32)])
    add.fails("SHAPE", "DeformConv", 19, [x, w, np.zeros((1, 7, 3, 3), np.float32)])
    add.fails("SHAPE", "DeformConv", 19, [x, w, np.zeros((1, 8, 3, 3), np.float32)], group=2)
    add.fails("INVALID", "DeformConv", 19, [x, w, np.zeros((1, 8, 3, 3), np.float32)], offset_group=0)
