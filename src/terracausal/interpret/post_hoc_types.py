"""Types of places made after the fact: sites grouped by the effects that a learner predicts."""

from dataclasses import replace
from inspect import signature
from typing import Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice, check_count, check_finite
from terracausal._foundation.errors import AlignmentError, RoleError, list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects import EffectLearner, TLearner
from terracausal.effects.cross_prediction import fold_masks
from terracausal.effects.learner import check_effect_learner
from terracausal.effects.least_squares import regression_estimate
from terracausal.interpret.effect_groups import EffectGroups, group_by_center, group_by_tree
from terracausal.mixtures.design import embeddings_of, sites_of, weights_of
from terracausal.mixtures.labels import mean_agreement
from terracausal.mixtures.networks import refuse_other_encoder, refuse_other_input
from terracausal.mixtures.preparing import check_support
from terracausal.mixtures.types_of_places import TypesOfPlaces
from terracausal.nuisance import Nuisances, Scores, cross_fit, doubly_robust_scores
from terracausal.nuisance.fitting import seeded
from terracausal.study import Estimate, Study
from terracausal.study.estimate import median_estimate

Floats = NDArray[np.float64]
Grouping = Literal["kmeans", "tree"]
_N_COVARIATE_ROWS = 16
# as for groups by out-of-fold priorities: each fold also trained the groups of the others
_WIDENING = float(np.sqrt(2))


class _Part(NamedTuple):
    """A learner that did not see one fold, and the groups made of its predictions."""

    learner: EffectLearner
    groups: EffectGroups

    def memberships(self, embeddings: pd.DataFrame, covariates: pd.DataFrame) -> Floats:
        """Return probabilities of the groups, of shape (n_sites, K)."""
        effect = site_effects(self.learner, embeddings, covariates)
        return self.groups.memberships(effect, embeddings)


