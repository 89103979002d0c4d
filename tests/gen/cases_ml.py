"""ai.onnx.ml: encoders, features, maps, linear models, support vector machines, forests. The oracle is ONNX Runtime."""

import itertools

import numpy as np

from ops_cases import C, make_model, ort_outputs

ML = {"domain": "ai.onnx.ml"}
TOLERANCE = {
    # ONNX Runtime sums in f32, the reference kernels in f64
    "LinearClassifier": (1e-5, 1e-6, "sums in f32"),
    "LinearRegressor": (1e-5, 1e-6, "sums in f32"),
    "SVMClassifier": (
        1e-4,
        1e-6,
        "sums, exp and tanh in f32; a cancelled sum loses digits; the coupling stops at 0.005",
    ),
    "SVMRegressor": (1e-4, 1e-6, "sums, exp and tanh in f32; a cancelled sum loses digits"),
    "TreeEnsembleClassifier": (1e-5, 1e-6, "sums in f32"),
    "TreeEnsembleRegressor": (1e-5, 1e-6, "sums in f32"),
    "TreeEnsemble": (1e-5, 1e-6, "sums in f32"),
    "Normalizer": (1e-6, 1e-7, "sums in f32"),
}
# ONNX Runtime's formula for PROBIT cancels digits in f32
PROBIT = {"tol": (1e-3, 5e-5)}
loose = lambda transform: PROBIT if transform == "PROBIT" else {}
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
text = lambda v: np.array(v, object)
f32 = lambda v: np.array(v, np.float32)
i64 = lambda v: np.array(v, np.int64)


def encoders(add):
    words, numbers, reals = text([["a", "x"], ["c", "b"]]), i64([1, 2, 9, -1]), f32([1.5, np.nan, 0.0, -0.0, 7])
    add("LabelEncoder", 1, [words], classes_strings=["a", "b", "c"], **ML)
    add("LabelEncoder", 1, [numbers], classes_strings=["a", "b", "c"], default_string="?", **ML)
    keys = {"keys_strings": ["a", "b", "c"], "keys_int64s": [1, 2, 3], "keys_floats": [1.5, float("nan"), 0.0]}
    values = {"values_strings": ["p", "q", "r"], "values_int64s": [10, 20, 30], "values_floats": [0.5, 0.25, -1.0]}
    for version, (k, v) in itertools.product((2, 4), itertools.product(keys, values)):
        x = words if k == "keys_strings" else numbers if k == "keys_int64s" else reals
        if (k, v) not in (("keys_floats", "values_floats"),) or version == 4:
            add("LabelEncoder", version, [x], **{k: keys[k], v: values[v]}, **ML)
    add(
        "LabelEncoder",
        4,
        [words],
        keys_tensor=text(["a", "b"]),
        values_tensor=np.array([5, 6], np.int16),
        default_tensor=np.array([-9], np.int16),
        **ML,
    )
    add(
        "LabelEncoder",
        4,
        [reals.astype(np.float64)],
        keys_tensor=np.array([1.5, 7.0]),
        values_tensor=text(["x", "y"]),
        default_tensor=text(["z"]),
        **ML,
    )
    add("LabelEncoder", 2, [words], keys_strings=["a", "a", "b"], values_int64s=[1, 2, 3], name="twice", **ML)
    add("LabelEncoder", 2, [words], keys_strings=["a"], values_int64s=[1], default_int64=7, **ML)
    add.fails("TYPE", "LabelEncoder", 2, [numbers], keys_strings=["a"], values_int64s=[1], **ML)
    add.fails("FORMAT", "LabelEncoder", 2, [words], keys_strings=["a", "b"], values_int64s=[1], **ML)
    add.fails("FORMAT", "LabelEncoder", 2, [words], keys_strings=["a"], **ML)
    cats = dict(cats_strings=["a", "b", "c"], cats_int64s=[10, 2, 9])
    add("CategoryMapper", 1, [words], **cats, **ML)
    add("CategoryMapper", 1, [numbers], default_string="none", **cats, **ML)
    add("OneHotEncoder", 1, [words], cats_strings=["a", "b", "c"], **ML)
    add("OneHotEncoder", 1, [numbers], cats_int64s=[2, 1], **ML)
    add("OneHotEncoder", 1, [f32([[1.0, 2.7], [-0.5, 5]])], cats_int64s=[0, 1, 2], **ML)
    add("OneHotEncoder", 1, [f32([1, 2])], cats_int64s=[1, 2], zeros=0, **ML)
    add.fails("FORMAT", "OneHotEncoder", 1, [numbers], **ML)
    add.fails("TYPE", "OneHotEncoder", 1, [words], cats_int64s=[1], **ML)


