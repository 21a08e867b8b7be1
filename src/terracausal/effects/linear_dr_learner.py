"""A DR-learner that is linear in the features, with confidence intervals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from terracausal._foundation.checks import check_fraction
from terracausal._foundation.errors import RoleError, list_some
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.effects.least_squares import regression_estimate
from terracausal.effects.stages import inner_nuisances
from terracausal.nuisance import doubly_robust_scores
from terracausal.study import Dependence, Study
from terracausal.study.features import EffectFeatures

Floats = NDArray[np.floating[Any]]
_PER_COEFFICIENT = 5


class LinearDRLearner(EffectLearner):
    """Predict effects by ordinary least squares of doubly robust scores, with intervals.

    Nothing is penalised, so coefficients and predictions have standard errors; for the same reason
    it takes few features: at least 5 clusters (5 units, where there are no clusters) for each
    coefficient. Reduce embeddings with `n_components`. A column that differs from its most frequent
    value in fewer than two clusters, such as the flag of a rare missing value, is left out.

    Parameters
    ----------
    outcome_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        As in `cross_fit`; not used where the study knows its propensity.
    dependence : Dependence, default=None
        None clusters whenever the units have clusters, and treats units as independent otherwise;
        ``Dependence("conley", cutoff_m=20_000)`` is spatial.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with.
    n_components : int, default=None
        Replace joined embeddings by this many principal components, learned on the units that each
        part is fitted on. None keeps the columns.
    n_folds : int, default=5
        Inner folds of whole clusters for the scores.
    random_state : None, int or Generator, default=None
        Seed.

    Attributes
    ----------
    columns_ : list of str
        Columns that have a coefficient.
    coefficients_ : Estimate
        Terms "(intercept)" and one per feature. Its covariance is HC3, or the jackknife over
        clusters, as in `best_linear_projection`.

    Notes
    -----
    Semenova & Chernozhukov (2021), Debiased machine learning of conditional average treatment
    effects and other causal functions, Econometrics Journal 24(2), doi:10.1093/ectj/utaa027.
    Intervals are pointwise, and speak of the linear function that is nearest to the conditional
    effect, which is the effect itself only if that is linear. Components are taken as given.
    Assumes no unmeasured confounding given the features, overlap, and no interference between
    clusters.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=60, random_state=0).study
    >>> fitted = LinearDRLearner(random_state=0).fit(study)
    >>> fitted.predict_interval(study, level=0.9).columns.tolist()
    ['cate', 'std_error', 'ci_low', 'ci_high']
    """

    def __init__(
        self,
        outcome_learner: Any = None,
        propensity_learner: Any = None,
        dependence: Dependence | None = None,
        use: EffectFeatures = "all",
        n_components: int | None = None,
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.outcome_learner = outcome_learner
        self.propensity_learner = propensity_learner
        self.dependence = dependence
        self.use = use
        self.n_components = n_components
        self.n_folds = n_folds
        self.random_state = random_state

    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        groups = study.frame.cluster_codes
        groups = np.arange(study.n_units) if groups is None else groups
        lone = [name for name in features.columns if _is_lone(features[name].to_numpy(), groups)]
        self.columns_ = [name for name in features.columns if name not in lone]
        features = features[self.columns_]
        _check_width(study, features)
        rng = random_generator(self.random_state)
        scores = doubly_robust_scores(study, inner_nuisances(self, study, rng))
        found = regression_estimate(
            scores,
            _design(features),
            scores.score.to_numpy(),
            ("(intercept)", *map(str, features.columns)),
            self.dependence,
            ("linear conditional effect", "regression of scores, HC3"),
        )
        if lone:
            told = f"{len(lone)} columns differ in fewer than 2 clusters and were left out: "
            found = replace(found, notes=(*found.notes, told + list_some(lone)))
        self.coefficients_ = found

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        # row by row, so that equal rows tie exactly
        design = _design(features[self.columns_])
        return np.asarray((design * self.coefficients_.value).sum(axis=1))

    def predict_interval(self, table: pd.DataFrame | Study, level: float = 0.95) -> pd.DataFrame:
        """Predict the effect for each row, with a pointwise confidence interval.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any), or Study
            As for `predict`.
        level : float, default=0.95
            Coverage of each interval.

        Returns
        -------
        pandas.DataFrame
            Columns cate, std_error, ci_low and ci_high, by row. The interval is for the linear
            effect at the features of the row: the mean effect of such units, not that of one unit.
        """
        check_fraction("level", level)
        design = _design(self._encoded(table)[self.columns_])
        estimate = self.coefficients_
        effect = self.predict(table)
        variance = np.einsum("ij,jk,ik->i", design, estimate.covariance, design)
        std_error = np.sqrt(np.maximum(variance, 0.0))
        half = stats.t.ppf(0.5 + level / 2, estimate.degrees_of_freedom) * std_error
        columns = {"cate": effect, "std_error": std_error}
        return pd.DataFrame(columns | {"ci_low": effect - half, "ci_high": effect + half})


def _design(features: pd.DataFrame) -> Floats:
    return np.column_stack([np.ones(len(features)), features.to_numpy()])


def _is_lone(column: Floats, groups: NDArray[np.int64]) -> bool:
    """Tell whether one group alone knows what a column does."""
    values, counts = np.unique(column, return_counts=True)
    return len(np.unique(groups[column != values[np.argmax(counts)]])) < 2


def _check_width(study: Study, features: pd.DataFrame) -> None:
    """Refuse more coefficients than the study can tell apart with a standard error."""
    n_groups = study.n_units if study.n_clusters is None else study.n_clusters
    what = "units" if study.n_clusters is None else "clusters"
    n_terms = 1 + features.shape[1]
    if n_groups < _PER_COEFFICIENT * n_terms:
        most = max(n_groups // _PER_COEFFICIENT - 1, 0)
        raise RoleError(
            f"LinearDRLearner needs at least {_PER_COEFFICIENT} {what} for each coefficient; got "
            f"{n_groups} {what} for {n_terms} coefficients ({features.shape[1]} features). Use at "
            f"most {most} features: reduce embeddings with n_components, name fewer covariates, or "
            "use DRLearner, which penalises."
        )
