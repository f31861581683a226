"""Whether what was saved can be used without harm: estimators hand their numbers to C code, which trusts them.

Types are checked against a list of those whose predictions are plain numpy, which checks shapes and indices by itself,
or whose numbers for C code are checked here. All that is on no list is named to the caller.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from scipy import sparse
from sklearn._loss._loss import CyHalfMultinomialLoss, CyLossFunction

from kurabe.contestants.archive import described
from kurabe.contestants.trained.booster_text import checked_text
from kurabe.contestants.trained.boosters import Booster
from kurabe.contestants.trained.catboost import CatBoostModel
from kurabe.errors import ContestantError
from kurabe.models import bounded
from kurabe.tasks.spec import Example, Prompt

_STRUCTS: Final = (Prompt, Example)
_MODULES: Final = (
    "kurabe.contestants.",
    "sklearn._loss.",
    "sklearn.calibration.",
    "sklearn.compose.",
    "sklearn.cross_decomposition.",
    "sklearn.discriminant_analysis.",
    "sklearn.dummy.",
    "sklearn.ensemble._bagging.",
    "sklearn.ensemble._gb.",
    "sklearn.ensemble._hist_gradient_boosting.",
    "sklearn.ensemble._stacking.",
    "sklearn.ensemble._voting.",
    "sklearn.ensemble._weight_boosting.",
    "sklearn.feature_extraction.",
    "sklearn.feature_selection.",
    "sklearn.impute._base.",
    "sklearn.isotonic.",
    "sklearn.kernel_ridge.",
    "sklearn.linear_model.",
    "sklearn.model_selection.",
    "sklearn.multiclass.",
    "sklearn.multioutput.",
    "sklearn.naive_bayes.",
    "sklearn.neural_network.",
    "sklearn.pipeline.",
    "sklearn.random_projection.",
    "sklearn.tree._classes.",
)
_CLASSES: Final = {
    "sklearn.decomposition": ("PCA", "IncrementalPCA", "TruncatedSVD"),
    "sklearn.ensemble._forest": (
        "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
    ),
    "sklearn.neighbors": (
        "KNeighborsClassifier", "KNeighborsRegressor", "NearestCentroid", "KDTree", "BallTree",
    ),
    "sklearn.metrics._dist_metrics": (
        "EuclideanDistance64", "ManhattanDistance64", "ChebyshevDistance64", "MinkowskiDistance64",
    ),
    "sklearn.preprocessing": (
        "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer", "Binarizer",
        "QuantileTransformer", "PowerTransformer", "FunctionTransformer", "PolynomialFeatures", "OneHotEncoder",
        "OrdinalEncoder", "LabelEncoder", "LabelBinarizer", "KBinsDiscretizer", "TargetEncoder",
    ),
    "sklearn.svm": ("LinearSVC", "LinearSVR"),
}  # fmt: skip
_NAMES: Final[dict[str, tuple[str, ...]]] = {  # what skops's loaders may make; a name that ends with a dot is a module
    "BytearrayNode": ("builtins.bytearray",),
    "BytesNode": ("builtins.bytes",),
    "ConstructorFromReduceNode": tuple(f"{one.__module__}.{one.__qualname__}" for one in _STRUCTS),
    "DefaultDictNode": ("collections.defaultdict",),
    "DictNode": ("builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"),
    "DTypeNode": ("numpy.dtype",),
    "FunctionNode": ("builtins.", "numpy.", "scipy.special."),
    "ListNode": ("builtins.list",),
    "LossNode": ("sklearn._loss._loss.", "_loss.", "sklearn.linear_model._sgd_fast."),
    "MaskedArrayNode": ("numpy.ma.",),
    "NdArrayNode": ("numpy.",),
    "RandomGeneratorNode": ("numpy.random._generator.Generator",),
    "RandomStateNode": ("numpy.random.mtrand.RandomState",),
    "SetNode": ("builtins.set",),
    "SliceNode": ("builtins.slice",),
    "SparseMatrixNode": ("scipy.sparse.",),
    "TreeNode": ("sklearn.tree._tree.Tree",),
    "TupleNode": ("builtins.tuple",),
    "TypeNode": ("builtins.", "numpy.", *_MODULES),
}  # fmt: skip


def unchecked_types(data: bytes) -> frozenset[str]:
    """The types that a file of skops would make and for which there is no check here; nothing is made.

    Raises ContestantError where to read it would take more than its size.
    """
    schema, too_large = described(data)
    if too_large:
        return frozenset({too_large})
    stack: list[Any] = [schema]
    found = set()
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += value
        elif isinstance(value, dict):
            stack += value.values()
            if isinstance(loader := value.get("__loader__"), str):
                name = f"{value.get('__module__')}.{value.get('__class__')}"
                if not _is_checked(loader, name):
                    found.add(name)
    return frozenset(found)


def _is_checked(loader: str, name: str) -> bool:
    if loader == "JsonNode":  # plain values
        return True
    if loader != "ObjectNode":
        names = _NAMES.get(loader, ())
        return name in names or any(one.endswith(".") and name.startswith(one) for one in names)
    if name.startswith(_MODULES):
        return True
    module, _, last = name.rpartition(".")
    return any((module + ".").startswith(known + ".") and last in names for known, names in _CLASSES.items())


def check(estimator: Any) -> frozenset[str]:
    """Check all that an estimator is made of. Searchable trees of neighbours are built anew, and boosters lose what
    follows their trees.

    Returns the types that could not be checked. Raises ContestantError where anything else is not sound.
    """
    unchecked: set[str] = set()
    for value in _parts(estimator):
        try:
            checks = [_CHECKS[name] for cls in type(value).__mro__ if (name := _name(cls)) in _CHECKS]
            if hasattr(value, "__dict__") and not isinstance(value, type):
                if _is_checked("ObjectNode", _name(type(value))):
                    _check_nothing_hidden(value)
            elif not checks and not isinstance(value, _PLAIN) and not _is_struct(value):
                unchecked.add(_name(type(value)))
            for one in checks:
                one(value)
        except _UncheckedError as error:
            unchecked.add(f"{_name(type(value))} {error}")
        except ContestantError:
            raise
        except Exception as error:  # an attribute that is missing or of another type
            raise ContestantError(f"its {type(value).__name__} is damaged: {type(error).__name__}: {error}") from None
    return frozenset(unchecked)


class _UncheckedError(Exception):
    """A known type is used in a way for which there is no check."""


_PLAIN: Final = (
    str, bytes, bytearray, int, float, complex, type(None), type, slice, dict, list, tuple, set, np.generic, np.ndarray,
    np.ufunc, np.dtype,
)  # fmt: skip


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_struct(value: Any) -> bool:
    return isinstance(value, _STRUCTS)


def _parts(estimator: Any) -> Iterator[Any]:
    """All objects that an estimator is made of. What a check of the last one has changed is seen."""
    seen: dict[int, Any] = {}
    stack = [estimator]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        yield value
        if isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            stack += value
        elif isinstance(value, np.ndarray):
            stack += list(np.asarray(value).flat) if value.dtype.hasobject else []
        elif _is_struct(value):
            stack += [getattr(value, name) for name in value.__struct_fields__]
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not sparse.issparse(value):
            # The tree that stood in a model of neighbours has been built anew.
            stack += [part for name, part in vars(value).items() if name != "_tree" or not _is_of_neighbours(value)]


def _is_of_neighbours(value: Any) -> bool:
    return type(value).__module__.startswith("sklearn.neighbors.")


def _check_nothing_hidden(value: Any) -> None:
    """No attribute stands before a method, as its checks of what it gets would be gone."""
    for name in vars(value):
        _require(not callable(getattr(type(value), name, None)), value, f"its attribute {name} hides a method")


def _require(holds: Any, value: Any, what: str) -> None:
    if not holds:
        raise ContestantError(f"its {type(value).__name__} is damaged: {what}")


def _is_count(value: Any, most: int = 2**31 - 1) -> bool:
    return isinstance(value, int | np.integer) and bool(1 <= value <= most)


# --------------------------------------------------------------------------------------------------------- scikit-learn


def _check_sparse(matrix: Any) -> None:
    if matrix.format not in ("csr", "csc"):
        raise _UncheckedError(f"of the format {matrix.format}")
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise ContestantError(f"its sparse matrix is damaged: {error}") from None


def _check_tree(tree: Any) -> None:
    count = tree.node_count
    _require(0 < count <= tree.capacity and min(tree.value.shape) >= 1, tree, "it has no nodes")
    inner = np.flatnonzero(tree.children_left != -1)
    _require(((tree.children_left == -1) == (tree.children_right == -1)).all(), tree, "a node has one child")
    for children in (tree.children_left[inner], tree.children_right[inner]):
        _require(((children > inner) & (children < count)).all(), tree, "a child is out of range")
    features = tree.feature[inner]
    _require(((features >= 0) & (features < tree.n_features)).all(), tree, "a feature is out of range")


def _check_tree_estimator(model: Any) -> None:
    if "tree_" in vars(model):  # one that is not fitted has none
        _check_width(model, [model], model.n_features_in_)


def _check_width(owner: Any, models: list[Any], width: int) -> None:
    """Each model is a tree of exactly `width` features: its owner checks how many a table has, and it does not."""
    from sklearn.tree import BaseDecisionTree
    from sklearn.tree._tree import Tree

    _require(_is_count(width), owner, "its number of features")
    for model in models:
        _require(isinstance(model, BaseDecisionTree) and type(model.tree_) is Tree, owner, "it has other trees")
        _require(model.tree_.n_features == width, owner, "a tree has other features")


def _check_forest(forest: Any) -> None:
    if "estimators_" in vars(forest):
        _require(type(forest.estimators_) is list, forest, "it has no list of trees")
        _check_width(forest, forest.estimators_, forest.n_features_in_)


def _check_gradient_boosting(model: Any) -> None:
    if "estimators_" not in vars(model):
        return
    trees, rounds = model.estimators_, model.n_trees_per_iteration_
    _require(_is_count(rounds) and trees.ndim == 2 and trees.shape[1] == rounds, model, "its number of trees")
    _check_width(model, list(trees.flat), model.n_features_in_)
    _require(all(_name(type(tree)) == _REGRESSION_TREE for tree in trees.flat), model, "it has other trees")
    _require(all(tree.n_features_in_ == model.n_features_in_ for tree in trees.flat), model, "its number of features")
    if model.init_ != "zero" and not _name(type(model.init_)).startswith("sklearn.dummy."):
        raise _UncheckedError("that begins with an estimator")
    _require(_name(type(model._loss)).startswith("sklearn._loss.loss."), model, "its loss")
    _require(_name(type(model._loss.link)).startswith("sklearn._loss.link."), model, "its link")
    # Its trees add to what the first estimator says, in C and without a look at how many columns that has.
    start = model._raw_predict_init(np.zeros((2, model.n_features_in_)))
    _require(start.shape == (2, rounds), model, "its first estimator answers for other labels")


_REGRESSION_TREE: Final = "sklearn.tree._classes.DecisionTreeRegressor"


def _check_histogram_boosting(model: Any) -> None:
    if "_predictors" not in vars(model):
        return
    if model._preprocessor is not None:
        raise _UncheckedError("with columns of categories")
    width, categories = model.n_features_in_, model._bin_mapper.is_categorical_
    _require(_is_count(width) and model.__dict__.get("_in_fit", False) is False, model, "its number of features")
    _require(_name(type(model._bin_mapper)) == f"{_HISTOGRAMS}.binning._BinMapper", model, "its bins")
    _require(categories.dtype.kind in "bu" and categories.shape == (width,), model, "which columns are categories")
    for tree in (tree for trees in model._predictors for tree in trees):
        _require(_name(type(tree)) == f"{_HISTOGRAMS}.predictor.TreePredictor", model, "it has other trees")
        _check_predictor(tree, width, categories)


_HISTOGRAMS: Final = "sklearn.ensemble._hist_gradient_boosting"


def _check_predictor(tree: Any, width: int, categories: np.ndarray) -> None:
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    nodes, sets = tree.nodes, tree.raw_left_cat_bitsets
    _require(nodes.dtype == PREDICTOR_RECORD_DTYPE and nodes.ndim == 1 and len(nodes), tree, "it has no nodes")
    _require(sets.ndim == 2 and sets.shape[1] == 8, tree, "its sets of categories")
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    splits = nodes[inner]
    for side in ("left", "right"):
        _require(((splits[side] > inner) & (splits[side] < len(nodes))).all(), tree, "a child is out of range")
    features = splits["feature_idx"]
    _require(((features >= 0) & (features < width)).all(), tree, "a feature is out of range")
    chosen = splits[splits["is_categorical"] != 0]
    _require((chosen["bitset_idx"] < len(sets)).all(), tree, "a set of categories is out of range")
    _require((categories[chosen["feature_idx"]] != 0).all(), tree, "a column is not of categories")


_METRICS: Final = {"minkowski", "euclidean", "l2", "manhattan", "cityblock", "l1", "chebyshev"}


def _check_neighbours(model: Any) -> None:
    """Check a fitted KNeighborsClassifier or Regressor, and build its tree anew from its rows."""
    if "_fit_X" not in vars(model):
        return
    rows, labels = model._fit_X, model._y
    if not {model.metric, model.effective_metric_} <= _METRICS or model.metric_params is not None:
        raise _UncheckedError("with another metric")
    _require(model._fit_method in ("brute", "kd_tree", "ball_tree"), model, "its method")
    _require(not model.effective_metric_params_.keys() - {"p"}, model, "the parameters of its metric")
    _require(rows.ndim == 2 and _is_count(model.n_features_in_), model, "its rows")
    if not sparse.issparse(rows):
        _require(rows.dtype.kind in "fiub", model, "its rows")
    else:
        _check_sparse(rows)
    _require(rows.shape == (model.n_samples_fit_, model.n_features_in_), model, "its number of rows")
    _require(_is_count(model.n_neighbors, rows.shape[0]), model, "its number of neighbours")
    _require(labels.shape[0] == rows.shape[0], model, "its number of targets")
    if "classes_" in vars(model):
        groups = [model.classes_] if labels.ndim == 1 else model.classes_
        for column, classes in zip(labels.reshape(rows.shape[0], -1).T, groups, strict=True):
            fits = labels.dtype.kind == "i" and ((column >= 0) & (column < len(classes))).all()
            _require(fits, model, "a label is out of range")
    model._tree = None
    if model._fit_method != "brute":
        from sklearn.neighbors import BallTree, KDTree

        tree = KDTree if model._fit_method == "kd_tree" else BallTree
        parameters = model.effective_metric_params_
        model._tree = tree(rows, model.leaf_size, metric=model.effective_metric_, **parameters)


def _check_vocabulary(vectorizer: Any) -> None:
    if "vocabulary_" in vars(vectorizer):
        words = vectorizer.vocabulary_
        _require(
            type(words) is dict and all(isinstance(one, int | np.integer) for one in words.values()),
            vectorizer,
            "its vocabulary",
        )
        _require(sorted(words.values()) == list(range(len(words))), vectorizer, "the places of its vocabulary")


def _check_hashing(vectorizer: Any) -> None:
    _require(_is_count(vectorizer.n_features), vectorizer, "its number of features")


def _check_products(features: Any) -> None:
    # C code takes it times a number of values, for the room that it needs.
    _require(type(features.interaction_only) is bool, features, "whether it takes interactions only")


def _check_one_hot(encoder: Any) -> None:
    """Its columns are where C code puts a 1, so each must be one of those that there are."""
    if "categories_" not in vars(encoder):
        return
    widths = [_width_of_categories(encoder, place) for place in range(len(encoder.categories_))]
    dropped = encoder._drop_idx_after_grouping
    if dropped is not None:
        _require(dropped.shape == (len(widths),), encoder, "the categories that it drops")
        for place, one in enumerate(dropped):
            if one is not None:
                fits = isinstance(one, int | np.integer) and 0 <= one < widths[place]
                _require(fits, encoder, "the categories that it drops")
                widths[place] -= 1
    _require(list(encoder._n_features_outs) == widths, encoder, "its number of columns")


def _width_of_categories(encoder: Any, place: int) -> int:
    """How many columns the categories of a column have, before any is dropped; rare ones share one."""
    values = encoder.categories_[place]
    _require(values.ndim == 1 and values.dtype.kind in "OUSiufb", encoder, "its categories")
    if values.dtype.kind in "iufb":  # looked up by bisection
        in_order = np.array_equal(np.unique(values), values, equal_nan=values.dtype.kind == "f")
        _require(in_order, encoder, "the order of its categories")
    if not encoder._infrequent_enabled:
        return len(values)
    rare: Any = encoder._infrequent_indices[place]
    mapping: Any = encoder._default_to_infrequent_mappings[place]
    _require((rare is None) == (mapping is None), encoder, "its rare categories")
    if rare is None:
        return len(values)
    width = len(values) - len(rare) + 1
    fits = len(rare) >= 1 and ((rare >= 0) & (rare < len(values))).all()
    _require(fits and mapping.shape == values.shape and mapping.dtype.kind == "i", encoder, "its rare categories")
    _require(((mapping >= 0) & (mapping < width)).all(), encoder, "its rare categories")
    return width


def _check_random_state(state: Any) -> None:
    values = state.get_state(legacy=False)
    _require(values["bit_generator"] == "MT19937" and 0 <= values["state"]["pos"] <= 624, state, "its position")


def _check_generator(generator: Any) -> None:
    _require(type(generator.bit_generator) is np.random.PCG64, generator, "its kind")


def _nothing_to_check(value: Any) -> None:
    """Numbers of its own, which C code uses for nothing but sums."""


# ----------------------------------------------------------------------------------------------------------------- ours


def _check_booster(model: Booster) -> None:
    model.text = checked_text(model.text)


def _check_catboost(model: Any) -> None:
    """CatBoost's own format is not known here: it is tried in a process of its own."""
    _require(type(model.data) is bytes and type(model.labels) is int, model, "what it holds")
    try:
        bounded.call("kurabe.contestants.soundness:try_catboost", model.data, model.labels, seconds=_SECONDS)
    except (bounded.LimitError, bounded.FailedError) as error:
        raise ContestantError(f"its model of CatBoost can't be read, or crashes: {error}") from None


