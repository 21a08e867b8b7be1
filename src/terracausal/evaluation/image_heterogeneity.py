"""Is there any heterogeneity by image? A test that permutes images among sites."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import RoleError, list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.effects.learner import check_outcome_varies as check_study_varies
from terracausal.evaluation.exchange import Exchange, exchange_groups
from terracausal.evaluation.kept_draws import KeptDraws, fingerprint
from terracausal.evaluation.priorities import check_outcome_varies
from terracausal.evaluation.site_statistics import (
    ranking_statistic,
    ridge_out_of_fold,
    standardise_columns,
)
from terracausal.nuisance import Scores, doubly_robust_scores, repeat_cross_fit
from terracausal.nuisance.fitting import fit_learner, predict_numbers
from terracausal.study import Study
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.int64]
Statistic = Literal["calibration", "AUTOC", "QINI"]
N_FOLDS = 5
_SPLITS = 3  # ridge regressions cost so little that chance splits are averaged
_FEWEST_ARRANGEMENTS = 20
_WORDS = "the effect learner of the permutation test"


@dataclass(frozen=True, eq=False)
class ImageHeterogeneityTest(TabularResult):
    """How well images predict effects, against what chance pairs of images and sites give.

    Parameters
    ----------
    value : ndarray of shape (1,)
        The statistic, in clustered standard errors; large where images predict effects.
    permuted : ndarray of shape (n_permutations,)
        The statistic with images exchanged among sites.
    statistic : {"calibration", "AUTOC", "QINI"}
    learner : str
        What predicted the effects.
    n_units, n_sites, n_clusters : int
        Sites without a cluster are their own.
    n_groups : int
        Groups of clusters that exchange images among themselves.
    units_range : int, default=0
        Largest difference in the number of units between clusters of a group.
    n_fixed : int, default=0
        Clusters that are alone in their group and keep their images.
    assumptions : tuple of str, default=()
    strata : str, default=None
        Column of the study inside whose values images were exchanged; None where among all.

    Examples
    --------
    >>> found = ImageHeterogeneityTest(
    ...     np.array([2.0]), np.linspace(-1, 1, 19), "AUTOC", "ridge", 40, 20, 20, 1
    ... )
    >>> found.p_value.tolist()
    [0.05]
    """

    value: Floats
    permuted: Floats = field(repr=False)
    statistic: str
    learner: str
    n_units: int
    n_sites: int
    n_clusters: int
    n_groups: int
    units_range: int = 0
    n_fixed: int = 0
    assumptions: tuple[str, ...] = ()
    strata: str | None = None

    @property
    def n_permutations(self) -> int:
        """Number of random exchanges."""
        return len(self.permuted)

    @property
    def std_error(self) -> Floats:
        """Standard deviation of the statistic over permutations, of shape (1,)."""
        return np.array([self.permuted.std(ddof=1)])

    @property
    def p_value(self) -> Floats:
        """Share of arrangements, the given one among them, with as large a statistic; shape (1,).

        One-sided, since learners that find something predict held-out sites better than chance.
        """
        # rounding must not part an arrangement from its equal
        limit = self.value[0] - 1e-9 * max(abs(float(self.value[0])), 1.0)
        exceed = 1 + int((self.permuted >= limit).sum())
        return np.array([exceed / (1 + self.n_permutations)])

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row: term, estimate, std_error, p_value, n_permutations, n_units, …."""
        return pd.DataFrame(
            {
                "term": [f"image heterogeneity ({self.statistic})"],
                "estimate": self.value,
                "std_error": self.std_error,
                "p_value": self.p_value,
                "n_permutations": self.n_permutations,
                "n_units": self.n_units,
                "n_sites": self.n_sites,
                "n_clusters": self.n_clusters,
            }
        )

    def summary(self) -> str:
        """Return the statistic, its p-value and how images were exchanged, as text."""
        similar = f", which differ by at most {self.units_range} units" if self.units_range else ""
        lines = [
            "Is there any heterogeneity by image?",
            f"  statistic   {self.value[0]:.3f} ({self.statistic} in clustered std. errors); "
            f"permuted mean {self.permuted.mean():.3f}, SD {self.std_error[0]:.3f}",
            f"  p-value     {self.p_value[0]:.3g} (one-sided, {self.n_permutations} permutations)",
            f"  learner     {self.learner}, {N_FOLDS} folds of whole clusters",
            f"  permuted    images of {self.n_sites:,} sites among {self.n_clusters:,} clusters in "
            f"{self.n_groups} groups{similar}; {self.n_units:,} units",
        ]
        if self.strata is None:
            lines.append(
                "  strata      none: images were exchanged between any places; where regions "
                "differ in both images and outcomes, name these as `strata` of the study"
            )
        else:
            lines.append(f"  strata      images were exchanged inside {self.strata!r} only")
        if self.n_fixed:
            lines.append(f"  fixed       {self.n_fixed} clusters had nobody to exchange with")
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the statistic among those of permuted images.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting.permutations import plot_permutations

        label = f"{self.statistic} (clustered std. errors)"
        return plot_permutations(self.permuted, float(self.value[0]), ax=ax, xlabel=label)


