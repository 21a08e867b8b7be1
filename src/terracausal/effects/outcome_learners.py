"""S- and T-learner: the difference of two predicted outcomes."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.learner import EffectLearner
from terracausal.effects.stages import arm_balance, fit_stage
from terracausal.nuisance.defaults import outcome_learner_of
from terracausal.nuisance.fitting import predict_numbers
from terracausal.study import Study
from terracausal.study.features import EffectFeatures

Floats = NDArray[np.floating[Any]]
_ARMS = ("control", "treated")


class TLearner(EffectLearner):
    """Predict effects as the difference of two outcome learners, one fitted in each arm.

    Parameters
    ----------
    outcome_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        As in `cross_fit`; used as in the notes.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with; the outcome learners see no others.
    n_components : int, default=None
        Replace joined embeddings by this many principal components, learned on the units that each
        part is fitted on. None keeps the columns.
    n_folds : int, default=5
        Folds of whole clusters for an estimated propensity.
    random_state : None, int or Generator, default=None
        Seed.

    Notes
    -----
    Künzel et al. (2019), Metalearners for estimating heterogeneous treatment effects, PNAS 116(10),
    doi:10.1073/pnas.1804597116. Where the features in use do not make the arms comparable (a known
    propensity that varies; strata or confounders that are not in use), each arm is weighted by the
    inverse of its known or cross-fitted probability. Penalties and splits differ between the arms,
    which shows as heterogeneity that is not there; `RLearner` and `DRLearner` avoid this. Assumes
    no unmeasured confounding given the features, overlap, and no interference between clusters.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> len(TLearner(random_state=0).fit(study).predict(study)) == study.n_units
    True
    """

    def __init__(
        self,
        outcome_learner: Any = None,
        propensity_learner: Any = None,
        use: EffectFeatures = "all",
        n_components: int | None = None,
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.outcome_learner = outcome_learner
        self.propensity_learner = propensity_learner
        self.use = use
        self.n_components = n_components
        self.n_folds = n_folds
        self.random_state = random_state

    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        learner = outcome_learner_of(self.outcome_learner, features.shape[1])
        rng = random_generator(self.random_state)
        balance = arm_balance(self, study, self.use, rng)
        y, w = study.outcome.to_numpy(), study.treatment.to_numpy()
        self.outcome_learners_ = tuple(
            fit_stage(
                learner, study, features, y, rows=w == arm, weight=balance, rng=rng, task=_task(arm)
            )
            for arm in (0, 1)
        )

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        control, treated = (
            predict_numbers(fitted, features, _task(arm))
            for arm, fitted in enumerate(self.outcome_learners_)
        )
        return treated - control


class SLearner(EffectLearner):
    """Predict effects with a single outcome learner that also sees the arm.

    The learner sees the features, the arm as -1/2 or 1/2, and by default their products, so that a
    linear learner too can let the effect vary. A penalty then draws effects towards 0 and towards
    each other.

    Parameters
    ----------
    outcome_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        As in `cross_fit`; used as in the notes.
    interactions : bool, default=True
        Whether the products of arm and centred features are given as columns. Trees find them
        alone.
    use : {"all", "embeddings", "covariates"}, default="all"
        Which features the effect may vary with; the outcome learner sees no others.
    n_components : int, default=None
        Replace joined embeddings by this many principal components, learned on the units that each
        part is fitted on. None keeps the columns.
    n_folds : int, default=5
        Folds of whole clusters for an estimated propensity.
    random_state : None, int or Generator, default=None
        Seed.

    Notes
    -----
    Künzel et al. (2019), PNAS 116(10), doi:10.1073/pnas.1804597116. Arms are balanced, and
    assumptions are, as for `TLearner`.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> len(SLearner(random_state=0).fit(study).predict(study)) == study.n_units
    True
    """

    def __init__(
        self,
        outcome_learner: Any = None,
        propensity_learner: Any = None,
        interactions: bool = True,
        use: EffectFeatures = "all",
        n_components: int | None = None,
        n_folds: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.outcome_learner = outcome_learner
        self.propensity_learner = propensity_learner
        self.interactions = interactions
        self.use = use
        self.n_components = n_components
        self.n_folds = n_folds
        self.random_state = random_state

    def _fit_features(self, study: Study, features: pd.DataFrame) -> None:
        learner = outcome_learner_of(self.outcome_learner, features.shape[1])
        rng = random_generator(self.random_state)
        balance, weight = arm_balance(self, study, self.use, rng), study.weight
        # products with centred features do not depend on where these have their zero
        self.centre_ = np.average(
            features, axis=0, weights=None if weight is None else weight.to_numpy()
        )
        design = self._design(features, study.treatment.to_numpy())
        y = study.outcome.to_numpy()
        self.outcome_learner_ = fit_stage(
            learner, study, design, y, weight=balance, rng=rng, task="the learner of SLearner"
        )

    def _design(self, features: pd.DataFrame, w: Floats) -> pd.DataFrame:
        arm = (w - 0.5)[:, None]
        columns = [features.to_numpy(), arm]
        names = [*features.columns, "arm"]
        if self.interactions:
            columns.append(arm * (features.to_numpy() - self.centre_))
            names += [f"arm × {name}" for name in features.columns]
        return pd.DataFrame(np.hstack(columns), index=features.index, columns=names)

    def _predict_features(self, features: pd.DataFrame) -> Floats:
        control, treated = (
            predict_numbers(
                self.outcome_learner_,
                self._design(features, np.full(len(features), float(arm))),
                "the learner of SLearner",
            )
            for arm in (0, 1)
        )
        return treated - control


def _task(arm: int) -> str:
    return f"the outcome learner ({_ARMS[arm]}) of TLearner"
