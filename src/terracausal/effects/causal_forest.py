"""The causal forest of grf, grown by econml on orthogonalised data."""

import warnings
from math import ceil, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.optional import require
from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.nuisance import cross_fit
from terracausal.study import Study
from terracausal.study.features import EffectFeatures, Task

Floats = NDArray[np.floating[Any]]
_TREES_PER_GROUP = 2  # grf's ci.group.size
_IMBALANCE = 0.05  # grf's alpha: the smallest share of a node that a child may have
_ROWS_AT_ONCE = 2_000  # econml spreads predictions over trees, so memory grows with rows


class CausalForest(EffectLearner):
    """Predict effects with an honest causal forest, at grf's defaults.

    Outcome and treatment are first predicted out of fold by regression forests; the forest is grown
    on the residuals, so that splits look for differences in the effect.

    Parameters
    ----------
    n_trees : int, default=2000
        Trees of the causal forest; the nuisance forests have a quarter of that.
    n_split_features : int, default=None
        Features tried at a split; None is grf's ``min(ceil(sqrt(p) + 20), p)``.
    min_node_size : int, default=5
        Smallest number of units in a leaf.
    sample_fraction : float, default=0.5
        Share of the units that each tree sees; half of these choose the splits and half fill the
        leaves (honesty).
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with.
    n_folds : int, default=5
        Folds of whole clusters for the nuisances.
    n_jobs : int, default=1
        Trees grown side by side; the numbers do not depend on it.
    random_state : None, int or Generator, default=None
        Seed.

    Notes
    -----
    Athey, Tibshirani & Wager (2019), Generalized random forests, Annals of Statistics 47(2),
    doi:10.1214/18-AOS1709. Trees draw units, not clusters: use `cross_predict`, whose folds hold
    whole clusters, for anything that is evaluated.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, random_state=0)
    >>> forest = CausalForest(n_trees=40, random_state=0).fit(data.study)
    >>> len(forest.predict(data.study.table)) == data.study.n_units
    True
    """

    def __init__(
        self,
        n_trees: int = 2000,
        n_split_features: int | None = None,
        min_node_size: int = 5,
        sample_fraction: float = 0.5,
        use: EffectFeatures = "all",
        n_folds: int = 5,
        n_jobs: int = 1,
        random_state: RandomState = None,
    ) -> None:
        self.n_trees = n_trees
        self.n_split_features = n_split_features
        self.min_node_size = min_node_size
        self.sample_fraction = sample_fraction
        self.use = use
        self.n_folds = n_folds
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        self._check_settings()
        forests = require("econml.grf", needed_by="CausalForest")
        rng = random_generator(self.random_state)
        with warnings.catch_warnings():
            # half of a small fold is what was asked for
            warnings.filterwarnings("ignore", message="Using the fractional value max_samples")
            nuisances = cross_fit(
                study,
                study.folds(self.n_folds, random_state=rng),
                outcome_learner=self._nuisance_forest(RandomForestRegressor, study, "outcome"),
                propensity_learner=self._nuisance_forest(
                    RandomForestClassifier, study, "propensity"
                ),
                random_state=rng,
            ).table
        e = nuisances["propensity"].to_numpy()
        surfaces = nuisances[["outcome_control", "outcome_treated"]].to_numpy()
        expected = (1 - e) * surfaces[:, 0] + e * surfaces[:, 1]
        weight = study.weight
        self.n_split_features_ = (
            grf_split_features(features.shape[1])
            if self.n_split_features is None
            else min(self.n_split_features, features.shape[1])
        )
        self.forest_ = forests.CausalForest(
            n_estimators=_TREES_PER_GROUP * ceil(self.n_trees / _TREES_PER_GROUP),
            criterion="het",
            min_samples_split=2 * self.min_node_size,
            min_samples_leaf=self.min_node_size,
            max_features=self.n_split_features_,
            max_samples=self.sample_fraction,
            min_balancedness_tol=0.5 - _IMBALANCE,
            honest=True,
            inference=True,
            subforest_size=_TREES_PER_GROUP,
            n_jobs=self.n_jobs,
            random_state=draw_seed(rng),
        ).fit(
            features.to_numpy(),
            (study.treatment.to_numpy() - e)[:, None],
            (study.outcome.to_numpy() - expected)[:, None],
            sample_weight=None if weight is None else (weight / weight.mean()).to_numpy(),
        )

    def _check_settings(self) -> None:
        check_count("n_trees", self.n_trees, minimum=_TREES_PER_GROUP)
        check_count("min_node_size", self.min_node_size)
        if self.n_split_features is not None:
            check_count("n_split_features", self.n_split_features)
        if check_fraction("sample_fraction", self.sample_fraction) > 0.5:
            raise ValueError(
                "`sample_fraction` must be at most 0.5, so that the half-samples that give "
                f"standard errors exist; got {self.sample_fraction!r}."
            )

    def _nuisance_forest(self, forest: Any, study: Study, task: Task) -> Any:
        """Return the forest that predicts outcome or treatment; None where it has no features."""
        n_features = study.features(task).shape[1]
        if n_features == 0:
            return None
        return forest(
            n_estimators=max(50, self.n_trees // 4),
            min_samples_leaf=self.min_node_size,
            max_features=grf_split_features(n_features),
            max_samples=self.sample_fraction,
            n_jobs=self.n_jobs,
        )

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        rows = features.to_numpy()
        parts = [
            self.forest_.predict(rows[start : start + _ROWS_AT_ONCE])[:, 0]
            for start in range(0, len(rows), _ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty(0)


def grf_split_features(n_features: int) -> int:
    """Return grf's number of features tried at each split.

    Examples
    --------
    >>> grf_split_features(10), grf_split_features(512)
    (10, 43)
    """
    return min(ceil(sqrt(n_features) + 20), n_features)