def features(add):
    x = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    for dtype in (np.float32, np.float64, np.int64, np.int32):
        y = x.astype(dtype)
        add("ArrayFeatureExtractor", 1, [y, C([3, 0, 3])], **ML)
        for norm in ("MAX", "L1", "L2"):
            add("Normalizer", 1, [y], norm=norm, **ML)
        add("Scaler", 1, [y], offset=[1.0, 2.0, -3.0, 0.5], scale=[2.0, 0.5, 1.0, -1.0], **ML)
        add("Scaler", 1, [y[0]], offset=[0.5], scale=[3.0], **ML)
        add("FeatureVectorizer", 1, [y, y[:, :1]], inputdimensions=[4, 1], **ML)
    add("ArrayFeatureExtractor", 1, [x[0], C([1])], **ML)
    add("ArrayFeatureExtractor", 1, [text([["a", "b"], ["c", "d"]]), C([[1]])], **ML)
    add("ArrayFeatureExtractor", 1, [x.reshape(3, 2, 2), C([1])], name="rank3", **ML)
    add("Binarizer", 1, [x], threshold=1.0, **ML)
    add("Normalizer", 1, [np.zeros((2, 2), np.float32)], norm="L2", name="zero", **ML)
    add("Normalizer", 1, [x[0]], norm="L1", name="row", **ML)
    add("FeatureVectorizer", 1, [x, x[:, :1]], inputdimensions=[2, 3], name="cut", **ML)
    add(
        "FeatureVectorizer",
        1,
        [x[0], i64([1, 2])],
        inputdimensions=[4, 2],
        name="row",
        want=[f32([[-5, -4, -3, -2, 1, 2]])],
        **ML,
    )
    holes = f32([[1, np.nan, 3], [np.nan, 5, 0]])
    nan = float("nan")
    add("Imputer", 1, [holes], imputed_value_floats=[10.0, 20.0, 30.0], replaced_value_float=nan, **ML)
    add("Imputer", 1, [holes], imputed_value_floats=[7.0], replaced_value_float=nan, **ML)
    add("Imputer", 1, [holes], imputed_value_floats=[7.0], replaced_value_float=0.0, **ML)
    add("Imputer", 1, [i64([[1, 0], [0, 2**60]])], imputed_value_int64s=[-1, -2], replaced_value_int64=0, **ML)
    add.fails("SHAPE", "Scaler", 1, [x], offset=[1.0, 2.0], scale=[1.0], **ML)
    add.fails("FORMAT", "Imputer", 1, [holes], imputed_value_int64s=[1], **ML)
    add.fails("FORMAT", "Normalizer", 1, [x], norm="L3", **ML)
    add.fails("FORMAT", "FeatureVectorizer", 1, [x], inputdimensions=[1, 2], **ML)


def maps(add):
    scores = f32([[0.1, 0.9], [0.7, 0.3], [0.5, 0.5]])
    add("ZipMap", 1, [scores], classlabels_strings=["cat", "dog"], **ML)
    add("ZipMap", 1, [scores], classlabels_int64s=[3, 5], **ML)
    add("ZipMap", 1, [scores[0]], classlabels_int64s=[3, 5], **ML)
    add.fails("SHAPE", "ZipMap", 1, [scores], classlabels_int64s=[3, 5, 7], **ML)
    add.fails("FORMAT", "ZipMap", 1, [scores], **ML)
    numbers, words = {0: 1.5, 3: -2.5, 1: 7.0}, {2: "3", 0: "1", 5: "20"}
    # ONNX Runtime's Python interface takes no map of strings: values in the order of the keys, "0.f" and 0 where there is none
    dense = {"TO_FLOAT": f32([[1, 3, 20]]), "TO_INT64": i64([[1, 3, 20]]), "TO_STRING": text([["1", "3", "20"]])}
    sparse = {
        "TO_FLOAT": f32([[1, 0, 3, 0, 0]]),
        "TO_INT64": i64([[1, 0, 3, 0, 0]]),
        "TO_STRING": text([["1", "0.f", "3", "0.f", "0.f"]]),
    }
    for to in ("TO_FLOAT", "TO_INT64", "TO_STRING"):
        add("CastMap", 1, [numbers], cast_to=to, **ML)
        add("CastMap", 1, [numbers], cast_to=to, map_form="SPARSE", max_map=5, **ML)
        add("CastMap", 1, [words], cast_to=to, want=[dense[to]], **ML)
        add("CastMap", 1, [words], cast_to=to, map_form="SPARSE", max_map=5, want=[sparse[to]], **ML)
    add("DictVectorizer", 1, [{"a": 1.0, "z": 5.0, "b": 2.0}], string_vocabulary=["b", "c", "a"], **ML)
    add("DictVectorizer", 1, [{10: 1.5, 20: 2.5}], int64_vocabulary=[20, 30, 10, 40], **ML)
    add("DictVectorizer", 1, [{"a": "x"}], string_vocabulary=["a"], want=[text([["x"]])], name="string", **ML)
    add.fails("TYPE", "DictVectorizer", 1, [scores], int64_vocabulary=[1], **ML)