class PostHocTypes(TypesOfPlaces, BaseEstimator):
    """Types of places made of predicted effects: what a mixture is to be compared with.

    In each of several folds a learner of conditional effects is fitted to the other folds, predicts
    an effect for each of their sites from its image, and sites are grouped by these: by k-means, or
    by the leaves of a regression tree of the predicted effects on the embeddings. The sites of the
    fold, whose outcomes have formed neither learner nor groups, then join the group that is
    theirs. Component effects are averages of the doubly robust scores of these sites.

    Parameters
    ----------
    learner : EffectLearner, default=None
        Predicts effects from embeddings and covariates: `CausalForest`, a `TLearner` of any
        outcome learners (such as networks), … None takes `TLearner`.
    n_components : int, default=2
        Number of types, K; at least 2.
    grouping : {"kmeans", "tree"}, default="kmeans"
        How sites are grouped by predicted effect.
    n_folds : int, default=5
        Folds of whole clusters.
    random_state : None, int or Generator, default=None
        Seed.

    Attributes
    ----------
    component_effects_ : Estimate
        One term per component, from the smallest predicted effect to the largest.
    contrast_ : Estimate
        Effect of the last component less that of the first: whether the groups differ at all.
    shares_ : Estimate
        Share of the units in each component.
    predicted_effects_ : ndarray of shape (K,)
        Mean of the predicted effects in each component, over folds. Papers give these as the
        effects of the groups (centres of k-means); they carry the learner's noise and shrinkage.
    memberships_ : DataFrame
        Probabilities of the fitted sites, by the learner and groups of the other folds.
    fold_agreement_ : float
        Mean adjusted Rand index between the groups of the first fold and those of the others.

    Raises
    ------
    RoleError
        The study has no sites or no embeddings, the learner reads chips or covariates alone,
        predicts the same effect everywhere, or a component lacks an arm.
    ValueError
        More components than a tenth of the sites.

    Notes
    -----
    The effect of a component is the average effect of the places that a rule puts together, and no
    more: where the image tells a type with error, each group holds sites of several types and its
    effect lies between theirs. `EffectMixture` estimates the effects of the types themselves, if
    its likelihood is right; this one assumes none.

    A site's predicted effect is the mean of the learner's predictions over 16 units' covariates, so
    that types follow the image, as in the mixture. Probabilities by k-means are those of normals of
    one SD around the centres; trees give 0 or 1. `predict_proba` averages over the folds' learners,
    and its SDs are those of the jackknife over folds, rough for trees.

    Standard errors are clustered and HC3. What a group deviates from the average effect is widened
    by the root of 2, as in `grouped_effects`, since each fold helped to form the groups of the
    others. Assumes no unmeasured confounding given the features, overlap, and no interference
    between clusters.

    References
    ----------
    Jerzak, C. T., Johansson, F. & Daoud, A. (2023). Image-based treatment effect heterogeneity.
    CLeaR, PMLR 213. arXiv:2206.06417, whose baseline is k-means of the effects of networks by arm.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings, role="modifier")
    >>> types = PostHocTypes(tc.TLearner(), n_folds=2, random_state=0).fit(study)
    >>> types.component_effects_.terms
    ('component 1', 'component 2')
    """

    component_effects_: Estimate
    contrast_: Estimate
    shares_: Estimate
    predicted_effects_: Floats
    memberships_: pd.DataFrame
    fold_agreement_: float

    def __init__(
        self,
        learner: EffectLearner | None = None,
        n_components: int = 2,
        grouping: Grouping = "kmeans",
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.learner = learner
        self.n_components = n_components
        self.grouping = grouping
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(self, study: Study, *, nuisances: Nuisances | None = None) -> Self:
        """Fit learners and groups fold by fold, and the effects of the groups.

        Parameters
        ----------
        study : Study
            With sites and joined embeddings.
        nuisances : Nuisances, default=None
            Of the same study, for the scores; None takes `cross_fit` on the same folds.

        Returns
        -------
        PostHocTypes
            The same object.
        """
        self._check_settings()
        learner = TLearner() if self.learner is None else self.learner
        _check_learner(learner)
        # streams of their own: scores and folds do not depend on the grouping
        splitting, scoring, choosing, fitting = random_generator(self.random_state).spawn(4)
        ordered = study.canonical()
        embeddings = embeddings_of(ordered, None).types
        keys, site = sites_of(ordered)
        check_support(len(keys), self.n_components)
        folds = ordered.folds(self.n_folds, random_state=splitting)
        splits = fold_masks(ordered, folds)
        if nuisances is None:
            nuisances = cross_fit(study, folds, random_state=scoring)
        scores = doubly_robust_scores(study, nuisances)
        self.columns_ = tuple(map(str, embeddings.columns))
        self.encoders_ = study.joined_encoders
        self.covariates_ = _covariate_rows(ordered, learner, choosing)
        self.parts_ = [
            self._fit_part(seeded(learner, fitting), ordered.subset(train), embeddings, fitting)
            for train, _ in track(splits, "grouping sites by predicted effect", len(splits))
        ]
        found = np.stack([part.memberships(embeddings, self.covariates_) for part in self.parts_])
        self.fold_agreement_ = mean_agreement(found[0], list(found[1:]))
        self.predicted_effects_ = np.mean([part.groups.centers for part in self.parts_], axis=0)
        blind = np.empty(found.shape[1:])
        for chance, (_, test) in zip(found, splits, strict=True):
            blind[site[test]] = chance[site[test]]
        self.memberships_ = pd.DataFrame(blind, keys, self._columns("probability"))
        group = pd.Series(blind.argmax(axis=1)[site], ordered.units)
        self._estimate(scores, group.loc[study.units].to_numpy(), learner)
        return self

    def predict_proba(self, images: pd.DataFrame) -> pd.DataFrame:
        """Return the probability of each type for sites, given their image alone.

        Parameters
        ----------
        images : pandas.DataFrame of shape (n_sites, n_features)
            Embeddings with the fitted columns, of any sites.

        Returns
        -------
        pandas.DataFrame of shape (n_sites, 2 n_components)
            Columns probability_1, …, means over the folds' learners, and sd_1, …, their jackknife
            SDs.

        Raises
        ------
        AlignmentError
            The embeddings lack fitted columns, or another encoder made them.
        """
        check_is_fitted(self, "parts_")
        refuse_other_input(images, None)
        refuse_other_encoder(dict(images.attrs.get("encoder", {})), self.encoders_)
        named = images.rename(columns=str)
        absent = [name for name in self.columns_ if name not in named.columns]
        if absent:
            raise AlignmentError(
                f"The types were fitted to {len(self.columns_)} embedding columns; the table lacks "
                f"{len(absent)} of them: {list_some(absent)}. It has {list_some(named.columns)}."
            )
        embeddings = named[list(self.columns_)]
        check_finite("images", embeddings)
        found = np.stack([part.memberships(embeddings, self.covariates_) for part in self.parts_])
        sd = np.sqrt(len(found) - 1) * found.std(axis=0)
        return pd.DataFrame(
            np.column_stack([found.mean(axis=0), sd]),
            index=images.index,
            columns=[*self._columns("probability"), *self._columns("sd")],
        )

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per component.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        pandas.DataFrame
            The tidy columns of an estimate, predicted_effect, share, share_std_error.
        """
        check_is_fitted(self, "parts_")
        table = self.component_effects_.to_dataframe(level)
        table["predicted_effect"] = self.predicted_effects_
        table["share"] = self.shares_.value
        table["share_std_error"] = self.shares_.std_error
        return table

    def summary(self, level: float = 0.95) -> str:
        """Return effects, shares, and what they rest on, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        effects = self.component_effects_
        lines = [
            f"{effects.estimand[:1].upper()}{effects.estimand[1:]}: {self.n_components} groups"
        ]
        lines += [
            f"  {r.term:<11} effect {r.estimate:.4f}, {level:.0%} interval {r.ci_low:.4f} to "
            f"{r.ci_high:.4f}; predicted {r.predicted_effect:.4f}; {r.share:.0%} of units"
            for r in self.to_dataframe(level).itertuples()
        ]
        low, high = self.contrast_.confint(level)[0]
        lines += [
            f"  difference  {self.contrast_.value[0]:.4f} (std. error "
            f"{self.contrast_.std_error[0]:.4f}), {level:.0%} interval {low:.4f} to {high:.4f}, "
            f"p = {self.contrast_.p_value[0]:.3g}",
            f"  method      {effects.method}",
            f"  std. error  {effects.describe_std_error()}; {effects.n_units:,} units at "
            f"{len(self.memberships_):,} sites",
            f"  folds       {len(self.parts_)}; adjusted Rand index between their groups "
            f"{self.fold_agreement_:.2f}",
        ]
        lines += [f"  note        {text}" for text in effects.notes]
        lines += [f"  assumes     {text}" for text in effects.assumptions]
        return "\n".join(lines)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "parts_")

    def _check_settings(self) -> None:
        check_choice("grouping", self.grouping, ("kmeans", "tree"))
        for name in ("n_components", "n_folds"):
            check_count(name, getattr(self, name), minimum=2)

    def _columns(self, word: str) -> list[str]:
        return [f"{word}_{k}" for k in range(1, self.n_components + 1)]

    def _fit_part(
        self,
        learner: EffectLearner,
        train: Study,
        embeddings: pd.DataFrame,
        rng: np.random.Generator,
    ) -> _Part:
        """Fit a learner, and group the sites that it was fitted to."""
        keys, site = sites_of(train)
        weight = np.bincount(site, weights=weights_of(train)).astype(np.float64)
        own = embeddings.loc[keys]
        effect = site_effects(learner.fit(train), own, self.covariates_)
        if self.grouping == "kmeans":
            return _Part(learner, group_by_center(effect, weight, self.n_components, rng))
        return _Part(learner, group_by_tree(effect, own, weight, self.n_components, rng))

    def _estimate(self, scores: Scores, group: NDArray[np.int64], learner: EffectLearner) -> None:
        """Store the effects and the shares of groups; `group` has shape (n_units,)."""
        terms = tuple(f"component {k + 1}" for k in range(self.n_components))
        member = (group[:, None] == np.arange(self.n_components)).astype(np.float64)
        _check_arms(member, scores)
        how = {"kmeans": "k-means", "tree": "a tree on the embeddings"}[self.grouping]
        words = (
            "average effects of places grouped by predicted effect",
            f"doubly robust scores; places grouped by {how} of the effects of "
            f"{type(learner).__name__}, out of fold",
        )
        runs = [_group_means(run, member, terms, words) for run in (scores, *scores.repeats)]
        self.component_effects_ = median_estimate(runs)
        self.contrast_ = median_estimate([_contrast(run) for run in runs])
        v = scores.weight
        share = np.average(member, axis=0, weights=v)
        self.shares_ = replace(
            self.component_effects_,
            value=share,
            influence=v[:, None] * (member - share),
            estimand="share of units in each component",
            repeats=(),
        )


