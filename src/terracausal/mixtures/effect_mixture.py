"""The image-type effect cluster model: sites are of a few types, and the effect is the type's."""

from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_count, check_positive, check_same_index
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.mixtures.adjusting import residuals_of
from terracausal.mixtures.design import MixtureDesign, MixtureTable
from terracausal.mixtures.preparing import check_input, prepare, site_features, train_on_images
from terracausal.mixtures.results import (
    MixtureAnswers,
    answers_of,
    baseline_notes,
    convergence_notes,
    find_problems,
    tables_of,
    warn_of,
)
from terracausal.mixtures.settings import (
    MIN_REFITS,
    Adjustment,
    Baseline,
    Effect,
    Family,
    Guide,
    MixtureSpec,
    Noise,
    check_settings,
)
from terracausal.mixtures.type_baselines import baseline_p_value
from terracausal.mixtures.types_of_places import TypesOfPlaces
from terracausal.mixtures.wording import summarize
from terracausal.nuisance import Nuisances, cross_fit
from terracausal.study import Estimate, Study

if TYPE_CHECKING:
    from terracausal.imagery import Chips
    from terracausal.mixtures.density import MixtureDensity
    from terracausal.mixtures.fitting import Mode
    from terracausal.mixtures.networks import MixtureNetworks, SiteNetworks
    from terracausal.mixtures.posterior import Posterior

N_EFFECT_DRAWS = 200


