"""A trial whose image has ten features: one modifies the effect, one predicts the outcome."""

import numpy as np
import pandas as pd

import terracausal as tc

EFFECT = 0.5
N_FEATURES = 10


def draw_trial(
    rng: np.random.Generator, slope: float, n_sites: int, units_per_site: int
) -> tc.Study:
    """Return a study with treatment by site, known propensity 0.5 and joined features.

    With independent standard normal features e, covariate x, site effect s and noise::

        y = (0.5 + slope e0) w + 0.5 e1 + 0.5 x + 0.5 s + noise

    Parameters
    ----------
    rng : numpy.random.Generator
    slope : float
        Standard deviation of the effect over sites.
    n_sites, units_per_site : int

    Returns
    -------
    Study
    """
    features = pd.DataFrame(rng.normal(size=(n_sites, N_FEATURES))).add_prefix("e")
    site = np.repeat(np.arange(n_sites), units_per_site)
    e = features.to_numpy()[site]
    x, noise = rng.normal(size=(2, len(site)))
    site_effect = rng.normal(size=n_sites)[site]
    w = rng.permutation(np.arange(n_sites) % 2)[site]
    y = (EFFECT + slope * e[:, 0]) * w + 0.5 * (e[:, 1] + x + site_effect) + noise
    study = tc.Study(
        pd.DataFrame({"y": y, "w": w, "x": x, "site": site}),
        outcome="y",
        treatment="w",
        site="site",
        covariates=["x"],
        propensity=0.5,
    )
    return study.join(features, role="modifier")
