"""The image-type effect cluster model: sites are of a few types, and the effect is the type's."""

from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice, check_count, check_positive
from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.mixtures.design import MixtureDesign, MixtureTable, learn_design
from terracausal.mixtures.layout import FAMILIES, NOISES
from terracausal.mixtures.results import (
    MixtureAnswers,
    answers_of,
    find_problems,
    warn_of,
)
from terracausal.mixtures.wording import summarize
from terracausal.study import Estimate, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from terracausal.mixtures.density import MixtureDensity
    from terracausal.mixtures.fitting import Mode
    from terracausal.mixtures.variational import Posterior

Floats = NDArray[np.float64]
Family = Literal["normal", "student_t", "left_censored", "bernoulli"]
Noise = Literal["arm", "arm_and_component"]
Guide = Literal["full_rank", "low_rank", "mean_field", "laplace"]
MIN_SITES = 10
MIN_REFITS = 10
_MAX_STEPS = 3_000
_N_DRAWS = 500


class EffectMixture(BaseEstimator):
    """Explain effects by a few latent types of places: the image-type effect cluster model.

    With the site s(i) of unit i, its reduced embedding x_s, covariates c_i and arm w_i::

        type_s        | image ~ Categorical(softmax(a_k + b_k x_s))
        outcome_i     | type k ~ family(baseline(x_s, c_i) + effect_k w_i, noise SD by arm)

    The baseline is linear. All units of a site are of one type: the likelihood of a site is a
    mixture of the products over its units, summed over the types exactly. Normal outcomes of a site
    also share a random intercept, integrated out exactly, so that what a site's units have in
    common is not taken for a type.

    Parameters
    ----------
    n_components : int, default=2
        Number of types, K. See `choose_components`.
    family : {"normal", "student_t", "left_censored", "bernoulli"}, default="normal"
        Distribution of outcomes. "left_censored" is a normal cut off at the lowest outcome
        (Tobit). Effects are differences of mean outcomes in all families.
    noise : {"arm", "arm_and_component"}, default="arm"
        Whether the noise SD differs by arm alone, or also by type as in the paper. With the second,
        types may differ in spread rather than in effect, above all where outcomes pile up.
    n_dimensions : int, default=8
        Principal components of the sites' embeddings that describe the image.
    guide : {"full_rank", "low_rank", "mean_field", "laplace"}, default="full_rank"
        The normal that approximates the posterior: its covariance in the variational search, or
        "laplace", the curvature at the mode without a search.
    learning_rate : float, default=0.01
        Of the variational search.
    n_restarts : int, default=8
        Random starts of the search for the mode.
    n_bootstrap : int, default=200
        Refits under random weights of clusters, which give the standard errors; 0 takes the
        first-order (sandwich) ones.
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
        Evidence lower bound by step; empty for "laplace".
    converged_ : bool
        Whether mode, bound and refits converged.
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
        The study has no sites or no joined embeddings.
    FloatingPointError
        The evidence lower bound was not finite.

    Notes
    -----
    Assumes that treatment is as good as random given covariates and image, that the baseline is
    linear in them, and that a site's type does not depend on its covariates. Values are posterior
    modes. Standard errors come from the weighted likelihood bootstrap: each cluster gets a random
    weight and the mode is found anew. They are the half-widths of the central 90 % of refits over
    1.64, since in a weak mixture a few refits lose a component and run away. They count which
    clusters were sampled, and hold where the likelihood is wrong, but take the number of
    components, the reduced embeddings and the neighbourhood of the best mode as given. Posterior
    SDs are those of the variational normal; they trust the likelihood. Labels are matched between
    fits by the sites they share.

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

    component_effects_: Estimate
    shares_: Estimate
    implied_effect_: Estimate
    average_effect_: Estimate
    memberships_: pd.DataFrame
    posterior_: pd.DataFrame
    notes_: tuple[str, ...]

    def __init__(  # noqa: PLR0913 - one argument for each part that can differ
        self,
        n_components: int = 2,
        family: Family = "normal",
        noise: Noise = "arm",
        n_dimensions: int = 8,
        guide: Guide = "full_rank",
        learning_rate: float = 0.01,
        n_restarts: int = 8,
        n_bootstrap: int = 200,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.family = family
        self.noise = noise
        self.n_dimensions = n_dimensions
        self.guide = guide
        self.learning_rate = learning_rate
        self.n_restarts = n_restarts
        self.n_bootstrap = n_bootstrap
        self.random_state = random_state

    def fit(self, study: Study) -> Self:
        """Fit memberships, baseline and component effects.

        Parameters
        ----------
        study : Study
            With sites and joined embeddings.

        Returns
        -------
        EffectMixture
            The same object.
        """
        self._check_settings()
        design, table = prepare(study, self.n_components, self.family, self.n_dimensions)
        # streams of their own: the check does not depend on the number of components
        searching, refitting, checking = random_generator(self.random_state).spawn(3)
        density, mode, posterior = self._search(design, table, searching)
        answers = answers_of(
            study,
            design,
            table,
            (density, mode),
            n_bootstrap=self.n_bootstrap,
            streams=(refitting, checking),
        )
        self.design_, self.sites_ = design, table.sites
        self.membership_draws_ = density.part(posterior.draws, "membership").numpy()
        self.priors_ = tuple(block.words for block in density.blocks)
        self.restart_agreement_ = mode.agreement
        self.restart_log_densities_ = mode.log_densities
        self.elbo_ = posterior.elbo
        self.converged_ = posterior.converged and mode.converged and answers.refits_converged > 0.9
        self._store(answers, density, posterior)
        problems = find_problems(density, mode, table, answers)
        self.notes_ = (*problems, *self._convergence_notes(mode, posterior, answers))
        warn_of(self.notes_)
        return self

    def predict_proba(self, embeddings: pd.DataFrame) -> pd.DataFrame:
        """Return the probability of each type for sites, given their image alone.

        Parameters
        ----------
        embeddings : pandas.DataFrame of shape (n_sites, n_features)
            The fitted columns, by site; any sites.

        Returns
        -------
        pandas.DataFrame of shape (n_sites, 2 n_components)
            Columns probability_1, …, the posterior means, and sd_1, …, the posterior SDs.
        """
        check_is_fitted(self, "design_")
        image = self.design_.project(embeddings)
        image = np.column_stack([np.ones(len(image)), image])
        logits = np.einsum("sd,bkd->bsk", image, self.membership_draws_)
        logits -= logits.max(axis=2, keepdims=True)
        chance = np.exp(logits)
        chance /= chance.sum(axis=2, keepdims=True)
        kinds = range(1, self.n_components + 1)
        return pd.DataFrame(
            np.column_stack([chance.mean(axis=0), chance.std(axis=0)]),
            index=embeddings.index,
            columns=[f"{word}_{k}" for word in ("probability", "sd") for k in kinds],
        )

    def predict(self, embeddings: pd.DataFrame) -> "pd.Series[int]":
        """Return the most probable type of sites, given their image alone.

        Parameters
        ----------
        embeddings : pandas.DataFrame of shape (n_sites, n_features)
            As in `predict_proba`.

        Returns
        -------
        pandas.Series of shape (n_sites,)
            Numbers from 1, named component.
        """
        chance = self.predict_proba(embeddings).to_numpy()[:, : self.n_components]
        return pd.Series(chance.argmax(axis=1) + 1, index=embeddings.index, name="component")

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

    def plot(self, ax: "Axes | None" = None, level: float = 0.95) -> "Axes":
        """Draw the component effects with their intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        table = self.to_dataframe(level)
        table["term"] = [f"{r.term} ({r.share:.0%})" for r in table.itertuples()]
        return plot_intervals(table, ax=ax)

    def __str__(self) -> str:
        return self.summary() if hasattr(self, "design_") else repr(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"

    def _check_settings(self) -> None:
        check_choice("family", self.family, FAMILIES)
        check_choice("noise", self.noise, NOISES)
        check_choice("guide", self.guide, get_args(Guide))
        check_count("n_components", self.n_components)
        check_count("n_dimensions", self.n_dimensions)
        check_count("n_restarts", self.n_restarts)
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
        from terracausal.mixtures.variational import fit_posterior, laplace_posterior

        density = make_density(design, table, self.family, self.n_components, self.noise)
        with one_thread():
            mode = find_mode(density, self.n_restarts, rng)
            if self.guide == "laplace":
                return density, mode, laplace_posterior(mode, _N_DRAWS, rng)
            posterior = fit_posterior(
                density,
                mode,
                self.guide,
                learning_rate=self.learning_rate,
                max_steps=_MAX_STEPS,
                n_draws=_N_DRAWS,
                seed=draw_seed(rng),
            )
        return density, mode, posterior

    def _store(
        self, answers: MixtureAnswers, density: "MixtureDensity", posterior: "Posterior"
    ) -> None:
        from terracausal.mixtures.fitting import posterior_answers

        self.component_effects_, self.shares_ = answers.effects, answers.shares
        self.implied_effect_, self.average_effect_ = answers.implied, answers.average
        self.refits_converged_ = answers.refits_converged
        drawn, chance = posterior_answers(density, posterior.draws)
        drawn[:, : self.n_components] *= self.design_.spread
        kinds = range(1, self.n_components + 1)
        count = self.n_components
        effects, shares = ([f"{word}_{k}" for k in kinds] for word in ("effect", "share"))
        columns = [*effects, "implied_effect", *shares]
        self.refits_ = (
            None if answers.draws is None else pd.DataFrame(answers.draws, columns=columns)
        )
        self.posterior_ = pd.DataFrame(
            {
                "mean": drawn[:, :count].mean(axis=0),
                "sd": drawn[:, :count].std(axis=0),
                "share": drawn[:, count + 1 :].mean(axis=0),
                "share_sd": drawn[:, count + 1 :].std(axis=0),
            },
            index=pd.Index([f"component {k}" for k in kinds], name="term"),
        )
        self.memberships_ = pd.DataFrame(
            chance, index=self.sites_, columns=[f"probability_{k}" for k in kinds]
        )

    def _convergence_notes(
        self, mode: "Mode", posterior: "Posterior", answers: MixtureAnswers
    ) -> tuple[str, ...]:
        notes = []
        if not mode.converged:
            notes.append("the best restart did not reach its mode: do not trust the effects")
        if len(posterior.elbo) and not posterior.converged:
            notes.append(
                f"the evidence lower bound still rose after {len(posterior.elbo):,} steps: "
                "posterior SDs are rough"
            )
        if answers.refits_converged <= 0.9:
            notes.append(
                f"only {answers.refits_converged:.0%} of the refits converged: standard errors "
                "are rough"
            )
        return tuple(notes)


def prepare(
    study: Study, n_components: int, family: str, n_dimensions: int
) -> tuple[MixtureDesign, MixtureTable]:
    """Return design and arrays of a study; refuse more components than its sites support.

    Parameters
    ----------
    study : Study
    n_components : int
    family : str
    n_dimensions : int

    Returns
    -------
    MixtureDesign, MixtureTable

    Raises
    ------
    ValueError
        There are fewer than 10 sites per component.
    """
    design = learn_design(study, family, n_dimensions)
    table = design.apply(study)
    most = table.n_sites // MIN_SITES
    if n_components > most:
        raise ValueError(
            f"Each component needs at least {MIN_SITES} sites; {table.n_sites} sites support at "
            f"most {most}, got n_components={n_components}. Use fewer components or more sites."
        )
    return design, table