_SECONDS: Final = 60.0


def try_catboost(data: bytes, labels: int) -> list[int]:
    """The shape of what a model says of one row, whose columns are missing."""
    return list(CatBoostModel(data, labels).try_one_row().shape)


_CHECKS: Final[dict[str, Callable[[Any], None]]] = {
    _name(Booster): _check_booster,
    _name(CatBoostModel): _check_catboost,
    "numpy.random._generator.Generator": _check_generator,
    "numpy.random.mtrand.RandomState": _check_random_state,
    "scipy.sparse._base._spbase": _check_sparse,
    _name(CyLossFunction): _nothing_to_check,  # whose module is another one in scikit-learn 1.8
    _name(CyHalfMultinomialLoss): _nothing_to_check,
    "sklearn.linear_model._sgd_fast.Hinge": _nothing_to_check,
    "sklearn.ensemble._forest.BaseForest": _check_forest,
    "sklearn.ensemble._gb.BaseGradientBoosting": _check_gradient_boosting,
    f"{_HISTOGRAMS}.gradient_boosting.BaseHistGradientBoosting": _check_histogram_boosting,
    "sklearn.feature_extraction._dict_vectorizer.DictVectorizer": _check_vocabulary,
    "sklearn.feature_extraction._hash.FeatureHasher": _check_hashing,
    "sklearn.feature_extraction.text.CountVectorizer": _check_vocabulary,
    "sklearn.feature_extraction.text.HashingVectorizer": _check_hashing,
    "sklearn.neighbors._base.KNeighborsMixin": _check_neighbours,
    "sklearn.preprocessing._encoders.OneHotEncoder": _check_one_hot,
    "sklearn.preprocessing._polynomial.PolynomialFeatures": _check_products,
    "sklearn.tree._classes.BaseDecisionTree": _check_tree_estimator,
    "sklearn.tree._tree.Tree": _check_tree,
}