def image_heterogeneity_test(
    study: Study,
    scores: Scores | None = None,
    *,
    learner: Any = None,
    statistic: Statistic = "calibration",
    n_permutations: int = 999,
    saved: "str | Path | None" = None,
    n_jobs: int = 1,
    random_state: RandomState = None,
) -> ImageHeterogeneityTest:
    """Test whether effects vary with the image at all, by exchanging images among sites.

    A learner predicts the scores of held-out sites from the embeddings of their images. The same is
    done with images exchanged at random among clusters of the same stratum and size, while
    treatments, outcomes, covariates and scores stay where they are.

    Parameters
    ----------
    study : Study
        With embeddings joined by site. Images are exchanged inside its `strata`, if it has any:
        those of the design, or regions inside which places are alike
        (``study.with_roles(strata="district")``).
    scores : Scores, default=None
        From `doubly_robust_scores`; with repeats their mean is taken. None makes them from the
        covariates alone, so that they do not depend on the images: the mean of 3 cross-fits.
    learner : scikit-learn regressor, default=None
        Regresses the mean score of sites on embeddings, anew for each permutation and fold. None is
        a ridge regression whose penalty is chosen by the leave-one-out error.
    statistic : {"calibration", "AUTOC", "QINI"}, default="calibration"
        "calibration" multiplies scores by out-of-fold predictions (the differential prediction of
        `calibration_test`), "AUTOC" and "QINI" by functions of their rank, as in
        `rank_weighted_effect`.
    n_permutations : int, default=999
        Random exchanges. The smallest p-value is ``1 / (n_permutations + 1)``.
    saved : path-like, default=None
        File to which the statistic of each permutation is added, for a learner that takes long. A
        run that was stopped goes on where it was; needs an integer `random_state`.
    n_jobs : int, default=1
        Permutations side by side, for a given learner; the numbers do not depend on it.
    random_state : None, int or Generator, default=None
        Seed of folds and permutations.

    Returns
    -------
    ImageHeterogeneityTest

    Raises
    ------
    RoleError
        No embeddings are joined, images do not differ, or too few clusters can exchange images;
        or `scores` is None where the images are confounders of unknown propensity.

    Notes
    -----
    **What is tested exactly.** If scores do not depend on the images, the null hypothesis is that
    inside each group of clusters the images are independent of everything else about the cluster:
    its treatment, outcomes and covariates. Images may depend on each other, as neighbours do;
    clusters may differ in any way, as long as inside a group they are exchangeable. Then the
    p-value is valid for any number of clusters, with the given arrangement counted (Phipson & Smyth
    2010, doi:10.2202/1544-6115.1585).

    **What is tested approximately.** One wants to test less: that the *effect* does not vary with
    the image, although outcomes may. Images that predict outcomes then also predict how noisy
    scores are, and clusters are not exchangeable. As the mean score given the image is still the
    average effect, and the statistic is divided by its own clustered standard error, rejections
    stay close to the level (as in DiCiccio & Romano (2017), JASA 112(519),
    doi:10.1080/01621459.2016.1202117), but this is no theorem for learners;
    `simulations/rate_power` measures it. Covariates that predict the outcome sharpen the test.
    Scores whose nuisances have seen the images are allowed, with the same caution: they are not
    made anew for permuted images.

    The usual permutation of treatments needs effects to impute, or an adjustment for the estimated
    average effect (Ding, Feller & Miratrix (2016), JRSS B 78(3), doi:10.1111/rssb.12124; Chung &
    Olivares (2021), Journal of Econometrics 225(2), doi:10.1016/j.jeconom.2020.09.015). Here the
    average effect is the same in all arrangements, and treatment is not touched.

    Examples
    --------
    >>> import terracausal as tc
    >>> from terracausal.simulate import WorldSettings
    >>> data = tc.simulate_study(n_sites=60, settings=WorldSettings(effect_sd=1), random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings, role="modifier")
    >>> found = image_heterogeneity_test(study, n_permutations=99, random_state=0)
    >>> bool(found.p_value[0] <= 0.05)
    True
    """
    check_choice("statistic", statistic, ("calibration", "AUTOC", "QINI"))
    check_count("n_permutations", n_permutations, minimum=19)
    _check_learner(learner)
    if saved is not None and not isinstance(random_state, int):
        raise ValueError(
            f"`saved` needs an integer `random_state`, or a later run could not go on with the "
            f"same permutations; got {random_state!r}."
        )
    rng = random_generator(random_state)
    fold_rng, draw_rng, score_rng = rng.spawn(3)
    given = scores is not None
    check_study_varies(study)
    if scores is None:
        scores = _scores_without_images(study, score_rng)
    check_outcome_varies(scores)
    sites = _sites_of(study, scores)
    exchange = _exchange_of(sites)
    if learner is None:
        folds = [exchange.folds(N_FOLDS, child) for child in fold_rng.spawn(_SPLITS)]
        found = _ridge_statistics(sites, exchange, folds, statistic, draw_rng.spawn(n_permutations))
    else:
        fold = exchange.folds(N_FOLDS, fold_rng)
        work = _Refit(sites, exchange, fold, learner, statistic)
        found = work.run(draw_rng.spawn(1 + n_permutations), saved, n_jobs, random_state)
    return ImageHeterogeneityTest(
        found[:1],
        found[1:],
        statistic,
        "ridge regression of scores" if learner is None else " ".join(repr(learner).split()),
        scores.n_units,
        len(sites.block),
        int(sites.block.max()) + 1,
        len(exchange.groups),
        exchange.units_range,
        exchange.n_fixed,
        (
            "inside a group, clusters are exchangeable but for their images",
            "scores do not depend on images, or the test is approximate"
            if given
            else "scores were made without the images",
            *scores.assumptions,
        ),
        study.roles.strata,
    )


