"""Two types of places that an embedding tells apart."""

import numpy as np
import pandas as pd

import terracausal as tc

N_FEATURES = 4


def draw_world(
    rng: np.random.Generator,
    n_sites: int,
    units_per_site: int,
    effects: tuple[float, float],
    noise_sd: float = 1.0,
    *,
    told: bool = True,
    jump: float = 0.0,
) -> tuple[tc.Study, pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a study, embeddings, types and their true probabilities.

    The type follows the first of four standard normal embedding columns, with logit 2 x; the second
    moves the baseline by 0.5, a covariate by 0.3, the site by a normal of SD 0.3, noise has
    the SD that is given. Half of the units are treated, by a coin. Where embeddings do not tell the
    types, a normal of its own takes the place of the first column. Control outcomes of the second
    type are higher by the jump.
    """
    x = rng.normal(size=(n_sites, N_FEATURES))
    driver = x[:, 0] if told else rng.normal(size=n_sites)
    chance = 1 / (1 + np.exp(-2 * driver))
    kind = (rng.random(n_sites) < chance).astype(int)
    site = np.repeat(np.arange(n_sites), units_per_site)
    n_units = len(site)
    treated, covariate = rng.integers(0, 2, n_units), rng.normal(size=n_units)
    control = 0.5 * x[site, 1] + 0.3 * covariate + 0.3 * rng.normal(size=n_sites)[site]
    outcome = control + jump * kind[site] + np.array(effects)[kind[site]] * treated
    outcome += noise_sd * rng.normal(size=n_units)
    table = pd.DataFrame({"y": outcome, "w": treated, "x": covariate, "site": site})
    embeddings = pd.DataFrame(x, columns=[f"e{j}" for j in range(N_FEATURES)])
    study = tc.Study(
        table, outcome="y", treatment="w", site="site", covariates=["x"], propensity=0.5
    )
    return study.join(embeddings, role="modifier"), embeddings, kind, chance
