"""What is left of outcomes and treatment after their cross-fitted predictions."""

import pandas as pd

from terracausal.nuisance import Nuisances
from terracausal.study import Study


def residuals_of(study: Study, nuisances: Nuisances) -> pd.DataFrame:
    """Return outcome and treatment less what was predicted out of fold.

    For one type, ``outcome = effect treatment + noise``: Robinson's (1988) form, whose square is
    the R-loss of Nie & Wager (2021), doi:10.1093/biomet/asaa076. A type among several also has the
    propensity times the gap between its effect and the one expected of the image, which the
    prediction contained.

    Parameters
    ----------
    study : Study
    nuisances : Nuisances

    Returns
    -------
    pandas.DataFrame of shape (n_units, 2)
        Columns outcome and treatment, indexed by unit.
    """
    table = nuisances.table.loc[study.units]
    chance = table["propensity"]
    expected = chance * table["outcome_treated"] + (1 - chance) * table["outcome_control"]
    return pd.DataFrame(
        {"outcome": study.outcome - expected, "treatment": study.treatment - chance}
    )
