"""Hyperparameters of SageMaker's algorithms as Params: one table for each algorithm.

Names, types and setters are those of sagemaker_pyspark. The valid values are from AWS's guide to each algorithm.
"""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyspark.ml.param import Param, Params

from processing._utils.validation import shown
from processing.exceptions import ConfigurationError
from processing.spark.ml.meanings import MEANINGS
from processing.spark.ml.values import camel_case, snake_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class AlgorithmParameter(NamedTuple):
    """A hyperparameter of an algorithm.

    Attributes:
        name: the Param's name.
        description: the valid values, completing "must be ...".
        convert: returns the value of the Param; raises ValueError or TypeError for a wrong one.
        setter: the end of the setter's name, such as `MaxIter`; by default the name in camelCase.
        sent: the name in a request; by default the Param's.
        default: the value that is sent without a setting; None for no value.
        required: True if `fit` needs a value.
        text: returns the value's text in a request.
    """

    name: str
    description: str
    convert: Callable[[Any], Any]
    setter: str = ""
    sent: str = ""
    default: Any = None
    required: bool = False
    text: Callable[[Any], str] = str


_LARGEST: Final = 2**31 - 1  # of the algorithms' integers


def _bounds(least: float | None, most: float | None, above: float | None, below: float | None) -> str:
    words = (("of at least", least), ("above", above), ("of at most", most), ("below", below))
    return " and".join(f" {word} {bound:.7g}" for word, bound in words if bound is not None)


