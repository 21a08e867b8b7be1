"""The best linear projection: how effects vary with columns."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from terracausal.effects.least_squares import regression_estimate
from terracausal.evaluation.priorities import check_outcome_varies, numeric_columns
from terracausal.nuisance import Scores
from terracausal.nuisance.scores import check_scores
from terracausal.study import Dependence, Estimate, median_estimate


def best_linear_projection(
    scores: Scores,
    columns: "pd.DataFrame | pd.Series[Any] | ArrayLike | None" = None,
    *,
    dependence: Dependence | None = None,
) -> Estimate:
    """Regress scores on columns: the linear function that is nearest to the conditional effect.

    Parameters
    ----------
    scores : Scores
        From `doubly_robust_scores`; with repeats the median over them is taken.
    columns : pandas.DataFrame, pandas.Series or array-like of shape (n_units, n_columns)
        Covariates, embedding components, regions, … Tables are aligned by unit; categories become
        indicators against their first level. None (default) gives the intercept only, which is the
        average effect.
    dependence : Dependence, default=None
        None clusters whenever the units have clusters, and treats units as independent otherwise;
        ``Dependence("conley", cutoff_m=20_000)`` is spatial.

    Returns
    -------
    Estimate
        Terms "(intercept)" and one per column.

    Raises
    ------
    RoleError
        Columns are missing values, are collinear, or one cluster alone determines a coefficient.
    LeakageError
        A Series was predicted by a learner fitted on these units.

    Notes
    -----
    Semenova & Chernozhukov (2021), Econometrics Journal 24(2), doi:10.1093/ectj/utaa027. Standard
    errors are HC3, and for clusters the jackknife over clusters, as in grf's
    `best_linear_projection`. The correction is made for the dependence given here, so give it here
    and not with `with_std_error`. With clusters, p-values have one degree of freedom less than
    there are clusters, where grf counts units.

    The columns are taken as given. For out-of-fold effects as a column use `calibration_test`,
    which counts that each fold also trained the effects of the others.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=400)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": 1 + 2 * x + rng.normal(size=400)}))
    >>> best_linear_projection(scores, pd.Series(x, name="ndvi")).terms
    ('(intercept)', 'ndvi')
    """
    check_scores(scores)
    table = pd.DataFrame(index=scores.units)
    if columns is not None:
        table = numeric_columns(scores, columns, drop_first=True)
    check_outcome_varies(scores)
    design = np.column_stack([np.ones(scores.n_units), table.to_numpy(dtype=np.float64)])
    words = "best linear projection of the conditional effect", "regression of scores, HC3"
    terms = ("(intercept)", *table.columns)
    return median_estimate(
        [
            regression_estimate(run, design, run.score.to_numpy(), terms, dependence, words)
            for run in (scores, *scores.repeats)
        ]
    )
