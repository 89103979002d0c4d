"""Models of scikit-learn through skl2onnx, of XGBoost and LightGBM through onnxmltools: fitted on seeded synthetic data."""

import dataclasses
import typing

import numpy as np

ROWS = 160


@dataclasses.dataclass(frozen=True)
class Classic:
    """build() -> (estimator fitted, inputs: name → array). options: of the converter, as function of the estimator."""

    name: str
    source: str
    build: typing.Callable
    options: dict
    columns: bool = False  # the input is one tensor per column


CLASSIC = {}


def data(kind="classes", rows=ROWS, columns=6, seed=3, classes=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    y = x @ rng.normal(size=columns) + 0.3 * np.sin(3 * x[:, 0]) + 0.1 * rng.normal(size=rows)
    if kind == "classes":
        y = np.digitize(y, np.quantile(y, np.linspace(0, 1, classes + 1)[1:-1]))
    return x, y


def classic(name, estimator, kind="classes", source="scikit-learn", options=None, classes=3, labels=None, positive=False):
    """An estimator on numbers."""

    def build():
        x, y = data(kind, classes=classes)
        if positive:
            x = np.abs(x)
        if labels:
            y = np.array(labels)[y]
        found = estimator()
        found.fit(x, y) if kind else found.fit(x)
        return found, {"x": np.abs(data(seed=4, rows=40)[0]) if positive else data(seed=4, rows=40)[0]}

    CLASSIC[name] = Classic(name, source, build, options or {})


def register():
    from sklearn import (
        cluster,
        compose,
        decomposition,
        discriminant_analysis,
        ensemble,
        feature_extraction,
        feature_selection,
        gaussian_process,
        impute,
        linear_model,
        mixture,
        naive_bayes,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        svm,
        tree,
        multiclass,
        calibration,
    )

    plain = {"zipmap": False}
    words = ["north", "east", "south"]
    classic("tree_classifier", lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0), options=plain)
    classic("tree_zipmap", lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0))
    classic("tree_zipmap_strings", lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0), labels=words)
    classic(
        "tree_zipmap_columns", lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0), options={"zipmap": "columns"}
    )
    classic("tree_regressor", lambda: tree.DecisionTreeRegressor(max_depth=6, random_state=0), "number")
    classic("forest_classifier", lambda: ensemble.RandomForestClassifier(12, max_depth=6, random_state=0), options=plain)
    classic("forest_binary", lambda: ensemble.RandomForestClassifier(13, max_depth=6, random_state=0), options=plain, classes=2)
    classic(
        "forest_strings", lambda: ensemble.RandomForestClassifier(8, max_depth=5, random_state=0), options=plain, labels=words
    )
    classic("forest_regressor", lambda: ensemble.RandomForestRegressor(12, max_depth=6, random_state=0), "number")
    classic("extra_trees", lambda: ensemble.ExtraTreesClassifier(12, max_depth=6, random_state=0), options=plain)
    classic("isolation_forest", lambda: ensemble.IsolationForest(n_estimators=10, random_state=0), None)
    classic("boosting_classifier", lambda: ensemble.GradientBoostingClassifier(n_estimators=12, random_state=0), options=plain)
    classic(
        "boosting_binary", lambda: ensemble.GradientBoostingClassifier(n_estimators=12, random_state=0), options=plain, classes=2
    )
    classic("boosting_regressor", lambda: ensemble.GradientBoostingRegressor(n_estimators=12, random_state=0), "number")
    classic("histogram_boosting", lambda: ensemble.HistGradientBoostingClassifier(max_iter=8, random_state=0), options=plain)
    classic("histogram_boosting_regressor", lambda: ensemble.HistGradientBoostingRegressor(max_iter=8, random_state=0), "number")
    classic("adaboost", lambda: ensemble.AdaBoostClassifier(n_estimators=8, random_state=0), options=plain)
    classic("bagging", lambda: ensemble.BaggingClassifier(n_estimators=5, random_state=0), options=plain)
    classic(
        "voting",
        lambda: ensemble.VotingClassifier(
            [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=4, random_state=0))],
            voting="soft",
            flatten_transform=False,
        ),
        options=plain,
    )
    classic(
        "stacking",
        lambda: ensemble.StackingClassifier(
            [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=4, random_state=0))]
        ),
        options=plain,
    )
    for kernel in ("rbf", "linear", "poly", "sigmoid"):
        classic(
            "svc_" + kernel,
            lambda kernel=kernel: svm.SVC(kernel=kernel, probability=kernel == "rbf", random_state=0),
            options=plain,
        )
    classic("svc_binary", lambda: svm.SVC(probability=True, random_state=0), options=plain, classes=2)
    classic("svc_strings", lambda: svm.SVC(probability=True, random_state=0), options=plain, labels=words)
    classic("linear_svc", lambda: svm.LinearSVC(), options={})
    classic("svr", lambda: svm.SVR(), "number")
    classic("one_class_svm", lambda: svm.OneClassSVM(nu=0.2), None)
    classic("linear_regression", lambda: linear_model.LinearRegression(), "number")
    classic("ridge", lambda: linear_model.Ridge(), "number")
    classic("lasso", lambda: linear_model.Lasso(0.01), "number")
    classic("bayesian_ridge", lambda: linear_model.BayesianRidge(), "number")
    classic("logistic", lambda: linear_model.LogisticRegression(), options=plain)
    classic("logistic_zipmap", lambda: linear_model.LogisticRegression())
    classic("logistic_binary", lambda: linear_model.LogisticRegression(), options=plain, classes=2)
    classic("sgd", lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0), options=plain)
    classic("knn_classifier", lambda: neighbors.KNeighborsClassifier(5), options=plain)
    classic("knn_regressor", lambda: neighbors.KNeighborsRegressor(4, weights="distance"), "number")
    classic("radius_neighbors", lambda: neighbors.RadiusNeighborsRegressor(5.0), "number")
    classic("gaussian_bayes", lambda: naive_bayes.GaussianNB(), options=plain)
    classic("bernoulli_bayes", lambda: naive_bayes.BernoulliNB(), options=plain)
    classic("multinomial_bayes", lambda: naive_bayes.MultinomialNB(), options=plain, positive=True)
    classic(
        "mlp_classifier",
        lambda: neural_network.MLPClassifier(hidden_layer_sizes=(16, 8), max_iter=60, random_state=0),
        options=plain,
    )
    classic("mlp_regressor", lambda: neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=60, random_state=0), "number")
    classic("lda", lambda: discriminant_analysis.LinearDiscriminantAnalysis(), options=plain)
    classic("qda", lambda: discriminant_analysis.QuadraticDiscriminantAnalysis(), options=plain)
    classic("one_vs_rest", lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), options=plain)
    classic("calibrated", lambda: calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2), options=plain)
    classic("kmeans", lambda: cluster.KMeans(4, n_init=1, random_state=0), None)
    classic("gaussian_mixture", lambda: mixture.GaussianMixture(3, random_state=0), None)
    classic("gaussian_process", lambda: gaussian_process.GaussianProcessRegressor(), "number")
    for name, make in {
        "standard_scaler": preprocessing.StandardScaler,
        "min_max_scaler": lambda: preprocessing.MinMaxScaler(clip=True),
        "max_abs_scaler": preprocessing.MaxAbsScaler,
        "robust_scaler": preprocessing.RobustScaler,
        "normalizer": preprocessing.Normalizer,
        "normalizer_l1": lambda: preprocessing.Normalizer(norm="l1"),
        "normalizer_max": lambda: preprocessing.Normalizer(norm="max"),
        "binarizer": preprocessing.Binarizer,
        "polynomial_features": preprocessing.PolynomialFeatures,
        "power_transformer": preprocessing.PowerTransformer,
        "discretizer": lambda: preprocessing.KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
        "pca": lambda: decomposition.PCA(3),
        "truncated_svd": lambda: decomposition.TruncatedSVD(3, random_state=0),
        "kernel_pca": lambda: decomposition.KernelPCA(3, kernel="rbf"),
    }.items():
        classic(name, make, None)
    classic("select_best", lambda: feature_selection.SelectKBest(k=3))

    # ---- strings ----
    def encoder(name, make, kind="strings"):
        def build():
            rng = np.random.default_rng(5)
            choices = (
                np.array([["red", "oak"], ["green", "ash"], ["blue", "elm"], ["grün", "yew"]], object)
                if kind == "strings"
                else np.array([[1, 20], [2, 30], [3, 40], [5, 60]], np.int64)
            )
            x = np.stack([rng.choice(choices[:, 0], 60), rng.choice(choices[:, 1], 60)], 1)
            return make().fit(x), {"x": x[:25]}

        CLASSIC[name] = Classic(name, "scikit-learn", build, {})

    encoder("one_hot_strings", lambda: preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore"))
    encoder("one_hot_numbers", lambda: preprocessing.OneHotEncoder(sparse_output=False), "numbers")
    encoder("ordinal_strings", lambda: preprocessing.OrdinalEncoder())
    encoder("ordinal_numbers", lambda: preprocessing.OrdinalEncoder(), "numbers")

    def labels():
        return preprocessing.LabelEncoder().fit(np.array(["a", "b", "c", "d"])), {"x": np.array(["b", "d", "a"], object)}

    CLASSIC["label_encoder"] = Classic("label_encoder", "scikit-learn", labels, {})

    texts = [
        "the quick brown fox jumps over the dog",
        "a lazy dog sleeps",
        "the brown bear sleeps all winter",
        "quick foxes and lazy dogs",
        "winter is cold, bears sleep",
        "Foxes hunt at night",
        "dogs bark at the fox",
        "the night is cold",
    ]

    def text(name, make, target=False):
        def build():
            found = make()
            x = np.array(texts)
            found.fit(x, np.arange(len(texts)) % 2) if target else found.fit(x)
            return found, {"x": np.array(texts[1:5] + ["a fox in the snow"], object).reshape(-1, 1)}

        CLASSIC[name] = Classic(name, "scikit-learn", build, {"zipmap": False} if target else {})

    vector = feature_extraction.text
    text("count_vectorizer", lambda: vector.CountVectorizer())
    text("tfidf", lambda: vector.TfidfVectorizer())
    text("tfidf_bigrams", lambda: vector.TfidfVectorizer(ngram_range=(1, 2), stop_words=["the", "a"]))
    text("tfidf_characters", lambda: vector.TfidfVectorizer(analyzer="char", ngram_range=(1, 2)))
    text("text_classifier", lambda: pipeline.make_pipeline(vector.TfidfVectorizer(), linear_model.LogisticRegression()), True)
    text(
        "text_forest",
        lambda: pipeline.make_pipeline(vector.CountVectorizer(), ensemble.RandomForestClassifier(5, random_state=0)),
        True,
    )

    def mixed():
        """The pipeline of most tutorials: numbers imputed and scaled, words one-hot, then a classifier; one input a column."""
        rng = np.random.default_rng(6)
        n = 80
        numbers = rng.normal(size=(n, 2)).astype(np.float32)
        numbers[::7, 0] = np.nan
        colour, wood = rng.choice(["red", "green", "blue"], n), rng.choice(["oak", "ash"], n)
        import pandas

        frame = pandas.DataFrame({"size": numbers[:, 0], "age": numbers[:, 1], "colour": colour, "wood": wood})
        y = np.where(np.nan_to_num(numbers[:, 0]) + (colour == "red") > 0.3, "yes", "no")
        prepare = compose.ColumnTransformer(
            [
                ("n", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["size", "age"]),
                ("c", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["colour", "wood"]),
            ]
        )
        found = pipeline.make_pipeline(prepare, linear_model.LogisticRegression()).fit(frame, y)
        return found, {
            "size": numbers[:20, :1],
            "age": numbers[:20, 1:],
            "colour": colour[:20, None].astype(object),
            "wood": wood[:20, None].astype(object),
        }

    CLASSIC["mixed_pipeline"] = Classic("mixed_pipeline", "scikit-learn", mixed, {}, True)

    def missing(name, strategy):
        def build():
            x, _ = data()
            x[::5, 1] = np.nan
            return impute.SimpleImputer(strategy=strategy).fit(x), {"x": x[:30]}

        CLASSIC[name] = Classic(name, "scikit-learn", build, {})

    missing("imputer_mean", "mean")
    missing("imputer_median", "median")

    # ---- boosted trees of their own packages ----
    import lightgbm
    import xgboost

    for name, kind, classes, make in (
        ("xgboost_classifier", "classes", 3, lambda: xgboost.XGBClassifier(n_estimators=8, max_depth=4)),
        ("xgboost_binary", "classes", 2, lambda: xgboost.XGBClassifier(n_estimators=8, max_depth=4)),
        ("xgboost_regressor", "number", 3, lambda: xgboost.XGBRegressor(n_estimators=8, max_depth=4)),
        ("xgboost_forest", "number", 3, lambda: xgboost.XGBRFRegressor(n_estimators=6, max_depth=4)),
    ):
        classic(name, make, kind, "xgboost", {"zipmap": False}, classes)
    for name, kind, classes, make in (
        ("lightgbm_classifier", "classes", 3, lambda: lightgbm.LGBMClassifier(n_estimators=8, verbose=-1)),
        ("lightgbm_binary", "classes", 2, lambda: lightgbm.LGBMClassifier(n_estimators=8, verbose=-1)),
        ("lightgbm_regressor", "number", 3, lambda: lightgbm.LGBMRegressor(n_estimators=8, verbose=-1)),
        ("lightgbm_dart", "number", 3, lambda: lightgbm.LGBMRegressor(n_estimators=8, boosting_type="dart", verbose=-1)),
    ):
        classic(name, make, kind, "lightgbm", {"zipmap": False}, classes)
    return CLASSIC


def convert(entry):
    """(ONNX model, inputs)."""
    found, inputs = entry.build()
    if entry.source == "scikit-learn":
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

        kinds = {"f": FloatTensorType, "i": Int64TensorType, "O": StringTensorType}
        types = [(name, kinds[x.dtype.kind]([None] + list(x.shape[1:]))) for name, x in inputs.items()]
        options = {id(found): entry.options} if entry.options else None
        return (
            skl2onnx.convert_sklearn(found, initial_types=types, options=options, target_opset={"": 21, "ai.onnx.ml": 3}),
            inputs,
        )
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("x", FloatTensorType([None, 6]))]
    if entry.source == "lightgbm":
        return (
            onnxmltools.convert_lightgbm(
                found, initial_types=types, zipmap="Classifier" not in type(found).__name__, target_opset=15
            ),
            inputs,
        )
    return onnxmltools.convert_xgboost(found, initial_types=types, target_opset=15), inputs
