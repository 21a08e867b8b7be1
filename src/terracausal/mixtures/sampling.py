"""The posterior of a mixture by Hamiltonian Monte Carlo (NUTS in Pyro), for small studies."""

import numpy as np
import torch
from torch import Tensor

from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import draw_seed
from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.fitting import Mode, aligned, memberships_at
from terracausal.mixtures.posterior import Posterior, alone

_N_CHAINS = 4
_WARM_UP = 150
_WORST_R_HAT = 1.05


def sample_posterior(
    density: MixtureDensity, mode: Mode, n_draws: int, rng: np.random.Generator
) -> Posterior:
    """Draw from the posterior with four chains.

    The chains run in coordinates in which the curvature at the mode is the identity, start from
    draws of the normal there, and have their labels matched to the mode draw by draw.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode
    n_draws : int
        Over all chains.
    rng : numpy.random.Generator

    Returns
    -------
    Posterior
        Converged where the worst split R-hat is below 1.05.
    """
    pyro = require("pyro", needed_by="EffectMixture")
    root = torch.linalg.cholesky(mode.inverse)
    each = -(-n_draws // _N_CHAINS)

    def potential(values: dict[str, Tensor]) -> Tensor:
        point = (mode.parameters + root @ values["z"])[None]
        return -(density.log_prior(point) + density.log_sites(point).sum(dim=1))[0]

    chains, divergences = [], 0
    for _ in track(range(_N_CHAINS), "sampling the posterior"):
        with alone(draw_seed(rng)):
            start = {"z": torch.from_numpy(rng.standard_normal(len(root)))}
            kernel = pyro.infer.NUTS(potential_fn=potential)
            run = pyro.infer.MCMC(
                kernel, each, _WARM_UP, initial_params=start, disable_progbar=True
            )
            run.run()
            chains.append(mode.parameters + run.get_samples()["z"] @ root.T)
            divergences += sum(map(len, run.diagnostics()["divergences"].values()))
    reference = memberships_at(density, mode.parameters[None])[0]
    draws = torch.stack([aligned(density, chain, reference) for chain in chains])
    r_hat = float(pyro.ops.stats.split_gelman_rubin(draws).max())
    effective = float(pyro.ops.stats.effective_sample_size(draws).min())
    found = {"r_hat": r_hat, "effective_draws": effective, "divergences": float(divergences)}
    kept = draws.transpose(0, 1).flatten(0, 1)[:n_draws]
    return Posterior(kept, np.empty(0), r_hat < _WORST_R_HAT, found)
