"""The contract of every effect learner: fit, predict, cross_predict."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import RoleError
from terracausal.effects.cross_prediction import predict_folds, repeated_folds
from terracausal.effects.origin import EffectOrigin, with_origin, with_repeats
from terracausal.nuisance.components import ColumnBounds, ColumnComponents, check_components
from terracausal.study import Folds, Study
from terracausal.study.features import EffectFeatures

if TYPE_CHECKING:
    from terracausal.imagery import Chips

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


class EffectLearner(BaseEstimator):
    """Base of learners that predict the effect of treatment for each unit.

    A subclass stores its settings, among them `use` and, where it makes sense, `n_components`, and
    implements `_fit_features` and `_predict_features`. One that reads more than a table of features
    overrides `fit` and `predict` instead.

    Examples
    --------
    >>> from terracausal.effects import CausalForest, DRLearner, EffectLearner
    >>> issubclass(DRLearner, EffectLearner) and issubclass(CausalForest, EffectLearner)
    True
    """

    use: EffectFeatures
    n_components: int | None = None

    def fit(self, study: Study) -> Self:
        """Learn how the effect varies with the features.

        Parameters
        ----------
        study : Study
            With at least one covariate or joined embedding.

        Returns
        -------
        EffectLearner
            The same object.
        """
        check_choice("use", self.use, ("all", "embeddings", "covariates"))
        check_outcome_varies(study)
        ordered = study.canonical()
        features = ordered.features("effect", use=self.use)
        if features.shape[1] == 0:
            raise RoleError(
                f"{type(self).__name__} needs at least one feature; the study has "
                f"{len(study.roles.covariates)} covariates and "
                f"{len(study.embedding_columns)} joined embedding columns, and use={self.use!r} "
                "keeps none of them. Join embeddings with role='modifier', or name covariates."
            )
        self.components_ = None
        if self.n_components is not None:
            check_components(self.n_components, study)
            self.components_ = ColumnComponents.learn(
                features, frozenset(study.embedding_columns), self.n_components
            )
        reduced = self._reduced(features)
        others = features.columns.difference(list(study.embedding_columns))
        self.bounds_ = ColumnBounds.learn(reduced, reduced.columns.difference(others))
        self._fit_features(ordered, reduced)
        self.schema_ = ordered.schema
        self.feature_names_ = list(features.columns)
        self.units_ = ordered.units
        return self

    def predict(self, table: pd.DataFrame | Study) -> "pd.Series[float]":
        """Predict the effect for each row.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any), or Study
            With the covariates and embedding columns of the study, by name. As in `cross_fit`,
            embeddings (or their components) outside the range of the fitted units are moved to its
            ends: nothing is known of an image unlike all others.

        Returns
        -------
        pandas.Series of shape (n_rows,)
            Named cate. Predictions for units that trained the learner are marked as such, and
            `rank_weighted_effect` refuses them.
        """
        features = self._encoded(table)
        effects = pd.Series(self._predict_features(features), index=features.index, name="cate")
        return with_origin(effects, EffectOrigin(repr(self), trained_on=self.units_))

    def cross_predict(
        self,
        study: Study,
        folds: Folds | Sequence[Folds] | None = None,
        *,
        chips: "Chips | None" = None,
        n_repeats: int = 1,
        n_jobs: int = 1,
    ) -> "pd.Series[float]":
        """Predict the effect for each unit from the other folds, everything refitted in each.

        Nuisances and effect are learned anew inside each training part, so a unit's prediction has
        never seen its outcome, nor that of any unit in its fold.

        Parameters
        ----------
        study : Study
        folds : Folds or sequence of Folds, default=None
            None takes 5 folds of whole clusters, seeded with the learner's `random_state`. A
            sequence has the folds of each repeat.
        chips : Chips, default=None
            Handed to `fit` and `predict` of learners that read them.
        n_repeats : int, default=1
            Repeats over other folds, drawn as the first were (with their blocks and buffers).
        n_jobs : int, default=1
            Folds fitted side by side; the numbers do not depend on it.

        Returns
        -------
        pandas.Series of shape (n_units,)
            Named cate, with the folds in its `attrs`. With repeats, these are the effects of the
            first, which carries the others: `rank_weighted_effect` ranks each within its own folds
            and takes the median, whatever else evaluates effects uses the first, `repeats_of`
            returns them one by one, and `mean_of_repeats` their mean, for maps.
        """
        reads = "chips" in signature(self.fit).parameters
        if reads is (chips is None):
            raise TypeError(
                f"{type(self).__name__} reads {'chips: give chips=' if reads else 'no chips'}."
            )
        check_outcome_varies(study)
        given = () if chips is None else (chips,)
        seed, runs = getattr(self, "random_state", None), []
        for part in repeated_folds(study, folds, n_repeats, seed):
            effects = predict_folds(
                study, part, partial(_fit_predict, self, study, given), type(self).__name__, n_jobs
            )
            labels = part.labels.loc[study.units]
            runs.append(with_origin(effects, EffectOrigin(repr(self), folds=labels)))
        return with_repeats(runs)

    def _encoded(self, table: pd.DataFrame | Study) -> pd.DataFrame:
        """Return the features of any rows as the learner saw them when it was fitted."""
        check_is_fitted(self, "feature_names_")
        rows = table.table if isinstance(table, Study) else table
        return self.bounds_.transform(
            self._reduced(self.schema_.encode(rows, "effect", use=self.use))
        )

    def _reduced(self, features: pd.DataFrame) -> pd.DataFrame:
        return features if self.components_ is None else self.components_.transform(features)

    @abstractmethod
    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        """Learn from a study in canonical order; store what `_predict_features` needs."""

    @abstractmethod
    def _predict_features(self, features: pd.DataFrame) -> Floats:
        """Return effects of shape (n_rows,)."""


def _fit_predict(
    learner: Any, study: Study, given: "tuple[Chips, ...]", train: Mask, test: Mask
) -> Floats:
    fitted = clone(learner).fit(study.subset(train), *given)
    return np.asarray(fitted.predict(study.table.loc[test], *given))


def check_effect_learner(name: str, learner: Any) -> None:
    """Refuse what is no effect learner, such as a regressor or a class.

    Parameters
    ----------
    name : str
        What it is called in the message.
    learner : object
    """
    if isinstance(learner, EffectLearner):
        return
    found = f"the class {learner.__name__}" if isinstance(learner, type) else type(learner).__name__
    raise TypeError(
        f"{name} must be an effect learner, such as DRLearner() or CausalForest(); got {found}. A "
        "regressor goes inside: DRLearner(effect_learner=…)."
    )


def check_outcome_varies(study: Study) -> None:
    """Refuse a study whose outcome is the same for all units, before anything is trained."""
    outcome = study.outcome
    if outcome.nunique() < 2:
        raise RoleError(
            f"The outcome {study.roles.outcome!r} must vary, or no effect can; it is "
            f"{outcome.iloc[0]:g} for all {study.n_units} units. Use another outcome."
        )