def _inside(number: float, least: float | None, most: float | None, above: float | None, below: float | None) -> bool:
    return (
        (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
    )


def _whole(name: str, least: int | None = None, most: int | None = None, **others: Any) -> AlgorithmParameter:
    def convert(value: Any) -> int:
        if isinstance(value, (bool, str)) or int(value) != value:
            raise ValueError
        if not _inside(int(value), least, _LARGEST if most is None else most, None, None):
            raise ValueError
        return int(value)

    return AlgorithmParameter(name, f"an integer{_bounds(least, most, None, None)}", convert, **others)


def _real(
    name: str,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    **others: Any,
) -> AlgorithmParameter:
    def convert(value: Any) -> float:
        if isinstance(value, (bool, str)) or not math.isfinite(float(value)):
            raise ValueError
        if not _inside(float(value), least, most, above, below):
            raise ValueError
        return float(value)

    return AlgorithmParameter(name, f"a number{_bounds(least, most, above, below)}", convert, text=repr, **others)


def _choice(name: str, *choices: str, **others: Any) -> AlgorithmParameter:
    def convert(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return AlgorithmParameter(name, f"one of {', '.join(map(repr, choices))}", convert, **others)


def _flag(name: str, *more: str, **others: Any) -> AlgorithmParameter:
    def convert(value: Any) -> str:
        text = str(value).lower()
        if text not in {"true", "false", *more}:
            raise ValueError
        return text if text in more else text.capitalize()  # sagemaker_pyspark's Params hold these words

    words = "".join(f" or {each!r}" for each in more)
    return AlgorithmParameter(name, f"True or False{words}", convert, text=lambda value: str(value).lower(), **others)


def _or_words(number: AlgorithmParameter, *words: str) -> AlgorithmParameter:
    """Return the same hyperparameter with words as values, too. Its Param holds texts."""

    def convert(value: Any) -> str:
        if value in words:
            return str(value)
        given = value
        if isinstance(value, str):
            given = float(value)
            given = int(given) if given.is_integer() else given
        return str(number.convert(given))

    description = f"{number.description} or {' or '.join(map(repr, words))}"
    return number._replace(description=description, convert=convert, text=str)


def _text(name: str, **others: Any) -> AlgorithmParameter:
    def convert(value: Any) -> str:
        if not (isinstance(value, str) and value.strip()):
            raise ValueError
        return value

    return AlgorithmParameter(name, "a text", convert, **others)


def _metrics(value: Any) -> str:
    items = value if isinstance(value, (list, tuple)) else str(value).strip("[]").split(",")
    names = [str(item).strip(" '\"") for item in items]
    if not names or any(name not in {"msd", "ssd"} for name in names):
        raise ValueError
    return ",".join(names)


_FEATURE_DIM: Final = _whole("feature_dim", 1)
_INIT: Final = ("uniform", "normal", "constant")

KMEANS: Final = (
    _whole("k", 2, default=2, required=True),
    _choice("init_method", "random", "kmeans++"),
    _whole("local_lloyd_max_iter", 1, setter="MaxIter"),
    _real("local_lloyd_tol", 0, 1, setter="Tol"),
    _or_words(_whole("local_lloyd_num_trials", 1, setter="TrialNum"), "auto"),
    _choice("local_lloyd_init_method", "random", "kmeans++", setter="LocalInitMethod"),
    _whole("half_life_time_size", 0, setter="HalflifeTime"),
    _whole("epochs", 1),
    _or_words(_whole("extra_center_factor", 1, setter="CenterFactor"), "auto"),
    _whole("mini_batch_size", 1, default=5000),
    _FEATURE_DIM,
    AlgorithmParameter(
        "eval_metrics", "'msd', 'ssd' or both", _metrics, text=lambda value: json.dumps(value.split(","))
    ),
)

PCA: Final = (
    _whole("num_components", 1, required=True),
    _choice("algorithm_mode", "regular", "stable", "randomized"),
    _flag("subtract_mean", default="True"),
    AlgorithmParameter(
        "extra_components",
        "-1 or an integer of at least 1",
        lambda value: -1 if value == -1 else _whole("extra_components", 1).convert(value),
    ),
    _whole("mini_batch_size", 1, default=1000),
    _FEATURE_DIM,
)

_LOSSES: Final = (
    "logistic",
    "squared_loss",
    "absolute_loss",
    "hinge_loss",
    "eps_insensitive_squared_loss",
    "eps_insensitive_absolute_loss",
    "quantile_loss",
    "huber_loss",
    "softmax_loss",
    "auto",
)

_LINEAR_LEARNER: Final = (
    _FEATURE_DIM,
    _whole("mini_batch_size", 1, default=1000),
    _whole("epochs", 1),
    _flag("use_bias"),
    _or_words(_whole("num_models", 1), "auto"),
    _whole("num_calibration_samples", 1),
    _choice("init_method", "uniform", "normal"),
    _real("init_scale", above=0),
    _real("init_sigma", above=0),
    _real("init_bias"),
    _choice("optimizer", "sgd", "adam", "rmsprop", "auto"),
    _choice("loss", *_LOSSES),
    _real("wd", 0),
    _real("l1", 0),
    _real("momentum", 0, below=1),
    _or_words(_real("learning_rate", above=0), "auto"),
    _real("beta_1", 0, below=1),
    _real("beta_2", 0, below=1),
    _real("bias_lr_mult", above=0),
    _real("bias_wd_mult", 0),
    _flag("use_lr_scheduler"),
    _whole("lr_scheduler_step", 1),
    _real("lr_scheduler_factor", above=0, below=1),
    _real("lr_scheduler_minimum_lr", above=0),
    _flag("normalize_data", "auto"),
    _flag("normalize_label", "auto"),
    _flag("unbias_data", "auto"),
    _flag("unbias_label", "auto"),
    _whole("num_point_for_scaler", 1),
    _whole("early_stopping_patience", 1),
    _real("early_stopping_tolerance", above=0),
    _real("margin", above=0),
    _real("quantile", above=0, below=1),
    _real("loss_insensitivity", above=0),
    _real("huber_delta", above=0),
    _real("f_beta", above=0),
)

_CRITERIA: Final = (
    "accuracy",
    "f1",
    "f_beta",
    "precision_at_target_recall",
    "recall_at_target_precision",
    "cross_entropy_loss",
    "loss_function",
)

LINEAR_LEARNER_BINARY: Final = (
    *_LINEAR_LEARNER,
    _choice("predictor_type", "binary_classifier", default="binary_classifier"),
    _choice("binary_classifier_model_selection_criteria", *_CRITERIA),
    _real("target_recall", 0, 1),
    _real("target_precision", 0, 1),
    _or_words(_real("positive_example_weight_mult", above=0), "auto", "balanced"),
)

LINEAR_LEARNER_MULTICLASS: Final = (
    *_LINEAR_LEARNER,
    _choice("predictor_type", "multiclass_classifier", default="multiclass_classifier"),
    _whole("num_classes", 3, 1_000_000, required=True),
    _whole("accuracy_top_k", 1),
    _flag("balance_multiclass_weights", setter="BalanceMultiClassWeights"),
)

LINEAR_LEARNER_REGRESSOR: Final = (
    *_LINEAR_LEARNER,
    _choice("predictor_type", "regressor", default="regressor"),
)


def _factorization_machines(predictor: str) -> tuple[AlgorithmParameter, ...]:
    parts = ("bias", "linear", "factors")
    return (
        _FEATURE_DIM,
        _whole("num_factors", 1, required=True),
        _choice("predictor_type", predictor, default=predictor),
        _whole("mini_batch_size", 1, default=1000),
        _whole("epochs", 1),
        _real("clip_gradient"),
        _real("eps"),
        _real("rescale_grad"),
        *(_real(f"{part}_lr", 0) for part in parts),
        *(_real(f"{part}_wd", 0) for part in parts),
        *(_choice(f"{part}_init_method", *_INIT) for part in parts),
        *(_real(f"{part}_init_{which}", 0) for part in parts for which in ("scale", "sigma")),
        *(_real(f"{part}_init_value") for part in parts),
    )


FACTORIZATION_MACHINES_BINARY: Final = _factorization_machines("binary_classifier")
FACTORIZATION_MACHINES_REGRESSOR: Final = _factorization_machines("regressor")

LDA: Final = (
    _whole("num_topics", 1, required=True),
    _real("alpha0", above=0),
    _whole("max_restarts", 1),
    _whole("max_iterations", 1),
    _real("tol", above=0),
    _whole("mini_batch_size", 1, required=True),
    _FEATURE_DIM,
)

XGBOOST: Final = (
    _choice("booster", "gbtree", "gblinear", "dart"),
    _whole("silent", 0, 1),
    _whole("nthread", 1, setter="NThread"),
    _real("eta", 0, 1),
    _real("gamma", 0),
    _whole("max_depth", 0),
    _real("min_child_weight", 0),
    _real("max_delta_step", 0),
    _real("subsample", most=1, above=0),
    _real("colsample_bytree", most=1, above=0, setter="ColSampleByTree"),
    _real("colsample_bylevel", most=1, above=0, setter="ColSampleByLevel"),
    _real("lambda_weights", 0, setter="Lambda", sent="lambda"),
    _real("alpha", 0),
    _choice("tree_method", "auto", "exact", "approx", "hist"),
    _real("sketch_eps", above=0, below=1),
    _real("scale_pos_weight"),
    _text("updater"),
    _whole("refresh_leaf", 0, 1),
    _choice("process_type", "default", "update"),
    _choice("grow_policy", "depthwise", "lossguide"),
    _whole("max_leaves", 0),
    _whole("max_bin", 1),
    _choice("sample_type", "uniform", "weighted"),
    _choice("normalize_type", "tree", "forest"),
    _real("rate_drop", 0, 1),
    _whole("one_drop", 0, 1),
    _real("skip_drop", 0, 1),
    _real("lambda_bias", 0, 1),
    _real("tweedie_variance_power", above=1, below=2),
    _text("objective"),
    _whole("num_class", 1, setter="NumClasses"),
    _real("base_score"),
    _text("eval_metric"),
    _whole("seed"),
    _whole("num_round", 1, required=True),
)


def add_params(cls: type[Any], table: Iterable[AlgorithmParameter]) -> None:
    """Give a class the Params of a table, with a getter and a setter for each, in both spellings."""
    cls._hyperparameter_table = {each.name: each for each in table}
    for each in cls._hyperparameter_table.values():
        description = f"{each.description}{'; required' if each.required else ''}"
        parent = Params._dummy()  # noqa: SLF001 - pyspark's way
        param = Param(
            parent,
            each.name,
            f"{MEANINGS[each.name]}. Must be {description}.",
            functools.partial(_converted, cls, each.name),
        )
        setattr(cls, each.name, param)
        own = camel_case(each.name)
        ends = {own[:1].upper() + own[1:], each.setter or own[:1].upper() + own[1:]}
        for end in ends:
            for name in {f"get{end}", f"get_{snake_case(end)}"}:
                setattr(cls, name, _getter(name, each))
            for name in {f"set{end}", f"set_{snake_case(end)}"}:
                setattr(cls, name, _setter(name, each))


def _converted(owner: type[Any], name: str, value: Any) -> Any:
    """Return the value of a Param. A partial call of this function can be pickled, and so can the Param."""
    hyperparameter: AlgorithmParameter = owner._hyperparameter_table[name]  # noqa: SLF001 - `add_params` sets it
    try:
        return hyperparameter.convert(value)
    except (ValueError, TypeError, OverflowError):
        raise ConfigurationError(
            f"{owner.__name__}.{name}: must be {hyperparameter.description}, not {shown(value)}"
        ) from None


def _getter(name: str, hyperparameter: AlgorithmParameter) -> Callable[[Any], Any]:
    def get(self: Any) -> Any:
        return self.getOrDefault(hyperparameter.name)

    get.__doc__ = f"Return `{hyperparameter.name}`. {MEANINGS[hyperparameter.name]}."
    get.__name__ = get.__qualname__ = name
    return get


def _setter(name: str, hyperparameter: AlgorithmParameter) -> Callable[[Any, Any], Any]:
    def put(self: Any, value: Any) -> Any:
        return self._set(**{hyperparameter.name: value})

    put.__doc__ = f"""Set `{hyperparameter.name}`, and return the stage.

    {MEANINGS[hyperparameter.name]}.

    Args:
        value: {hyperparameter.description}.
    """
    put.__name__ = put.__qualname__ = name
    return put


def texts_of(stage: Any, table: Mapping[str, AlgorithmParameter]) -> dict[str, str]:
    """Return the hyperparameters of a stage that have a value, as they are sent."""
    return {
        each.sent or each.name: each.text(stage.getOrDefault(each.name))
        for each in table.values()
        if stage.isDefined(each.name)
    }