class EffectMixture(TypesOfPlaces, BaseEstimator):
    """Explain effects by a few latent types of places: the image-type effect cluster model.

    With the site s(i) of unit i, its reduced embedding x_s, covariates c_i and arm w_i::

        type_s        | image ~ Categorical(softmax(a_k + b_k x_s))
        outcome_i     | type k ~ family(baseline(x_s, c_i) + effect_k w_i, noise SD by arm)

    The baseline is linear. All units of a site are of one type: the likelihood of a site is a
    mixture of the products over its units, summed over the types exactly. Normal outcomes of a site
    (or their logs) also share a random intercept, integrated out exactly, so that what a site's
    units have in common is not taken for a type.

    With `fit(study, chips)`, networks read the log odds of the types and a baseline off the pixels,
    trained by the same likelihood. Each site is described by networks that saw no outcome of its
    fold; a linear layer on these numbers, in place of x_s, then has all of the uncertainty below.

    Parameters
    ----------
    n_components : int, default=2
        Number of types, K. See `choose_components`.
    family : str, default="normal"
        Distribution of outcomes: "normal"; "log_normal"; "student_t"; "left_censored", a normal cut
        off at the lowest outcome (Tobit); "zero_inflated", at the lowest outcome with some
        probability and log-normal above it; "bernoulli"; "poisson"; "negative_binomial". Effects
        are differences of mean outcomes in all families.
    noise : {"arm", "arm_and_component"}, default="arm"
        Whether the noise SD differs by arm alone, or also by type as in the paper. With the second,
        types may differ in spread rather than in effect, above all where outcomes pile up.
    effect : {"constant", "covariates", "image"}, default="constant"
        Whether all units of a type have one effect (on the scale of the family), or one that is
        linear in their covariates or in the image. Component effects are then means over units.
    adjustment : {"baseline", "orthogonal"}, default="baseline"
        "orthogonal" replaces outcome and treatment by what is left after their cross-fitted
        predictions (the R-loss form), so that types take no part in the adjustment: for
        observational studies. Of "normal" and "student_t".
    baseline : {"shared", "by_type"}, default="shared"
        Whether types differ in their effects alone, as in the paper, or also in the intercept of
        their baseline. Types that differ in both, fitted with the first, have wrong effects: see
        `baseline_p_value_`. With the second, places may be told apart by their outcomes without
        treatment rather than by the effect.
    n_dimensions : int, default=8
        Principal components of the sites' embeddings that describe the image.
    guide : {"full_rank", "low_rank", "mean_field", "laplace", "nuts"}, default="full_rank"
        The normal that approximates the posterior: its covariance in the variational search, or
        "laplace", the curvature at the mode without a search. "nuts" samples, in small studies.
    learning_rate : float, default=0.01
        Of the variational search, in SDs of the normal at the mode.
    batch_size : int, default=None
        Sites in each step of the variational search; None takes all.
    n_restarts : int, default=8
        Random starts of the search for the mode.
    n_bootstrap : int, default=200
        Refits under random weights of clusters, which give the standard errors; 0 takes the
        first-order (sandwich) ones, as studies of 100,000 sites may.
    networks : MixtureNetworks, default=None
        How chips are read; None takes the defaults. With the network "mlp" and without chips, types
        and baseline are nonlinear in the embeddings.
    random_state : None, int or Generator, default=None
        Seed.

    Attributes
    ----------
    component_effects_ : Estimate
        One term per component, from the smallest effect to the largest.
    shares_ : Estimate
        Share of the units in each component.
    implied_effect_ : Estimate
        The average effect that the mixture implies.
    average_effect_ : Estimate
        The doubly robust average effect of the same study, to check it against.
    memberships_ : DataFrame
        Probabilities of the fitted sites given image and outcomes.
    refits_ : DataFrame or None
        Effects, implied average effect and shares of each bootstrap refit.
    posterior_ : DataFrame
        Posterior mean and SD of each component's effect and share.
    restart_agreement_ : float
        Mean adjusted Rand index between the best restart and the others.
    restart_log_densities_ : ndarray
        Log posterior density at the end of each restart, best first.
    elbo_ : ndarray
        Evidence lower bound by step; empty where there was no search.
    diagnostics_ : dict of str to float
        Of the posterior: pareto_shape, gradient_ratio, r_hat, effective_draws, divergences.
    converged_ : bool
        Whether mode, bound (or chains) and refits converged.
    baseline_p_value_ : float or None
        Of types that share one baseline: a score test over clusters; small where they do not, but
        it sees little with one unit at each site. None with one component, or with a baseline by
        type.
    unit_effects_ : DataFrame
        Effect of each unit given image and outcomes: posterior mean, and SD over parameters and
        types.
    predictive_checks_ : DataFrame
        Statistics of the outcomes, and of outcomes drawn from the posterior.
    networks_ : SiteNetworks or None
        The trained networks.
    priors_ : tuple of str
        The priors in words.
    notes_ : tuple of str
        What cannot be trusted, also given as a `MixtureWarning`.

    Raises
    ------
    ValueError
        More components than a tenth of the sites, a constant outcome, or one that is not of the
        family.
    RoleError
        The study has no sites, or neither embeddings nor chips.
    AlignmentError
        A site has no chip.
    FloatingPointError
        The evidence lower bound, or the loss of a network, was not finite.

    Notes
    -----
    Assumes that treatment is as good as random given covariates and image, that the baseline is
    linear in them (and the same for all types, or different by a constant), and that a site's type
    does not depend on its covariates. Values are posterior modes. Standard errors come from the
    weighted likelihood bootstrap: each cluster gets a random weight and the mode is found anew.
    They are the half-widths of the central 90 % of refits over 1.64, since in a weak mixture a few
    refits lose a component and run away, times ``sqrt(n / (n - p))`` for n sites and the p
    parameters that these inform. They count which clusters were sampled, and hold where the
    likelihood is wrong, but take the number of components, the reduced embeddings and the
    neighbourhood of the best mode as given. Posterior SDs are those of the variational normal; they
    trust the likelihood. Labels are matched between fits by the sites they share.

    End to end, all of this holds given the trained networks. Since these describe each site without
    having seen its outcomes, they cannot invent types; that another sample would have trained other
    networks is not in the intervals, only in the SDs of `predict_proba`, whose draws take turns
    between the networks of the folds.

    Pyro declares the priors and the likelihood, and fits the posterior by SVI from the mode on.

    References
    ----------
    Jerzak, C. T., Johansson, F. & Daoud, A. (2023). Image-based treatment effect heterogeneity.
    CLeaR, PMLR 213. arXiv:2206.06417. Newton, M. A. & Raftery, A. E. (1994), JRSS B 56(1).

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings, role="modifier")
    >>> mixture = EffectMixture(1, n_dimensions=2, n_bootstrap=20, random_state=0).fit(study)
    >>> mixture.component_effects_.terms
    ('component 1',)
    """

    baseline_p_value_: float | None
    component_effects_: Estimate
    shares_: Estimate
    implied_effect_: Estimate
    average_effect_: Estimate
    memberships_: pd.DataFrame
    posterior_: pd.DataFrame
    unit_effects_: pd.DataFrame
    predictive_checks_: pd.DataFrame
    networks_: "SiteNetworks | None"
    notes_: tuple[str, ...]

    def __init__(  # noqa: PLR0913 - one argument for each part that can differ
        self,
        n_components: int = 2,
        family: Family = "normal",
        noise: Noise = "arm",
        effect: Effect = "constant",
        adjustment: Adjustment = "baseline",
        baseline: Baseline = "shared",
        n_dimensions: int = 8,
        guide: Guide = "full_rank",
        learning_rate: float = 0.01,
        batch_size: int | None = None,
        n_restarts: int = 8,
        n_bootstrap: int = 200,
        networks: "MixtureNetworks | None" = None,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.family = family
        self.noise = noise
        self.effect = effect
        self.adjustment = adjustment
        self.baseline = baseline
        self.n_dimensions = n_dimensions
        self.guide = guide
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_restarts = n_restarts
        self.n_bootstrap = n_bootstrap
        self.networks = networks
        self.random_state = random_state

    def fit(
        self,
        study: Study,
        chips: "Chips | None" = None,
        *,
        nuisances: Nuisances | None = None,
    ) -> Self:
        """Fit memberships, baseline and component effects.

        Parameters
        ----------
        study : Study
            With sites, and with joined embeddings unless there are chips.
        chips : Chips, default=None
            Of all sites: types and baseline are read off them end to end.
        nuisances : Nuisances, default=None
            Of the same study, for the check against AIPW and for the orthogonal likelihood; None
            takes `cross_fit` with its defaults.

        Returns
        -------
        EffectMixture
            The same object.
        """
        self._check_settings()
        check_input(study, chips, self)
        # streams of their own: the check does not depend on the number of components
        searching, refitting, checking, training = random_generator(self.random_state).spawn(4)
        if nuisances is None:
            nuisances = cross_fit(study, random_state=checking)
        check_same_index("nuisances", nuisances.table.index, study.units)
        self.networks_, described = None, None
        if chips is not None or self.networks is not None:
            self.networks_ = train_on_images(self, study, chips, training)
            described = self.networks_.out_of_fold
        left = residuals_of(study, nuisances) if self.adjustment == "orthogonal" else None
        design, table = prepare(study, self, described, left)
        density, mode, posterior = self._search(design, table, searching)
        answers = answers_of(
            study,
            table,
            (density, mode),
            nuisances,
            n_bootstrap=self.n_bootstrap,
            rng=refitting,
        )
        self.design_, self.sites_ = design, table.sites
        self.encoders_ = study.joined_encoders
        self.baseline_p_value_ = baseline_p_value(design, table, (density, mode))
        self._store(study, answers, (density, mode, posterior), table, searching)
        problems = find_problems(density, mode, table, answers)
        problems += baseline_notes(self.baseline_p_value_)
        self.notes_ = (*problems, *convergence_notes(mode, posterior, answers))
        warn_of(self.notes_)
        return self

    def predict_proba(self, images: "pd.DataFrame | Chips") -> pd.DataFrame:
        """Return the probability of each type for sites, given their image alone.

        Parameters
        ----------
        images : pandas.DataFrame of shape (n_sites, n_features), or Chips
            Embeddings with the fitted columns, or chips with the fitted bands, as in `fit`; any
            sites.

        Returns
        -------
        pandas.DataFrame of shape (n_sites, 2 n_components)
            Columns probability_1, …, the posterior means, and sd_1, …, the posterior SDs.

        Raises
        ------
        AlignmentError
            The embeddings lack fitted columns, or another encoder made them.
        BandError
            The chips have other bands.
        TypeError
            Chips where embeddings were fitted, or the other way round.
        """
        check_is_fitted(self, "design_")
        keys, places = site_features(self, images)
        draws = self.membership_draws_
        chance = np.empty((len(draws), len(keys), self.n_components))
        # with several networks, draws take turns
        for turn, place in enumerate(places):
            rows = slice(turn, None, len(places))
            image = np.column_stack([np.ones(len(place)), place])
            logits = np.einsum("sd,bkd->bsk", image, draws[rows])
            high = np.exp(logits - logits.max(axis=2, keepdims=True))
            chance[rows] = high / high.sum(axis=2, keepdims=True)
        kinds = range(1, self.n_components + 1)
        return pd.DataFrame(
            np.column_stack([chance.mean(axis=0), chance.std(axis=0)]),
            index=keys,
            columns=[f"{word}_{k}" for word in ("probability", "sd") for k in kinds],
        )

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per component.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        pandas.DataFrame
            The tidy columns of an estimate, posterior_mean, posterior_sd, share, share_std_error.
        """
        check_is_fitted(self, "design_")
        table = self.component_effects_.to_dataframe(level)
        table[["posterior_mean", "posterior_sd"]] = self.posterior_[["mean", "sd"]].to_numpy()
        table["share"] = self.shares_.value
        table["share_std_error"] = self.shares_.std_error
        return table

    def summary(self, level: float = 0.95) -> str:
        """Return effects, shares, checks, priors and what the intervals mean, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        check_is_fitted(self, "design_")
        return summarize(self, level)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "design_")

    @property
    def spec(self) -> MixtureSpec:
        """What is fitted, short of the data."""
        return MixtureSpec(
            self.n_components,
            self.family,
            self.noise,
            self.effect,
            self.adjustment,
            self.baseline,
        )

    def _check_settings(self) -> None:
        check_settings(self.spec, self.guide)
        for name in ("n_components", "n_dimensions", "n_restarts"):
            check_count(name, getattr(self, name))
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)
        check_count("n_bootstrap", self.n_bootstrap, minimum=0)
        if 0 < self.n_bootstrap < MIN_REFITS:
            raise ValueError(
                f"`n_bootstrap` must be 0 or at least {MIN_REFITS}, to have a central 90 %; got "
                f"{self.n_bootstrap}."
            )
        check_positive("learning_rate", self.learning_rate)

    def _search(
        self, design: MixtureDesign, table: MixtureTable, rng: np.random.Generator
    ) -> "tuple[MixtureDensity, Mode, Posterior]":
        """Find the mode, then the posterior around it."""
        from terracausal.mixtures.fitting import find_mode, make_density, one_thread
        from terracausal.mixtures.posterior import PosteriorSearch, find_posterior

        density = make_density(design, table)
        search = PosteriorSearch(self.guide, self.learning_rate, self.batch_size)
        with one_thread():
            mode = find_mode(density, self.n_restarts, rng)
            return density, mode, find_posterior(density, mode, search, rng)

    def _store(
        self,
        study: Study,
        answers: MixtureAnswers,
        found: "tuple[MixtureDensity, Mode, Posterior]",
        table: MixtureTable,
        rng: np.random.Generator,
    ) -> None:
        from terracausal.mixtures.checks import predictive_checks, unit_effects
        from terracausal.mixtures.fitting import one_thread, posterior_answers

        density, mode, posterior = found
        self.component_effects_, self.shares_ = answers.effects, answers.shares
        self.implied_effect_, self.average_effect_ = answers.implied, answers.average
        self.refits_converged_ = answers.refits_converged
        self.converged_ = posterior.converged and mode.converged and answers.refits_converged > 0.9
        self.membership_draws_ = density.part(posterior.draws, "membership").numpy()
        self.priors_ = tuple(block.words for block in density.blocks)
        self.restart_agreement_ = mode.agreement
        self.restart_log_densities_ = mode.log_densities
        self.elbo_, self.diagnostics_ = posterior.elbo, posterior.diagnostics
        with one_thread():
            drawn, chance = posterior_answers(density, posterior.draws)
            effects = unit_effects(density, posterior.draws[:N_EFFECT_DRAWS])
            self.predictive_checks_ = predictive_checks(density, table, posterior.draws, rng)
        order = study.canonical().units[np.argsort(table.site, kind="stable")]
        by_unit = pd.DataFrame(effects, index=order, columns=["effect", "sd"])
        self.unit_effects_ = by_unit.loc[study.units]
        self.refits_, self.posterior_ = tables_of(drawn, answers.draws)
        self.memberships_ = pd.DataFrame(
            chance,
            index=self.sites_,
            columns=[f"probability_{k}" for k in range(1, self.n_components + 1)],
        )
