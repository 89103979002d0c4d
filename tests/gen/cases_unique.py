"""Unique over all types, flat and along axes, sorted and not; NaN, texts, complex numbers."""
import numpy as np

from ops_cases import BF16


def unsorted(y, first, inverse, count, axis):
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return np.take(y, order, axis or 0), first[order], rank[inverse], count[order]


def cases(add, x, name, axes=(None,), version=11):
    for axis in axes:
        for in_order in (1, 0):
            want = np.unique(x, True, True, True, axis=axis)
            want = (want[0], want[1], want[2].reshape(-1), want[3])
            if not in_order:
                want = unsorted(*want, axis)
            attrs = {} if axis is None else {"axis": axis}
            add("Unique", version, [x], n_out=4, sorted=in_order, name=name, want=want, **attrs)


def build(add):
    rng = np.random.default_rng(9)
    for dtype in (np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        cases(add, rng.integers(0, 5, (3, 4)).astype(dtype), np.dtype(dtype).name)
    for dtype in (np.float16, BF16, np.bool_):
        cases(add, rng.integers(0, 2, (3, 4)).astype(dtype), np.dtype(dtype).name, version=28)
    big = np.array([2**63 - 1, 2**63 - 2, -2**63, 2**63 - 1])
    cases(add, big, "big")
    cases(add, np.array([np.nan, 1, np.nan, -np.inf, 1], np.float32), "nan")
    cases(add, np.array(["b", "a", "", "ab", "a"], dtype=object), "text")
    x = rng.integers(0, 2, (4, 3, 2)).astype(np.float32)
    cases(add, x, "axis", axes=(0, 1, 2, -1))
    values, inverse = np.unique(x, return_inverse=True)
    add("Unique", 11, [x], n_out=[True, False, True], name="some", want=[values, inverse.reshape(-1)])
    add("Unique", 11, [x[:0]], n_out=4, name="empty", want=[np.zeros(0, np.float32)] + [np.zeros(0, np.int64)] * 3)
    add("Unique", 11, [np.array(3, np.int32)], n_out=4, name="scalar",
        want=[np.array([3], np.int32), np.array([0]), np.array([0]), np.array([1])])
    add.fails("SHAPE", "Unique", 11, [x], axis=3)
