"""The DR-learner: a regression of doubly robust scores on features."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.nuisance import ClusterRidge, cross_fit, doubly_robust_scores
from terracausal.nuisance.fitting import fit_learner, predict_numbers
from terracausal.study import Study
from terracausal.study.features import EffectFeatures

Floats = NDArray[np.floating[Any]]
_TASK = "the effect learner of DRLearner"


class DRLearner(EffectLearner):
    """Predict effects by regressing cross-fitted doubly robust scores on features.

    Parameters
    ----------
    effect_learner : scikit-learn regressor, default=None
        Regresses the scores on the features; None is `ClusterRidge`.
    outcome_learner : scikit-learn estimator, default=None
        As in `cross_fit`.
    propensity_learner : scikit-learn classifier, default=None
        As in `cross_fit`; not used where the study knows its propensity.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with.
    n_folds : int, default=5
        Inner folds for the scores.
    random_state : None, int or Generator, default=None
        Seed.

    Notes
    -----
    Kennedy (2023), Towards optimal doubly robust estimation of heterogeneous causal effects,
    Electronic Journal of Statistics 17(2), doi:10.1214/23-EJS2157.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings, role="modifier")
    >>> effects = DRLearner(random_state=0).cross_predict(study, study.folds(3, random_state=0))
    >>> effects.name
    'cate'
    """

    def __init__(
        self,
        effect_learner: Any = None,
        outcome_learner: Any = None,
        propensity_learner: Any = None,
        use: EffectFeatures = "all",
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.effect_learner = effect_learner
        self.outcome_learner = outcome_learner
        self.propensity_learner = propensity_learner
        self.use = use
        self.n_folds = n_folds
        self.random_state = random_state

    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        rng = random_generator(self.random_state)
        nuisances = cross_fit(
            study,
            study.folds(self.n_folds, random_state=rng),
            outcome_learner=self.outcome_learner,
            propensity_learner=self.propensity_learner,
            random_state=rng,
        )
        scores = doubly_robust_scores(study, nuisances)
        self.effect_learner_ = fit_learner(
            ClusterRidge() if self.effect_learner is None else self.effect_learner,
            features,
            scores.score.to_numpy(),
            weight=None if study.weight is None else scores.weight,
            groups=scores.frame.cluster_codes,
            rng=rng,
            task=_TASK,
        )

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        return predict_numbers(self.effect_learner_, features, _TASK)