def site_effects(
    learner: EffectLearner, embeddings: pd.DataFrame, covariates: pd.DataFrame
) -> Floats:
    """Return the effect that a learner predicts for sites, averaged over rows of covariates.

    Parameters
    ----------
    learner : EffectLearner
        Fitted.
    embeddings : pandas.DataFrame of shape (n_sites, n_features)
    covariates : pandas.DataFrame of shape (n_rows, n_covariates)

    Returns
    -------
    ndarray of shape (n_sites,)
    """
    image = embeddings.reset_index(drop=True)
    total = np.zeros(len(image))
    for row in range(len(covariates)):
        # one row at a time: 16 copies of many embedding columns would be large
        beside = covariates.iloc[np.full(len(image), row)].reset_index(drop=True)
        total += learner.predict(pd.concat([image, beside], axis=1)).to_numpy()
    return np.asarray(total / len(covariates))


def _covariate_rows(study: Study, learner: EffectLearner, rng: np.random.Generator) -> pd.DataFrame:
    """Return the covariates of some units, or one row without columns if they play no part."""
    names = list(study.roles.covariates)
    if getattr(learner, "use", "all") == "embeddings" or not names:
        return pd.DataFrame(index=range(1))
    chosen = rng.permutation(study.n_units)[:_N_COVARIATE_ROWS]
    return study.table[names].iloc[np.sort(chosen)].reset_index(drop=True)


