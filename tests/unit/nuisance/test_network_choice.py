"""Networks are compared by losses of units that they have not seen."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import RoleError
from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
from terracausal.imagery import Chips
from terracausal.nuisance import (
    ImageNuisanceLearner,
    NetworkComparison,
    Nuisances,
    choose_network,
)
from terracausal.nuisance.network_choice import held_out_losses

LEARNER = ImageNuisanceLearner(
    training=TrainingSettings(n_epochs=20, learning_rate=0.1), random_state=0
)
MEAN = partial(KernelMaxNetwork, width_px=1, n_filters=1, pooling="mean")


@pytest.fixture
def chips(table):
    """Brightness is the mean of x at a site."""
    mean = table.groupby("site")["x"].mean().to_numpy()[:, None, None, None, None]
    noise = np.random.default_rng(1).normal(size=(30, 1, 1, 6, 6))
    noise -= noise.mean(axis=(3, 4), keepdims=True)
    return Chips.from_arrays(mean + noise, sites=range(30), bands=["nir"])


def blind(n_bands):
    network = KernelMaxNetwork(n_bands, 2, 1, "mean")
    network.filters.data[:] = 0
    network.filters.requires_grad_(False)
    return network


def test_losses_are_those_of_the_arm_that_was_seen(study):
    rng = np.random.default_rng(0)
    found = pd.DataFrame(
        {
            "propensity": rng.uniform(0.1, 0.9, study.n_units),
            "outcome_control": 1.0,
            "outcome_treated": 2.0,
            "fold": 0,
        },
        index=study.units,
    )
    losses = held_out_losses(study, Nuisances(found, False, {}, found.iloc[:0]))
    y, w = study.outcome, study.treatment
    within = sum(((y[w == a] - y[w == a].mean()) ** 2).sum() for a in (0, 1)) / len(y)
    np.testing.assert_allclose(losses["outcome"], (y - 1 - w) ** 2 / within)
    own = np.where(w == 1, found["propensity"], 1 - found["propensity"])
    np.testing.assert_allclose(losses["treatment"], -np.log(own))
    np.testing.assert_allclose(losses["joint"], losses["treatment"] + losses["outcome"])


def test_the_network_that_sees_is_chosen_over_one_that_does_not(table, make_study, chips):
    place = table.groupby("site")["x"].transform("mean")
    study = make_study(table.assign(y=table["y"] + 4 * place), covariates=[])
    found = choose_network(
        study, chips, {"blind": blind, "mean": MEAN}, learner=LEARNER, criterion="outcome"
    )
    assert found.chosen == "mean"
    assert found.by_criterion()["outcome"] == "mean"
    rows = found.to_dataframe().query("criterion == 'outcome'").set_index("network")
    assert rows.loc["mean", "difference"] == 0
    assert rows.loc["blind", "difference"] == pytest.approx(
        rows.loc["blind", "loss"] - rows.loc["mean", "loss"]
    )
    assert rows.loc["blind", "std_error"] > 0
    assert (rows["n_clusters"] == 30).all()
    assert "Network mean has the lowest held-out loss (outcome); 120 units" in found.summary()
    assert "<table" in found._repr_html_()


def test_it_is_drawn(study):
    import matplotlib as mpl

    mpl.use("Agg")
    columns = {"criterion": "treatment", "n_units": 9, "n_clusters": 9}
    table = pd.DataFrame({"network": [4, 8], "loss": [0.7, 0.6], "difference": [0.1, 0.0]})
    found = NetworkComparison(8, "treatment", table.assign(std_error=[0.02, 0.0], **columns))
    assert "above the lowest" in found.plot().get_xlabel()


def test_what_cannot_be_chosen_is_refused(study, table, make_study, chips):
    with pytest.raises(ValueError, match="at least 2 networks; got 1"):
        choose_network(study, chips, {"mean": MEAN}, learner=LEARNER)
    known = make_study(table, propensity="e")
    with pytest.raises(RoleError, match="criterion='outcome'"):
        choose_network(known, chips, {"blind": blind, "mean": MEAN}, learner=LEARNER)
    with pytest.raises(ValueError, match="got 'auc'"):
        choose_network(known, chips, {"a": blind, "b": MEAN}, learner=LEARNER, criterion="auc")
    wide = {"mean": MEAN, "wide": partial(KernelMaxNetwork, width_px=9)}
    with pytest.raises(ValueError, match="filters of 9 x 9 px") as caught:
        choose_network(study, chips, wide, learner=LEARNER)
    assert "candidate 'wide'" in "".join(caught.value.__notes__)
