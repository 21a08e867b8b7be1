"""The whole flow on a simulated study, where the truth can be laid beside each estimate."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.effects import DRLearner, average_effect
from terracausal.encoders import RandomConvEncoder
from terracausal.evaluation import TargetingResult, rank_weighted_effect
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.report import Report
from terracausal.simulate import SimulatedStudy, simulate_study
from terracausal.study import Estimate


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What the demonstration found, and what is true.

    Parameters
    ----------
    data : SimulatedStudy
        The simulated study with its truth.
    average : Estimate
        The average effect.
    naive : Estimate
        The difference in means.
    effects : pandas.Series of shape (n_units,)
        Out-of-fold conditional effects.
    targeting : TargetingResult
        How well these rank the units.
    report : Report
        The page.

    Examples
    --------
    >>> demonstration = demonstrate(n_sites=60, n_features=32, random_state=0)
    >>> "truth" in demonstration.summary()
    True
    """

    data: SimulatedStudy
    average: Estimate
    naive: Estimate
    effects: "pd.Series[float]"
    targeting: TargetingResult
    report: Report

    def comparison(self) -> pd.DataFrame:
        """Return truth beside estimate, one row per quantity."""
        truth = self.data.truth["effect"].loc[self.effects.index].to_numpy()
        rows = []
        for words, estimate in (
            ("average effect, doubly robust", self.average),
            ("difference in means", self.naive),
        ):
            low, high = estimate.confint()[0]
            rows.append((words, self.data.average_effect, estimate.value[0], low, high))
        low, high = self.targeting.confint()[0]
        rows.append(("AUTOC of predicted effects", np.nan, self.targeting.value[0], low, high))
        agreement = float(np.corrcoef(truth, self.effects)[0, 1])
        rows.append(("correlation with true effects", np.nan, agreement, np.nan, np.nan))
        return pd.DataFrame(rows, columns=["quantity", "truth", "estimate", "ci_low", "ci_high"])

    def summary(self) -> str:
        """Return the comparison and the summaries behind it, as text."""
        table = self.comparison().to_string(
            index=False, na_rep="", float_format=lambda number: f"{number:.3f}"
        )
        parts = [self.data.study.describe(), self.average.summary(), self.targeting.summary()]
        return "\n\n".join([*parts, "Truth beside estimate\n" + table])

    def __str__(self) -> str:
        return self.summary()


def demonstrate(
    *, n_sites: int = 400, n_features: int = 512, random_state: RandomState = 1
) -> Demonstration:
    """Run the whole flow on a simulated randomised trial.

    Simulates a landscape and a trial whose effect depends on what the chips show, encodes the
    chips, estimates the average effect, predicts effects out of fold, and asks whether they rank.

    Parameters
    ----------
    n_sites : int, default=400
        Sites of the study, with five units each.
    n_features : int, default=512
        Random convolutional features.
    random_state : None, int or Generator, default=1
        Seed.

    Returns
    -------
    Demonstration

    Examples
    --------
    >>> demonstrate(n_sites=60, n_features=32, random_state=0).average.n_clusters
    60
    """
    rng = random_generator(random_state)
    # integers, because the page prints the settings of what made it
    world, encoding, dealing, nuisance, learning, sampling = (draw_seed(rng) for _ in range(6))
    data = simulate_study("effect_modification", n_sites=n_sites, random_state=world)
    encoder = RandomConvEncoder(n_features=n_features, random_state=encoding)
    study = data.study.join(encoder.fit_transform(data.chips), role="modifier")
    folds = study.folds(5, random_state=dealing)
    scores = doubly_robust_scores(study, cross_fit(study, folds, random_state=nuisance))
    average = average_effect(scores)
    naive = average_effect(scores, method="difference_in_means")
    effects = DRLearner(use="embeddings", random_state=learning).cross_predict(study, folds)
    targeting = rank_weighted_effect(scores, effects, random_state=sampling)
    report = Report(
        [study, scores, average, naive, targeting, effects],
        title="Demonstration: a simulated cash grant",
        subtitle="A simulated landscape and trial; the effect depends on what the images show",
        chips=data.chips,
        notes=(
            "This study is simulated. The true average effect of its units is "
            f"{data.average_effect:.3f}.",
        ),
    )
    return Demonstration(data, average, naive, effects, targeting, report)


def write_demonstration(folder: Path, random_state: RandomState = 1) -> Demonstration:
    """Run the demonstration and write its report and its table.

    Parameters
    ----------
    folder : Path
        Where report.html and truth_and_estimates.csv go; made if it is not there.
    random_state : None, int or Generator, default=1
        Seed.

    Returns
    -------
    Demonstration

    Examples
    --------
    >>> import inspect
    >>> list(inspect.signature(write_demonstration).parameters)
    ['folder', 'random_state']
    """
    found = demonstrate(random_state=random_state)
    found.report.to_html(folder / "report.html")
    found.comparison().to_csv(folder / "truth_and_estimates.csv", index=False)
    return found