class _Sites(NamedTuple):
    """Scores and images by site, sites sorted by key.

    `total` is the weighted sum of scores, `weight` the sum of unit weights, both of shape
    (n_sites,); `block` the cluster and `stratum` the stratum as codes; `features` of shape
    (n_sites, n_features).
    """

    total: Floats
    weight: Floats
    n_units: Codes
    block: Codes
    stratum: Codes
    features: pd.DataFrame


def _check_learner(learner: Any) -> None:
    absent = [name for name in ("fit", "predict") if not hasattr(learner, name)]
    if learner is not None and (absent or hasattr(learner, "cross_predict")):
        found = f"has no {list_some(absent)}" if absent else "learns from a study, not from scores"
        raise TypeError(
            "`learner` must be a scikit-learn regressor of scores on embeddings; "
            f"{type(learner).__name__} {found}. Pass, for example, RandomForestRegressor()."
        )


def _scores_without_images(study: Study, rng: np.random.Generator) -> Scores:
    """Return scores whose nuisances see covariates only."""
    confounding = [role for role, _ in study.joined_roles if role != "modifier"]
    if study.propensity is None and confounding:
        raise RoleError(
            f"The embeddings are joined as {list_some(confounding)} and the propensity is unknown, "
            "so scores made without the images would be confounded. Pass `scores` from "
            "doubly_robust_scores, or join with role='modifier' if treatment was randomised."
        )
    plain = Study(study.table, **study.roles.arguments())
    return doubly_robust_scores(plain, repeat_cross_fit(plain, _SPLITS, random_state=rng))


def _sites_of(study: Study, scores: Scores) -> _Sites:
    """Return what the test needs of each site that has units with a score."""
    columns = list(study.embedding_columns)
    if study.sites is None or not columns:
        raise RoleError(
            f"The test needs images by site: the study has {len(columns)} embedding columns and "
            f"{'no site column' if study.sites is None else f'{study.n_sites} sites'}. Use "
            "study.join(embeddings, role='modifier')."
        )
    unknown = scores.units.difference(study.units)
    if len(unknown):
        raise RoleError(
            f"The scores must be of the study's units; {len(unknown)} of {scores.n_units} are not: "
            f"{list_some(unknown)}. Make them from this study."
        )
    units = scores.units[canonical_order(scores.units)]
    at = scores.units.get_indexer(units)
    runs = (scores, *scores.repeats)
    score = np.mean([run.score.loc[units].to_numpy() for run in runs], axis=0)
    v = scores.weight[at]
    key = study.sites.loc[units]
    keys = pd.Index(key.unique())
    keys = keys[canonical_order(keys)]
    code = keys.get_indexer(key)
    clusters, strata = study.clusters, study.strata
    # sites lie in one cluster by construction, and a unit without a cluster is a site of its own
    label = key if clusters is None else clusters.loc[units]
    first = pd.Series(code).drop_duplicates()
    order = first.index.to_numpy()[np.argsort(first.to_numpy())]
    stratum = np.zeros(len(keys), dtype=np.int64)
    if strata is not None:
        found = strata.loc[units].astype(str).groupby(code).unique().map(lambda s: tuple(sorted(s)))
        stratum = pd.factorize(found, sort=True)[0].astype(np.int64)
    return _Sites(
        np.bincount(code, weights=v * score).astype(np.float64),
        np.bincount(code, weights=v).astype(np.float64),
        np.bincount(code).astype(np.int64),
        pd.factorize(label.to_numpy()[order])[0].astype(np.int64),
        stratum,
        study.table.loc[units, columns].iloc[order].set_axis(keys, axis=0),
    )


