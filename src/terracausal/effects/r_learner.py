"""The R-learner: a regression of outcome residuals on treatment residuals times the effect."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.effects.stages import fit_stage, inner_nuisances
from terracausal.nuisance import Nuisances
from terracausal.nuisance.defaults import effect_learner_of
from terracausal.nuisance.fitting import predict_numbers
from terracausal.study import Study
from terracausal.study.features import EffectFeatures

Floats = NDArray[np.floating[Any]]
_TASK = "the effect learner of RLearner"


class RLearner(EffectLearner):
    """Predict effects by minimising the R-loss over cross-fitted residuals.

    With the residuals of outcome and treatment, ``y - m(x)`` and ``w - e(x)``, the effect is the
    function that minimises ``mean((y - m - effect(x) (w - e))^2)``: a regression of
    ``(y - m) / (w - e)`` with weight ``(w - e)^2``. Units that were bound to be in their arm count
    little, so it stays calm where overlap is poor.

    Parameters
    ----------
    effect_learner : str or scikit-learn regressor, default=None
        "ridge", "elastic_net", "boosting" or any regressor that takes `sample_weight`. None is
        "ridge".
    outcome_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`; the mean outcome is ``e mu1 + (1 - e) mu0``.
    propensity_learner : str or scikit-learn classifier, default=None
        As in `cross_fit`; not used where the study knows its propensity.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with. Where these do not explain all of the effect, it is
        averaged over units with the weights ``e (1 - e)``.
    n_components : int, default=None
        Replace joined embeddings by this many principal components, learned on the units that each
        part is fitted on. None keeps the columns.
    n_folds : int, default=5
        Inner folds of whole clusters for the residuals.
    random_state : None, int or Generator, default=None
        Seed.

    Notes
    -----
    Nie & Wager (2021), Quasi-oracle estimation of heterogeneous treatment effects, Biometrika
    108(2), doi:10.1093/biomet/asaa076. Assumes no unmeasured confounding given the features, and no
    interference between clusters.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> len(RLearner(random_state=0).fit(study).predict(study)) == study.n_units
    True
    """

    def __init__(
        self,
        effect_learner: Any = None,
        outcome_learner: Any = None,
        propensity_learner: Any = None,
        use: EffectFeatures = "all",
        n_components: int | None = None,
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.effect_learner = effect_learner
        self.outcome_learner = outcome_learner
        self.propensity_learner = propensity_learner
        self.use = use
        self.n_components = n_components
        self.n_folds = n_folds
        self.random_state = random_state

    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        learner, rng = effect_learner_of(self.effect_learner), random_generator(self.random_state)
        y, w = residuals(study, inner_nuisances(self, study, rng))
        self.effect_learner_ = fit_stage(
            learner, study, features, y / w, weight=w**2, rng=rng, task=_TASK
        )

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        return predict_numbers(self.effect_learner_, features, _TASK)


def residuals(study: Study, nuisances: Nuisances) -> tuple[Floats, Floats]:
    """Return what the nuisances leave of outcome and treatment.

    Parameters
    ----------
    study : Study
    nuisances : Nuisances
        Of the same study.

    Returns
    -------
    y, w : ndarray of shape (n_units,)
        ``y - m`` with ``m = e mu1 + (1 - e) mu0``, and ``w - e``.
    """
    names = ["propensity", "outcome_control", "outcome_treated"]
    e, mu0, mu1 = nuisances.table.loc[study.units, names].to_numpy().T
    return (
        study.outcome.to_numpy() - e * mu1 - (1 - e) * mu0,
        study.treatment.to_numpy() - e,
    )