def linear(add):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 3)).astype(np.float32)
    w = lambda n: [float(np.float32(v)) for v in rng.normal(size=n)]
    for transform in TRANSFORMS:
        three = dict(coefficients=w(9), intercepts=w(3), post_transform=transform, **loose(transform))
        add("LinearClassifier", 1, [x], n_out=2, classlabels_ints=[7, 8, 9], **three, **ML)
        if transform != "PROBIT":  # ONNX Runtime leaves the second score unset
            add(
                "LinearClassifier",
                1,
                [x],
                n_out=2,
                classlabels_strings=["no", "yes"],
                coefficients=w(3),
                intercepts=w(1),
                post_transform=transform,
                **ML,
            )
        add(
            "LinearRegressor",
            1,
            [x],
            targets=2,
            coefficients=w(6),
            intercepts=w(2),
            post_transform=transform,
            **loose(transform),
            **ML,
        )
        add(
            "LinearRegressor",
            1,
            [x],
            targets=1,
            coefficients=w(3),
            intercepts=w(1),
            post_transform=transform,
            **loose(transform),
            **ML,
        )
    add(
        "LinearClassifier",
        1,
        [x.astype(np.float64)],
        n_out=2,
        classlabels_strings=["a", "b", "c"],
        coefficients=w(9),
        intercepts=w(3),
        **ML,
    )
    add(
        "LinearClassifier",
        1,
        [(x * 10).astype(np.int64)],
        n_out=2,
        classlabels_ints=[4, 5],
        coefficients=w(6),
        intercepts=w(2),
        multi_class=1,
        **ML,
    )
    add("LinearClassifier", 1, [x], n_out=2, classlabels_ints=[4], coefficients=w(3), intercepts=w(1), name="one", **ML)
    add("LinearRegressor", 1, [x[0]], targets=1, coefficients=w(3), name="row", **ML)
    add.fails("SHAPE", "LinearRegressor", 1, [x], targets=1, coefficients=w(4), **ML)
    add.fails("FORMAT", "LinearRegressor", 1, [x], targets=2, coefficients=w(3), **ML)
    add.fails(
        "FORMAT", "LinearClassifier", 1, [x], n_out=2, classlabels_ints=[1], coefficients=w(9), intercepts=w(3), **ML
    )


