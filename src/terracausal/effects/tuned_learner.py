"""An effect learner that chooses among others by their R-loss."""

from collections.abc import Mapping
from typing import Any, Self

import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.dr_learner import DRLearner
from terracausal.effects.learner import EffectLearner
from terracausal.effects.origin import EffectOrigin, with_origin
from terracausal.effects.outcome_learners import SLearner, TLearner
from terracausal.effects.r_learner import RLearner
from terracausal.effects.r_loss import compare_learners
from terracausal.effects.x_learner import XLearner
from terracausal.nuisance.fitting import seeded
from terracausal.study import Study


class TunedEffectLearner(EffectLearner):
    """Predict effects with whichever of several learners has the smallest R-loss.

    The R-losses are those of predictions for held-out clusters; the best learner is then fitted on
    all units. In `cross_predict` the choice is made anew inside each training part.

    Parameters
    ----------
    candidates : mapping of str to EffectLearner, default=None
        By name, in the order in which they are tried: other kinds, other parts, other `use` or
        `n_components`. None takes `default_candidates`.
    budget_s : float, default=None
        Seconds after which no further candidate is begun; the first is tried in any case, and
        fitting the best comes on top. None tries all. `cross_predict` spends this in each fold.
    outcome_learner : str or scikit-learn estimator, default=None
        For the residuals of the loss, as in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        For the residuals of the loss, as in `cross_fit`; not used where the study knows its
        propensity.
    n_folds : int, default=5
        Folds of whole clusters for the choice.
    random_state : None, int or Generator, default=None
        Seed.

    Attributes
    ----------
    comparison_ : LearnerComparison
        R-losses with paired standard errors, and which candidates were not tried.
    best_ : str
        Name of the chosen candidate.
    learner_ : EffectLearner
        The chosen candidate, fitted on all units.

    Notes
    -----
    See `compare_learners` for the loss. Where even the best is no better than a constant effect,
    `comparison_` says so.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> candidates = {"S": SLearner(), "T": TLearner()}
    >>> tuned = TunedEffectLearner(candidates, n_folds=2, random_state=0).fit(study)
    >>> tuned.best_ in candidates
    True
    """

    def __init__(
        self,
        candidates: Mapping[str, EffectLearner] | None = None,
        budget_s: float | None = None,
        outcome_learner: Any = None,
        propensity_learner: Any = None,
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.candidates = candidates
        self.budget_s = budget_s
        self.outcome_learner = outcome_learner
        self.propensity_learner = propensity_learner
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(self, study: Study) -> Self:
        """Compare the candidates and fit the best on all units.

        Parameters
        ----------
        study : Study
            With the features that the candidates need.

        Returns
        -------
        TunedEffectLearner
        """
        rng = random_generator(self.random_state)
        candidates = default_candidates() if self.candidates is None else self.candidates
        self.comparison_ = compare_learners(
            study,
            candidates,
            budget_s=self.budget_s,
            n_folds=self.n_folds,
            outcome_learner=self.outcome_learner,
            propensity_learner=self.propensity_learner,
            random_state=rng,
        )
        self.best_ = self.comparison_.best
        self.learner_ = seeded(clone(candidates[self.best_]), rng).fit(study)
        return self

    def predict(self, table: pd.DataFrame | Study) -> "pd.Series[float]":
        """Predict the effect for each row with the chosen learner.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any), or Study

        Returns
        -------
        pandas.Series of shape (n_rows,)
            Named cate, marked with the units that trained.
        """
        check_is_fitted(self, "learner_")
        effects = self.learner_.predict(table)
        return with_origin(effects, EffectOrigin(repr(self), trained_on=self.learner_.units_))


def default_candidates() -> dict[str, EffectLearner]:
    """Return the learners that are tried unless others are named, quick ones first.

    Examples
    --------
    >>> list(default_candidates())[:2]
    ['R, ridge', 'DR, ridge']
    """
    return {
        "R, ridge": RLearner(),
        "DR, ridge": DRLearner(),
        "S, ridge": SLearner(),
        "T, ridge": TLearner(),
        "X, ridge": XLearner(),
        "R, elastic net": RLearner("elastic_net"),
        "R, boosting": RLearner("boosting"),
    }