def _check_learner(learner: EffectLearner) -> None:
    check_effect_learner("`learner`", learner)
    if "chips" in signature(learner.fit).parameters:
        raise RoleError(
            f"Types by predicted effect read embeddings; {type(learner).__name__} reads chips. "
            "Encode the chips, join the embeddings, and use another learner."
        )
    if getattr(learner, "use", "all") == "covariates":
        raise RoleError(
            "Types of places follow their images; use='covariates' keeps no embedding. Use 'all' "
            "or 'embeddings'."
        )


def _check_arms(member: Floats, scores: Scores) -> None:
    """Refuse groups without units of both arms."""
    w = scores.table["treatment"].to_numpy()
    for arm, word in ((1, "treated"), (0, "control")):
        lacking = np.flatnonzero((w == arm) @ member == 0) + 1
        if len(lacking):
            raise RoleError(
                f"Every component needs treated and control units; components {list_some(lacking)} "
                f"of {member.shape[1]} have no {word} unit. Use fewer components."
            )


def _group_means(
    scores: Scores, member: Floats, terms: tuple[str, ...], words: tuple[str, str]
) -> Estimate:
    """Return mean scores of groups; what they add to the average of all is widened."""
    score, v = scores.score.to_numpy(), scores.weight
    found = regression_estimate(scores, member, score, terms, None, words)
    shift = (v * (score - np.average(score, weights=v)))[:, None]
    return replace(found, influence=shift + _WIDENING * (found.influence - shift))


def _contrast(effects: Estimate) -> Estimate:
    """Return the effect of the last group less that of the first."""
    return replace(
        effects,
        value=effects.value[[-1]] - effects.value[[0]],
        influence=effects.influence[:, [-1]] - effects.influence[:, [0]],
        terms=("last less first",),
        estimand="average effect of the last component less that of the first",
    )