def svm(add):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    w = lambda n: [float(np.float32(v)) for v in rng.normal(size=n)]
    p = lambda n: [float(np.float32(v)) for v in rng.uniform(0.1, 1, size=n)]
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        params = dict(kernel_type=kernel, kernel_params=[0.5, 0.25, 2.0 if kernel == "POLY" else 0.0])
        for classes in (2, 3):
            n, pairs = 2 * classes + 1, classes * (classes - 1) // 2
            model = dict(
                vectors_per_class=[3] + [2] * (classes - 1),
                support_vectors=w(n * 3),
                coefficients=w(n * (classes - 1)),
                rho=w(pairs),
                classlabels_ints=list(range(5, 5 + classes)),
                **params,
            )
            for transform in TRANSFORMS:
                if not (classes == 2 and transform == "PROBIT"):  # the second score is unset in ONNX Runtime
                    add("SVMClassifier", 1, [x], n_out=2, post_transform=transform, **model, **ML)
            add("SVMClassifier", 1, [x], n_out=2, prob_a=[-v for v in p(pairs)], prob_b=w(pairs), **model, **ML)
        add("SVMRegressor", 1, [x], n_supports=4, support_vectors=w(12), coefficients=w(4), rho=w(1), **params, **ML)
        add(
            "SVMRegressor",
            1,
            [x],
            n_supports=4,
            support_vectors=w(12),
            coefficients=w(4),
            rho=w(1),
            one_class=1,
            **params,
            **ML,
        )
    none = dict(kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0])
    for labels in (["a", "b", "c"], ["a", "b"]):
        for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
            add(
                "SVMClassifier",
                1,
                [x],
                n_out=2,
                classlabels_strings=labels,
                coefficients=w(3 * len(labels)),
                rho=w(1),
                post_transform=transform,
                **none,
                **ML,
            )
    add(
        "SVMClassifier",
        1,
        [x],
        n_out=2,
        classlabels_ints=[4, 9],
        coefficients=p(6),
        rho=w(1),
        name="positive",
        **none,
        **ML,
    )
    add(
        "SVMClassifier",
        1,
        [x.astype(np.float64)],
        n_out=2,
        classlabels_ints=[4, 9],
        coefficients=w(6),
        rho=w(1),
        **none,
        **ML,
    )
    add("SVMRegressor", 1, [x], n_supports=0, coefficients=w(3), rho=w(1), **none, **ML)
    add.fails(
        "FORMAT",
        "SVMClassifier",
        1,
        [x],
        n_out=2,
        classlabels_ints=[1, 2],
        vectors_per_class=[2, 2],
        support_vectors=w(12),
        coefficients=w(3),
        rho=w(1),
        **none,
        **ML,
    )
    add.fails("SHAPE", "SVMRegressor", 1, [x], n_supports=0, coefficients=w(4), rho=w(1), **none, **ML)


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def forest(rng, trees, features, depth, targets, leaf, modes=MODES[:1], missing=False):
    """Random trees as lists; leaf(rng) gives [(target, weight)…]."""
    n = {
        k: [] for k in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids", "modes", "values", "missing")
    }
    w = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        count = itertools.count()

        def grow(level):
            me, row = next(count), len(n["treeids"])
            for k, v in (
                ("treeids", tree),
                ("nodeids", me),
                ("featureids", 0),
                ("truenodeids", 0),
                ("falsenodeids", 0),
                ("modes", "LEAF"),
                ("values", 0.0),
                ("missing", 0),
            ):
                n[k].append(v)
            if level == depth or (level and rng.random() < 0.2):
                for target, weight in leaf(rng):
                    for k, v in (
                        ("treeids", tree),
                        ("nodeids", me),
                        ("ids", target),
                        ("weights", float(np.float32(weight))),
                    ):
                        w[k].append(v)
                return me
            n["featureids"][row] = int(rng.integers(features))
            n["modes"][row] = modes[int(rng.integers(len(modes)))]
            n["values"][row] = float(rng.integers(-2, 3)) / 2
            n["missing"][row] = int(rng.integers(2)) if missing else 0
            n["truenodeids"][row] = grow(level + 1)
            n["falsenodeids"][row] = grow(level + 1)
            return me

        grow(0)
    attrs = {f"nodes_{k}": v for k, v in n.items() if k != "missing"}
    if missing:
        attrs["nodes_missing_value_tracks_true"] = n["missing"]
    return attrs, w


def prefixed(w, prefix):
    return {f"{prefix}_{k}": v for k, v in w.items()}


def trees(add):
    rng = np.random.default_rng(3)
    x = (rng.integers(-3, 4, size=(7, 4)) / 2).astype(np.float32)
    x[2, 1] = np.nan
    regress = lambda targets: (
        lambda r: [
            (int(t), r.normal()) for t in (range(targets) if targets < 3 else r.choice(targets, 2, replace=False))
        ]
    )
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        for targets in (1, 3):
            for base in ([], [0.5, -1.0, 2.0][:targets]):
                attrs, w = forest(rng, 4, 4, 3, targets, regress(targets), MODES, missing=True)
                more = {"base_values": base} if base else {}
                add(
                    "TreeEnsembleRegressor",
                    1,
                    [x],
                    n_targets=targets,
                    aggregate_function=aggregate,
                    **attrs,
                    **prefixed(w, "target"),
                    **more,
                    **ML,
                )
    for transform in TRANSFORMS:
        for targets in (1, 2):
            attrs, w = forest(rng, 3, 4, 2, targets, lambda r, n=targets: [(t, r.uniform(0.05, 0.3)) for t in range(n)])
            add(
                "TreeEnsembleRegressor",
                3,
                [x],
                n_targets=targets,
                post_transform=transform,
                **attrs,
                **prefixed(w, "target"),
                **loose(transform),
                **ML,
            )
    attrs, w = forest(rng, 5, 4, 3, 1, regress(1))
    add("TreeEnsembleRegressor", 1, [x.astype(np.float64)], n_targets=1, **attrs, **prefixed(w, "target"), **ML)
    attrs, w = forest(rng, 2, 4, 2, 1, regress(1))
    double = {
        "nodes_values_as_tensor": np.array(attrs.pop("nodes_values")) + 0.1,
        "target_weights_as_tensor": np.array(w.pop("weights")) / 3,
    }
    add(
        "TreeEnsembleRegressor",
        3,
        [x.astype(np.float64)],
        n_targets=1,
        **attrs,
        **prefixed(w, "target"),
        **double,
        tol=(1e-6, 1e-7),
        **ML,
    )