def _exchange_of(sites: _Sites) -> Exchange:
    """Return who exchanges images; refuse too few clusters, arrangements or images."""
    n_clusters = int(sites.block.max()) + 1
    if n_clusters < 2 * N_FOLDS:
        raise RoleError(
            f"The test needs at least {2 * N_FOLDS} clusters, 2 for each of {N_FOLDS} folds; the "
            f"scores have {n_clusters}."
        )
    exchange = exchange_groups(sites.block, sites.stratum, sites.n_units)
    if exchange.log_arrangements < np.log(_FEWEST_ARRANGEMENTS):
        raise RoleError(
            f"At least {_FEWEST_ARRANGEMENTS} arrangements of images are needed for a p-value of "
            f"5 %; {n_clusters} clusters in {len(exchange.groups)} groups of the same stratum and "
            f"number of sites have {np.exp(exchange.log_arrangements):.0f}. Use coarser strata or "
            "smaller clusters."
        )
    if not standardise_columns(sites.features.to_numpy(dtype=np.float64)).any():
        raise RoleError(
            f"Images must differ to be exchanged; all {sites.features.shape[1]} embedding columns "
            f"have one value at all {len(sites.block)} sites."
        )
    return exchange


def _training_weight(sites: _Sites, exchange: Exchange) -> Floats:
    """Return the mean weight of the sites of each group, which no exchange changes."""
    weight = np.empty(len(sites.weight))
    for group in exchange.groups:
        weight[group] = sites.weight[group].mean()
    return np.asarray(weight / weight.mean())


def _ridge_statistics(
    sites: _Sites,
    exchange: Exchange,
    folds: list[Codes],
    statistic: str,
    children: list[np.random.Generator],
) -> Floats:
    """Return the statistic of the given arrangement and of each permutation, mean over splits."""
    given = np.arange(len(sites.block))
    sources = np.column_stack([given, *(exchange.draw(child) for child in children)])
    totals, weight = sites.total[sources], sites.weight[sources]
    x = standardise_columns(sites.features.to_numpy(dtype=np.float64))
    training = _training_weight(sites, exchange)
    found = []
    for fold in track(folds, "permuting images among sites", len(folds)):
        predicted = ridge_out_of_fold(x, totals / weight, training, fold)
        found.append(ranking_statistic(predicted, totals, weight, fold, sites.block, statistic))
    return np.asarray(np.mean(found, axis=0))


class _Refit(NamedTuple):
    """Everything that a refit of a given learner needs."""

    sites: _Sites
    exchange: Exchange
    fold: Codes
    learner: Any
    statistic: str

    def run(
        self,
        children: list[np.random.Generator],
        saved: "str | Path | None",
        n_jobs: int,
        seed: RandomState,
    ) -> Floats:
        """Return the statistic of the given arrangement (draw 0) and of each permutation."""
        sites = self.sites
        digest = fingerprint(
            sites.total, sites.weight, sites.block, sites.stratum,
            sites.features.to_numpy(dtype=np.float64), " ".join(repr(self.learner).split()),
            self.statistic, seed,
        ) if saved is not None else ""  # fmt: skip
        kept = KeptDraws(saved, digest)
        left = kept.missing(range(len(children)))
        run = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(self.one)(children[draw], permute=draw > 0) for draw in left
        )
        with kept:
            tracked = track(run, "permuting images among sites", len(left))
            for draw, value in zip(left, tracked, strict=True):
                kept.add(draw, value)
        return np.array([kept.found[draw] for draw in range(len(children))])

    def one(self, rng: np.random.Generator, *, permute: bool) -> float:
        """Fit the learner on each training part and return the statistic."""
        sites, fold = self.sites, self.fold
        source = self.exchange.draw(rng) if permute else np.arange(len(fold))
        total, weight = sites.total[source], sites.weight[source]
        training = _training_weight(sites, self.exchange)
        predicted = np.empty(len(fold))
        for label in np.unique(fold):
            train = fold != label
            fitted = fit_learner(
                self.learner,
                sites.features.loc[train],
                (total / weight)[train],
                weight=None if np.ptp(training) == 0 else training[train],
                groups=sites.block[train],
                rng=rng,
                task=_WORDS,
            )
            predicted[~train] = predict_numbers(fitted, sites.features.loc[~train], _WORDS)
        columns = (predicted[:, None], total[:, None], weight[:, None])
        return float(ranking_statistic(*columns, fold, sites.block, self.statistic)[0])
