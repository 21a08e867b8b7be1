"""An effect learner that encodes images itself, so that supervised encoders stay honest."""

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import RoleError, list_some
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.cross_prediction import fold_masks
from terracausal.effects.learner import EffectLearner, check_effect_learner, check_outcome_varies
from terracausal.effects.origin import EffectOrigin, with_origin
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.nuisance.fitting import seeded
from terracausal.study import Study
from terracausal.study.study import EmbeddingRole

if TYPE_CHECKING:
    from terracausal.imagery import Chips


class EncodedLearner(EffectLearner):
    """Predict effects from images: the encoder is fitted with the learner, in each fold anew.

    An encoder that learns nothing, or only from pixels, is fitted on the images of the training
    units. A supervised one (`TrainedEncoder`) would hand the outcomes of its sites to the learner,
    so the training clusters are split: one half trains the encoder, and the learner is fitted on
    the other half, whose outcomes its embeddings have not seen.

    Parameters
    ----------
    learner : EffectLearner
        Learns from the embeddings and the covariates.
    encoder : ChipEncoder
        As `RandomConvEncoder`, `PretrainedEncoder` or `TrainedEncoder`.
    target : {"score", "outcome"}, default="score"
        What a supervised encoder is trained to predict: the doubly robust score, which varies with
        the effect, or the outcome.
    role : {"confounder", "modifier", "both"}, default="modifier"
        Role of the embeddings in the learner.
    n_folds : int, default=5
        Folds of whole clusters for the scores that a supervised encoder is trained on; they adjust
        for the features of the study without the images.
    random_state : None, int or Generator, default=None
        Seed of the halves, and of the parts that have none of their own.

    Attributes
    ----------
    encoder_ : ChipEncoder
        Fitted.
    learner_ : EffectLearner
        Fitted.

    Notes
    -----
    Sample splitting as in Athey & Imbens (2016), Recursive partitioning for heterogeneous causal
    effects, PNAS 113(27), doi:10.1073/pnas.1510489113. `TrainedEncoder.cross_predict` is no
    substitute: its values are out of fold for their own site, but the values of training sites know
    the outcomes of the fold that is later predicted.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, random_state=0)
    >>> learner = EncodedLearner(tc.TLearner(), tc.BandStatisticsEncoder(), random_state=0)
    >>> folds = data.study.folds(2, random_state=0)
    >>> learner.cross_predict(data.study, folds, chips=data.chips).name
    'cate'
    """

    def __init__(
        self,
        learner: EffectLearner,
        encoder: Any,
        target: Literal["score", "outcome"] = "score",
        role: EmbeddingRole = "modifier",
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.learner = learner
        self.encoder = encoder
        self.target = target
        self.role = role
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(self, study: Study, chips: "Chips") -> Self:  # type: ignore[override]
        """Fit the encoder, then the learner.

        Parameters
        ----------
        study : Study
            With sites; images need not be joined.
        chips : Chips
            Of all sites of the study.

        Returns
        -------
        EncodedLearner
        """
        check_choice("target", self.target, ("score", "outcome"))
        check_effect_learner("`learner`", self.learner)
        check_outcome_varies(study)
        if study.sites is None:
            raise RoleError(
                "Images are found by site, but the study has no `site` column. Name it."
            )
        rng, ordered = random_generator(self.random_state), study.canonical()
        encoder = seeded(clone(self.encoder), rng)
        rest = ordered
        if getattr(encoder, "supervised", False):
            first, second = fold_masks(ordered, ordered.folds(2, random_state=rng))[0]
            half, rest = ordered.subset(first), ordered.subset(second)
            encoder.fit(_chips_of(chips, half.sites), self._targets(half, rng))
        else:
            encoder.fit(_chips_of(chips, ordered.sites))
        joined = rest.join(encoder.transform(_chips_of(chips, rest.sites)), self.role)
        self.learner_ = seeded(clone(self.learner), rng).fit(joined)
        self.encoder_, self.site_, self.units_ = encoder, study.roles.site, ordered.units
        return self

    def _targets(self, half: Study, rng: np.random.Generator) -> pd.DataFrame:
        """Return what a supervised encoder learns from: one row per unit."""
        table = pd.DataFrame({"site": half.sites, self.target: half.outcome})
        if self.target == "score":
            folds = half.folds(self.n_folds, random_state=rng)
            scores = doubly_robust_scores(half, cross_fit(half, folds, random_state=rng))
            table[self.target] = scores.score.loc[half.units]
        if half.clusters is not None:
            table["cluster"] = half.clusters
        if half.weight is not None:
            table["weight"] = half.weight
        return table

    def predict(self, table: pd.DataFrame | Study, chips: "Chips") -> "pd.Series[float]":  # type: ignore[override]
        """Predict the effect for each row from its covariates and the image of its site.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any), or Study
            With the site column and the covariates of the study.
        chips : Chips
            Of all sites of the rows.

        Returns
        -------
        pandas.Series of shape (n_rows,)
            Named cate, marked with the units that trained encoder or learner.
        """
        check_is_fitted(self, "learner_")
        rows = table.table if isinstance(table, Study) else table
        if self.site_ not in rows.columns:
            raise RoleError(
                f"The table lacks the site column {self.site_!r}; it has "
                f"{list_some(rows.columns, 8)}. Images are found by site."
            )
        sites = rows[self.site_]
        embeddings = self.encoder_.transform(_chips_of(chips, sites)).rename(columns=str)
        encoded = embeddings.reindex(sites).set_axis(rows.index, axis=0)
        effects = self.learner_.predict(pd.concat([rows, encoded], axis=1))
        return with_origin(effects, EffectOrigin(repr(self), trained_on=self.units_))


def _chips_of(chips: "Chips", sites: "pd.Series[Any] | None") -> "Chips":
    """Return the chips of the sites, which refuses sites that have none."""
    return chips if sites is None else chips.select(pd.Index(sites.unique()))