def classifiers(add):
    rng = np.random.default_rng(4)
    x = (rng.integers(-3, 4, size=(9, 4)) / 2).astype(np.float32)
    each = lambda n, low: (lambda r: [(t, r.uniform(low, 0.3)) for t in range(n)])
    some = lambda r: [(int(r.integers(3)), r.uniform(-1, 1))]
    one = lambda low, t=0: (lambda r: [(t, r.uniform(low, 0.4))])
    for transform in TRANSFORMS:
        for leaf, labels, bases in (
            (each(3, 0.01), [5, 6, 7], ([], [0.1, 0.2, -0.1])),
            (some, ["a", "b", "c"], ([], [-0.5, 0.5, 0.25])),
            (each(2, 0.01), [0, 1], ([],)),  # ONNX Runtime answers 0 and 1 here whatever the labels are
            (each(2, -0.5), ["n", "y"], ([],)),
            (one(0.0), [5, 6], ([], [0.25])),
            (one(-1.0), [5, 6], ([], [0.25])),
            (one(-1.0, 1), ["n", "y"], ([],)),
        ):
            for base in bases:
                single = leaf not in (some,) and len(labels) == 2 and transform == "PROBIT"
                if single:  # unset memory in ONNX Runtime, or the square root of a negative number
                    continue
                attrs, w = forest(rng, 3, 4, 3, len(labels), leaf)
                key = "classlabels_int64s" if isinstance(labels[0], int) else "classlabels_strings"
                more = {"base_values": base} if base else {}
                add(
                    "TreeEnsembleClassifier",
                    1,
                    [x],
                    n_out=2,
                    post_transform=transform,
                    **{key: labels},
                    **attrs,
                    **prefixed(w, "class"),
                    **more,
                    **loose(transform),
                    **ML,
                )
    for dtype in (np.int64, np.int32):
        attrs, w = forest(rng, 5, 4, 3, 3, some)
        add(
            "TreeEnsembleClassifier",
            1,
            [(x * 2).astype(dtype)],
            n_out=2,
            classlabels_int64s=[5, 6, 7],
            **attrs,
            **prefixed(w, "class"),
            **ML,
        )
    attrs, w = forest(rng, 3, 4, 3, 3, each(3, 0.01))
    add(
        "TreeEnsembleClassifier",
        3,
        [x.astype(np.float64)],
        n_out=2,
        classlabels_int64s=[0, 1, 2],
        **attrs,
        **prefixed(w, "class"),
        **ML,
    )
    # a hundred trees, one row: the sum of a hundred f32 numbers
    attrs, w = forest(rng, 100, 4, 3, 3, each(3, 0.01))
    add(
        "TreeEnsembleClassifier",
        1,
        [x[:1]],
        n_out=2,
        classlabels_int64s=[0, 1, 2],
        **attrs,
        **prefixed(w, "class"),
        **ML,
    )
    broken = dict(
        nodes_treeids=[0, 0],
        nodes_nodeids=[0, 1],
        nodes_featureids=[0, 0],
        nodes_truenodeids=[1, 0],
        nodes_falsenodeids=[1, 0],
        nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ"],
        nodes_values=[0.0, 0.0],
        class_treeids=[0],
        class_nodeids=[1],
        class_ids=[0],
        class_weights=[1.0],
        classlabels_int64s=[0, 1],
    )
    add.fails("FORMAT", "TreeEnsembleClassifier", 1, [x], n_out=2, name="cycle", **broken, **ML)
    for key, value in (
        ("nodes_truenodeids", [9, 0]),
        ("nodes_nodeids", [0, 0]),
        ("class_ids", [2]),
        ("class_nodeids", [7]),
        ("nodes_values", [0.0]),
        ("nodes_modes", ["LEAF", "TWIG"]),
        ("nodes_featureids", [-1, 0]),
    ):
        add.fails(
            "FORMAT",
            "TreeEnsembleClassifier",
            1,
            [x],
            n_out=2,
            name=key,
            **{**broken, "nodes_modes": ["BRANCH_LEQ", "LEAF"], key: value},
            **ML,
        )
    leafy = {**broken, "nodes_modes": ["BRANCH_LEQ", "LEAF"], "nodes_featureids": [4, 0]}
    add.fails("SHAPE", "TreeEnsembleClassifier", 1, [x], n_out=2, name="feature", **leafy, **ML)


