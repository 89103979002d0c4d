"""Einsum: products, traces, sums, ellipses, implicit outputs, one to four operands; numpy is the oracle."""
import numpy as np

from ops_cases import BF16

TOLERANCE = {"Einsum": (1e-5, 1e-5, "numpy sums in f32, ours in f64")}
DIMS = dict(zip("abcdefhijklmnqwABZ", (2, 3, 2, 4, 2, 3, 2, 3, 4, 2, 3, 2, 5, 3, 4, 2, 3, 2)))
EQUATIONS = [
    "ij,jk->ik", "ij,jk", "ij,jk->ki", "bij,bjk->bik", "bhqd,bhkd->bhqk", "bhqk,bhkd->bqhd", "ij->ji", "ij->", "ij->i", "ij->j",
    "ii->i", "ii", "iij->j", "i,j->ij", "i,i->", "i,i->i", "ij,ij->ij", "ij,ij->", "ba", "aB", "abc,cd,de->abe", "a,b,c,d->dcba",
    "ij,jk,kl->il", "ij,kl->", "bhwc,hkc->bhwk", "abcd,aefd->bcef", "ijk,ilm,njm,nlk,abc->", "aab,b->a", "abc,c->ab", "iZ,Zj -> ij",
]
ELLIPSES = [("...ij,...jk->...ik", (2, 3, 4), (2, 4, 2)), ("...ij,...jk->...ik", (3, 4), (2, 4, 2)), ("...", (2, 3), None),
            ("...i->...", (2, 3), None), ("...ii->...i", (2, 3, 3), None), ("i...->i...", (2, 3), None), ("...,...", (2, 1), (3,)),
            ("b...ij,...->b...j", (2, 3, 2, 4), (3,)), ("...ij->ji...", (2, 3, 4), None), ("a...b,b->...a", (2, 3, 4), (4,))]


def build(add):
    rng = np.random.default_rng(11)
    draw = lambda shape: rng.uniform(-1, 1, shape).astype(np.float32)
    for equation in EQUATIONS:
        terms = equation.replace(" ", "").split("->")[0].split(",")
        arrays = [draw([DIMS[c] for c in term]) for term in terms]
        add("Einsum", 12, arrays, equation=equation, want=[np.einsum(equation, *arrays)])
    for equation, *shapes in ELLIPSES:
        arrays = [draw(s) for s in shapes if s]
        add("Einsum", 12, arrays, equation=equation, name="ellipsis", want=[np.einsum(equation, *arrays)])
    one = draw((1, 3))
    add("Einsum", 12, [one, draw((2, 3))], equation="ij,ij->ij", name="one", oracle="ort")
    add("Einsum", 12, [np.float32(2.5), np.float32(3)], equation=",->", name="scalar", want=[np.float32(7.5)])
    for dtype in (np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64):
        a, b = rng.integers(0, 9, (2, 3)).astype(dtype), rng.integers(0, 9, (3, 2)).astype(dtype)
        add("Einsum", 12, [a, b], equation="ij,jk->ik", name=np.dtype(dtype).name, want=[a @ b])
    far = np.array([2**62 + 1, 3], np.int64)
    add("Einsum", 12, [far, np.array([1, -1])], equation="i,i->i", name="far", want=[far * np.array([1, -1])])
    for dtype in (np.float16, BF16):
        a, b = draw((2, 3)).astype(dtype), draw((3, 2)).astype(dtype)
        add("Einsum", 28, [a, b], equation="ij,jk->ik", name="half",
            want=[(a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)])
    x = draw((2, 0))
    add("Einsum", 12, [x, x.T.copy()], equation="ij,jk->ik", name="empty", want=[np.zeros((2, 2), np.float32)])
    add("Einsum", 12, [x], equation="ij->j", name="empty", want=[np.zeros(0, np.float32)])
    m = draw((2, 3))
    add.fails("INVALID", "Einsum", 12, [m], equation="i j,k")
    add.fails("INVALID", "Einsum", 12, [m, m], equation="ij")
    add.fails("INVALID", "Einsum", 12, [m], equation="ij->k")
    add.fails("INVALID", "Einsum", 12, [m], equation="ij->ii")
    add.fails("INVALID", "Einsum", 12, [m], equation="i?")
    add.fails("INVALID", "Einsum", 12, [m], equation="......")
    add.fails("SHAPE", "Einsum", 12, [m], equation="i")
    add.fails("SHAPE", "Einsum", 12, [m], equation="ii")
    add.fails("SHAPE", "Einsum", 12, [m, m], equation="ij,jk->ik")
    add.fails("SHAPE", "Einsum", 12, [m], equation="ijk")
    add.fails("TYPE", "Einsum", 12, [m, m.astype(np.float64)], equation="ij,ij->ij")
    add.fails("LIMIT", "Einsum", 12, [m], equation="ij->abcdefghi")
