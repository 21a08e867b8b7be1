"""The X-learner: effects imputed in each arm from the other arm's outcomes."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.effects.stages import balance_weights, fit_stage, inner_nuisances, needs_balance
from terracausal.nuisance.defaults import effect_learner_of, propensity_learner_of
from terracausal.nuisance.fitting import predict_numbers
from terracausal.study import Study
from terracausal.study.features import EffectFeatures

Floats = NDArray[np.floating[Any]]
_SHARE = "the propensity learner of XLearner"
_ARMS = ("control", "treated")


class XLearner(EffectLearner):
    """Predict effects from differences to the outcome that the other arm would have brought.

    A treated unit's effect is imputed as ``y - mu0(x)``, a control unit's as ``mu1(x) - y``. Each
    is regressed on the features, and the two are averaged with the weights ``1 - e(x)`` and
    ``e(x)``, so that the larger arm, which predicts the other's outcomes well, counts more. Made
    for arms of very different size.

    Parameters
    ----------
    effect_learner : str or scikit-learn regressor, default=None
        Regresses the imputed effects of each arm: "ridge", "elastic_net", "boosting" or any
        regressor. None is "ridge".
    outcome_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        As in `cross_fit`; also learns the weights ``e(x)``. Not used where the study knows its
        propensity and this is the same for all.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with.
    n_components : int, default=None
        Replace joined embeddings by this many principal components, learned on the units that each
        part is fitted on. None keeps the columns.
    n_folds : int, default=5
        Inner folds of whole clusters for the imputed effects.
    random_state : None, int or Generator, default=None
        Seed.

    Notes
    -----
    Künzel et al. (2019), PNAS 116(10), doi:10.1073/pnas.1804597116, with outcomes predicted out of
    fold, since units of one cluster are in both arms. Where the features in use do not make the
    arms comparable, imputed effects are weighted by the inverse probability of the unit's arm, as
    in `TLearner`. Assumes no unmeasured confounding given the features, overlap, and no
    interference between clusters.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> len(XLearner(random_state=0).fit(study).predict(study)) == study.n_units
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
        names = ["propensity", "outcome_control", "outcome_treated"]
        e, mu0, mu1 = inner_nuisances(self, study, rng).table[names].to_numpy().T
        y, w = study.outcome.to_numpy(), study.treatment.to_numpy()
        imputed = np.where(w == 1, y - mu0, mu1 - y)
        balance = balance_weights(w, e) if needs_balance(study, self.use) else None
        self.effect_learners_ = tuple(
            fit_stage(
                learner,
                study,
                features,
                imputed,
                rows=w == arm,
                weight=balance,
                rng=rng,
                task=_task(arm),
            )
            for arm in (0, 1)
        )
        self.share_treated_ = self._share_learner(study, features, rng)

    def _share_learner(self, study: Study, features: pd.DataFrame, rng: np.random.Generator) -> Any:
        """Return the known share treated, or a learner of it from the features in use."""
        known = study.propensity
        if known is not None and np.ptp(known.to_numpy()) == 0:
            return float(known.iloc[0])
        learner = propensity_learner_of(self.propensity_learner, features.shape[1])
        w = study.treatment.to_numpy()
        return fit_stage(learner, study, features, w, rng=rng, task=_SHARE)

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        from_control, from_treated = (
            predict_numbers(fitted, features, _task(arm))
            for arm, fitted in enumerate(self.effect_learners_)
        )
        e = self.share_treated_
        if not isinstance(e, float):
            e = predict_numbers(e, features, _SHARE)
        return np.asarray(e * from_control + (1 - e) * from_treated)


def _task(arm: int) -> str:
    return f"the effect learner ({_ARMS[arm]}) of XLearner"