def ensemble(add):
    x = f32([[1.2, 3.4], [-0.12, 1.66], [4.14, 1.77], [np.nan, 2.0]])
    base = dict(
        tree_roots=[0],
        nodes_featureids=[0, 0, 0],
        nodes_truenodeids=[1, 0, 1],
        nodes_falsenodeids=[2, 2, 3],
        nodes_trueleafs=[0, 1, 1],
        nodes_falseleafs=[0, 1, 1],
        leaf_targetids=[0, 1, 0, 1],
    )
    for dtype in (np.float32, np.float64):
        real = lambda *v: np.array(v, dtype)
        more = dict(
            nodes_splits=real(3.14, 1.2, 4.2),
            leaf_weights=real(5.23, 12.12, -12.23, 7.21),
            nodes_modes=np.zeros(3, np.uint8),
        )
        for aggregate in range(4):
            for transform in (0, 1, 2, 3):
                # 1 is SOFTMAX and 2 LOGISTIC; ONNX Runtime 1.32 takes them for each other, so it is asked for the other one
                attrs = dict(n_targets=2, aggregate_function=aggregate, **base, **more)
                other = {1: 2, 2: 1}.get(transform, transform)
                want = ort_outputs(
                    *make_model(
                        "TreeEnsemble", 5, "ai.onnx.ml", [x.astype(dtype)], [True], dict(attrs, post_transform=other)
                    )
                )
                add("TreeEnsemble", 5, [x.astype(dtype)], want=want, post_transform=transform, **attrs, **ML)
    member = dict(
        tree_roots=[0],
        nodes_featureids=[0, 0, 0],
        nodes_truenodeids=[0, 0, 1],
        nodes_falsenodeids=[1, 2, 3],
        nodes_trueleafs=[1, 1, 1],
        nodes_falseleafs=[0, 0, 1],
        leaf_targetids=[0, 1, 2, 3],
        nodes_splits=f32([11, 232344.0, 1.2]),
        nodes_modes=np.array([0, 6, 6], np.uint8),
        membership_values=f32([1.2, 3.7, 8, 9, np.nan, 12, 7, np.nan]),
        leaf_weights=f32([1, 10, 1000, 100]),
    )
    values = f32([[1.2, 3.4], [-0.12, 1.66], [12, 0], [7, 1.77], [11.5, 1]])
    add("TreeEnsemble", 5, [values], n_targets=4, **member, **ML)
    add.fails(
        "FORMAT",
        "TreeEnsemble",
        5,
        [values],
        n_targets=4,
        name="cycle",
        **{**member, "nodes_falsenodeids": [1, 0, 3]},
        **ML,
    )
    add.fails(
        "FORMAT",
        "TreeEnsemble",
        5,
        [values],
        n_targets=4,
        name="child",
        **{**member, "nodes_truenodeids": [0, 0, 4]},
        **ML,
    )
    add.fails(
        "FORMAT",
        "TreeEnsemble",
        5,
        [values],
        n_targets=4,
        name="members",
        **{**member, "membership_values": f32([1.2, np.nan])},
        **ML,
    )
    add.fails("FORMAT", "TreeEnsemble", 5, [values], n_targets=3, name="target", **member, **ML)
    add.fails("FORMAT", "TreeEnsemble", 5, [values], n_targets=4, name="root", **{**member, "tree_roots": [3]}, **ML)


def build(add):
    for group in (encoders, features, maps, linear, svm, trees, classifiers, ensemble):
        group(add)
