"""The causal forest of grf: honest trees on orthogonalised data, drawn by cluster."""

from dataclasses import replace
from math import ceil, sqrt
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.effects.origin import EffectOrigin, with_origin
from terracausal.nuisance import Nuisances
from terracausal.nuisance.components import reduce_columns
from terracausal.study import Study
from terracausal.study.features import EffectFeatures, Task

if TYPE_CHECKING:  # compiled code is loaded when a forest is grown
    from terracausal.effects.honest_forest import Draws, HonestForest

Floats = NDArray[np.float64]
_TREES_PER_GROUP = 2  # grf's ci.group.size
_SMALLEST_SHARE = 0.05  # grf's alpha: of a node's variation of treatment, in each child
_NUISANCE_NODE_SIZE = 5
_FEWEST_CLUSTERS = 4  # a half-sample of two: one for the splits, one for the leaves


class CausalForest(EffectLearner):
    """Predict effects with an honest causal forest, with the method and the defaults of grf.

    Outcome and treatment are first predicted by regression forests, each unit from trees that left
    out its cluster; the causal forest is grown on the residuals. Every tree draws whole clusters:
    half of them choose its splits, the other half fill its leaves.

    Parameters
    ----------
    n_trees : int, default=2000
        Trees of the causal forest; the nuisance forests have a quarter of that, at least 50.
    n_split_features : int, default=None
        Expected number of features tried at a split; None is ``min(ceil(sqrt(p) + 20), p)``.
    min_node_size : int, default=5
        Each child of a split has at least so many units above, and below, its parent's mean
        residual of treatment.
    sample_fraction : float, default=0.5
        Share of the clusters that each tree draws; half of these choose its splits.
    equalize_cluster_weights : bool, default=False
        Whether each tree draws as many units from every cluster as the smallest has, so that
        clusters count the same. Otherwise units count the same.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with.
    n_components : int, default=None
        Replace joined embeddings by this many principal components, in all three forests. None
        keeps the columns.
    n_jobs : int, default=1
        Threads; the numbers do not depend on it.
    random_state : None, int or Generator, default=None
        Seed.

    Attributes
    ----------
    oob_effects_ : pandas.Series of shape (n_units,)
        Effect of each training unit, from the trees that left out its cluster; NaN where none did.
    oob_std_errors_ : pandas.Series of shape (n_units,)
        Their standard errors.
    nuisances_ : Nuisances
        Predicted for each unit without its cluster, the outcome of each arm from the mean outcome
        and the effect; `doubly_robust_scores` takes them, and averages are then those of grf. A
        propensity that the study knows is taken as it is.
    n_split_features_ : int

    Raises
    ------
    RoleError
        Fewer than 4 clusters (or units), or equalised clusters and unit weights at once.

    Notes
    -----
    Athey, Tibshirani & Wager (2019), Generalized random forests, Annals of Statistics 47(2),
    doi:10.1214/18-AOS1709 (splits: section 2.3; residuals: 6.1.1; standard errors by groups of
    trees on a common half-sample: 4.1); clusters as in Athey & Wager (2019), Estimating treatment
    effects with causal forests, doi:10.1353/obs.2019.0001. Numeric features are coded by 256
    quantiles, which moves a cut by at most 0.4 % of the units and changes nothing for features of
    fewer values; `simulations/forest_parity` compares effects, coverage and time with grf.

    Assumes no unmeasured confounding given the features, overlap, and no interference between
    clusters. Standard errors are of the forest's own target, the effect smoothed over leaves: with
    many features and few units that is far from the unit's own effect, and intervals cover it too
    rarely, as grf's do.

    Out-of-bag effects have not seen the outcomes of their own cluster, but leaving a cluster out
    moves its prediction away from its own outcomes. With constant effects their RATE is more than a
    standard error below 0 (`simulations/out_of_bag`), so rankings refuse them and take
    `cross_predict`, which ranks within folds. `calibration_test` takes them, as grf does: its
    one-sided test is then cautious.

    The first forest in a fresh installation waits some ten seconds for compilation.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, random_state=0)
    >>> forest = CausalForest(n_trees=40, random_state=0).fit(data.study)
    >>> len(forest.predict(data.study.table)) == data.study.n_units
    True
    """

    oob_effects_: "pd.Series[float]"
    oob_std_errors_: "pd.Series[float]"
    nuisances_: Nuisances

    def __init__(  # noqa: PLR0913 - as grf's, all optional
        self,
        n_trees: int = 2000,
        n_split_features: int | None = None,
        min_node_size: int = 5,
        sample_fraction: float = 0.5,
        equalize_cluster_weights: bool = False,
        use: EffectFeatures = "all",
        n_components: int | None = None,
        n_jobs: int = 1,
        random_state: RandomState = None,
    ) -> None:
        self.n_trees = n_trees
        self.n_split_features = n_split_features
        self.min_node_size = min_node_size
        self.sample_fraction = sample_fraction
        self.equalize_cluster_weights = equalize_cluster_weights
        self.use = use
        self.n_components = n_components
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, study: Study) -> Self:
        """Learn how the effect varies with the features; see `EffectLearner.fit`."""
        super().fit(study)
        # a study is fitted in canonical order, and its user has another
        self.oob_effects_ = with_origin(
            self.oob_effects_.loc[study.units], EffectOrigin(repr(self), out_of_bag=True)
        )
        self.oob_std_errors_ = self.oob_std_errors_.loc[study.units]
        self.nuisances_ = replace(self.nuisances_, table=self.nuisances_.table.loc[study.units])
        return self

    def predict_interval(self, table: pd.DataFrame | Study, level: float = 0.95) -> pd.DataFrame:
        """Predict the effect for each row, with a pointwise confidence interval.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any), or Study
            As for `predict`; for units that trained the forest, `oob_std_errors_` are the honest
            ones.
        level : float, default=0.95
            Coverage of each interval.

        Returns
        -------
        pandas.DataFrame
            Columns cate, std_error, ci_low and ci_high, by row. The interval is for the mean effect
            of units with the features of the row, not for the effect on one unit.
        """
        features = self._encoded(table)
        check_fraction("level", level)
        effect = self.predict(table)
        std_error = np.sqrt(self._effects(features)[:, 1])
        half = stats.norm.ppf(0.5 + level / 2) * std_error
        columns = {"cate": effect, "std_error": std_error}
        return pd.DataFrame(columns | {"ci_low": effect - half, "ci_high": effect + half})

    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        from terracausal.effects.honest_forest import FeatureCodes, grow_forest
        from terracausal.effects.honest_trees import Rules, Sample

        self._check_settings(study)
        rng = random_generator(self.random_state)
        draws = self._draws(study)
        weight = np.ones(study.n_units)
        if study.weight is not None:
            weight = np.asarray(study.weight / study.weight.mean(), dtype=np.float64)
        m, e = (
            self._regress(study, task, weight, draws, rng) for task in ("outcome", "propensity")
        )
        y, z = study.outcome.to_numpy() - m, study.treatment.to_numpy() - e
        self.codes_ = FeatureCodes.of(features.to_numpy())
        codes = self.codes_.encode(features.to_numpy())
        self.n_split_features_ = self._split_features(features)
        rules = Rules(self.n_split_features_, self.min_node_size, _SMALLEST_SHARE, True)
        self.forest_, left_out = grow_forest(
            Sample(codes, y, z, weight), rules, draws, self.n_trees, rng, self.n_jobs
        )
        found = self.forest_.effects(codes, left_out, self.n_jobs)
        self.oob_effects_ = pd.Series(found[:, 0], index=study.units, name="cate")
        self.oob_std_errors_ = pd.Series(np.sqrt(found[:, 1]), index=study.units, name="std_error")
        self.nuisances_ = _nuisances_of(study, m, e, found[:, 0])

    def _regress(
        self, study: Study, task: Task, weight: Floats, draws: "Draws", rng: np.random.Generator
    ) -> Floats:
        """Predict outcome or treatment of each unit from trees without its cluster, (n_units,)."""
        from terracausal.effects.honest_forest import FeatureCodes, grow_forest
        from terracausal.effects.honest_trees import Rules, Sample

        if task == "propensity" and study.propensity is not None:
            return np.asarray(study.propensity, dtype=np.float64)
        target = study.outcome if task == "outcome" else study.treatment
        values = np.asarray(target, dtype=np.float64)
        features = study.features(task)
        if features.shape[1] == 0:
            return np.full(study.n_units, np.average(values, weights=weight))
        if self.n_components is not None:
            everyone = np.ones(study.n_units, dtype=np.bool_)
            features = reduce_columns(
                features, study.embedding_columns, self.n_components, everyone
            )
        codes = FeatureCodes.of(features.to_numpy()).encode(features.to_numpy())
        rules = Rules(self._split_features(features), _NUISANCE_NODE_SIZE, _SMALLEST_SHARE, False)
        sample = Sample(codes, values, np.zeros(study.n_units), weight)
        n_trees = max(50, self.n_trees // 4)
        forest, left_out = grow_forest(
            sample, rules, draws._replace(group_size=1), n_trees, rng, self.n_jobs
        )
        moments = forest.moments(codes, left_out, self.n_jobs)
        return np.asarray(moments[:, 0] / moments[:, -1])

    def _draws(self, study: Study) -> "Draws":
        from terracausal.effects.honest_forest import Draws

        clusters = study.clusters
        groups = np.arange(study.n_units) if clusters is None else pd.factorize(clusters)[0]
        sizes = np.bincount(groups)
        if len(sizes) < _FEWEST_CLUSTERS:
            what = "units" if clusters is None else "clusters"
            raise RoleError(
                f"CausalForest needs at least {_FEWEST_CLUSTERS} {what}, as each tree draws half "
                f"of them and splits these in two; found {len(sizes)} {what}."
            )
        size = int(sizes.min() if self.equalize_cluster_weights else sizes.max())
        return Draws(groups.astype(np.int64), self.sample_fraction, _TREES_PER_GROUP, size)

    def _split_features(self, features: pd.DataFrame) -> int:
        n_features = features.shape[1]
        if self.n_split_features is None:
            return grf_split_features(n_features)
        return min(self.n_split_features, n_features)

    def _check_settings(self, study: Study) -> None:
        check_count("n_trees", self.n_trees, minimum=_TREES_PER_GROUP)
        check_count("min_node_size", self.min_node_size)
        if self.n_split_features is not None:
            check_count("n_split_features", self.n_split_features)
        if check_fraction("sample_fraction", self.sample_fraction) > 0.5:
            raise ValueError(
                "`sample_fraction` must be at most 0.5, so that the half-samples that give "
                f"standard errors exist; got {self.sample_fraction!r}."
            )
        if self.equalize_cluster_weights and study.weight is not None:
            raise RoleError(
                "`equalize_cluster_weights` makes clusters count the same and the weight "
                f"{study.roles.weight!r} says how much units count; use one of them."
            )

    def _effects(self, features: pd.DataFrame) -> Floats:
        """Return effects and variances, shape (n_rows, 2)."""
        forest: HonestForest = self.forest_
        return forest.effects(self.codes_.encode(features.to_numpy()), n_jobs=self.n_jobs)

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        return self._effects(features)[:, 0]


def _nuisances_of(study: Study, m: Floats, e: Floats, tau: Floats) -> Nuisances:
    """Return mean outcome, propensity and effect, each of shape (n_units,), as nuisances."""
    known = study.propensity is not None
    columns = {
        "propensity": e,
        "outcome_control": m - e * tau,
        "outcome_treated": m + (1 - e) * tau,
    }
    words = dict.fromkeys(columns, "regression forest and causal forest")
    words["propensity"] = "known" if known else "regression forest"
    quality = pd.DataFrame(columns=["nuisance", "metric", "value", "baseline"])
    table = pd.DataFrame(columns, index=study.units)
    return Nuisances(table, known, words, quality, study.roles.outcome)


def grf_split_features(n_features: int) -> int:
    """Return grf's number of features tried at each split.

    Examples
    --------
    >>> grf_split_features(10), grf_split_features(512)
    (10, 43)
    """
    return min(ceil(sqrt(n_features) + 20), n_features)
