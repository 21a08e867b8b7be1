"""The DR-learner: a regression of doubly robust scores on features."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.effects.stages import fit_stage, inner_nuisances
from terracausal.nuisance import doubly_robust_scores
from terracausal.nuisance.defaults import effect_learner_of
from terracausal.nuisance.fitting import predict_numbers
from terracausal.study import Study
from terracausal.study.features import EffectFeatures

Floats = NDArray[np.floating[Any]]
_TASK = "the effect learner of DRLearner"


class DRLearner(EffectLearner):
    """Predict effects by regressing cross-fitted doubly robust scores on features.

    Parameters
    ----------
    effect_learner : str or scikit-learn regressor, default=None
        Regresses the scores on the features: "ridge", "elastic_net", "boosting" or any regressor.
        None is "ridge".
    outcome_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        As in `cross_fit`; not used where the study knows its propensity.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with.
    n_components : int, default=None
        Replace joined embeddings by this many principal components, learned on the units that each
        part is fitted on. None keeps the columns.
    n_folds : int, default=5
        Inner folds of whole clusters for the scores.
    random_state : None, int or Generator, default=None
        Seed.

    Notes
    -----
    Kennedy (2023), Towards optimal doubly robust estimation of heterogeneous causal effects,
    Electronic Journal of Statistics 17(2), doi:10.1214/23-EJS2157. Assumes no unmeasured
    confounding given the features, overlap, and no interference between clusters.

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
        scores = doubly_robust_scores(study, inner_nuisances(self, study, rng))
        target = scores.score.to_numpy()
        self.effect_learner_ = fit_stage(learner, study, features, target, rng=rng, task=_TASK)

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        return predict_numbers(self.effect_learner_, features, _TASK)
