"""Mixtures end to end: identities of the loss, recovery, folds that are blind, bad input."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from terracausal._foundation.errors import AlignmentError, BandError, LeakageError, RoleError
from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
from terracausal.imagery import Chips
from terracausal.mixtures import EffectMixture, MixtureNetworks, choose_components
from terracausal.mixtures.mean_field import MeanField
from terracausal.mixtures.network_training import site_loss
from terracausal.mixtures.preparing import prepare
from terracausal.study import Study

BRIGHTNESS = partial(KernelMaxNetwork, width_px=1, n_filters=2, pooling="mean")
TRAINING = TrainingSettings(learning_rate=0.1, n_epochs=8)
NETWORKS = MixtureNetworks(BRIGHTNESS, training=TRAINING, n_folds=2)
QUICK = EffectMixture(
    2, guide="laplace", n_restarts=3, n_bootstrap=40, networks=NETWORKS, random_state=0
)


def chips_of(embeddings, rng, bands=("red", "nir")):
    """Chips of 4 px whose mean in the first band is the first column, in the second the other."""
    means = embeddings[["e0", "e1"]].to_numpy()[:, None, :, None, None]
    noise = 0.5 * rng.normal(size=(len(embeddings), 1, 2, 4, 4))
    noise -= noise.mean(axis=(3, 4), keepdims=True)
    return Chips.from_arrays(means + noise, sites=list(embeddings.index), bands=list(bands))


def bare(study):
    """The study without its embeddings."""
    columns = ["outcome", "treated", "age", "site"]
    return Study(
        study.table[columns],
        outcome="outcome",
        treatment="treated",
        site="site",
        covariates=["age"],
        propensity=0.5,
    )


@pytest.fixture(scope="module")
def world(two_types):
    study, embeddings, kind = two_types(200, 5)
    return bare(study), embeddings, kind, chips_of(embeddings, np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(world):
    study, _, _, chips = world
    return clone(QUICK).fit(study, chips)


def test_the_loss_is_the_density_with_the_outputs_as_parameters(two_types, rng):
    from terracausal.mixtures.fitting import make_density

    study, _, _ = two_types(20, 3)
    design, table = prepare(study, EffectMixture(2, n_dimensions=2))
    density = make_density(design, table)
    point = torch.tensor(rng.normal(size=density.n_parameters))
    logits = density._image @ density.part(point[None], "membership")[0].T
    shift = torch.tensor(rng.normal(size=20))
    same = torch.cat([point, torch.tensor([30.0])]).expand(20, -1)
    outputs = torch.cat([logits, shift[:, None], same], dim=1)
    codes = torch.tensor(rng.permutation(20)[:7])
    found = site_loss(density, outputs[codes], codes.float(), 10)
    moved = replace(table, outcome=table.outcome - shift.numpy()[table.site])
    other = make_density(design, moved)
    wanted = 3.0 - other.log_sites(point[None])[0, codes] - density.log_prior(point[None]) / 10
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_effects_and_types_are_read_off_pixels(world, fitted):
    _, embeddings, kind, chips = world
    effects = fitted.component_effects_
    assert (np.abs(effects.value - [0, 2]) < stats.norm.ppf(0.999) * effects.std_error).all()
    found = fitted.predict_proba(chips)
    oracle = roc_auc_score(kind, embeddings["e0"])
    assert roc_auc_score(kind, found["probability_2"]) > oracle - 0.1
    # chips elsewhere are described by all networks, and so are less certain
    elsewhere = Chips.from_arrays(
        np.stack([chips[key] for key in chips.keys]),
        sites=[f"new {key}" for key in chips.keys],
        bands=list(chips.bands),
    )
    other = fitted.predict_proba(elsewhere)
    assert roc_auc_score(kind, other["probability_2"]) > oracle - 0.1
    assert other["sd_2"].mean() > found["sd_2"].mean()
    assert fitted.predict(chips).isin([1, 2]).all()
    text = fitted.summary()
    assert "one for each of 2 folds" in text
    assert fitted.converged_


def test_no_site_is_described_by_a_network_that_saw_its_outcomes(world, fitted):
    study, _, _, chips = world
    blind = fitted.networks_.blind
    inside = blind.index[blind == 0]
    table = study.table
    moved = table["site"].isin(inside)
    # outcomes change places, so that their mean and SD, by which all are scaled, stay
    table.loc[moved, "outcome"] = table.loc[moved, "outcome"].to_numpy()[::-1]
    other = clone(QUICK).fit(_restudy(table), chips)
    pd.testing.assert_series_equal(other.networks_.blind, blind)
    before, after = (m.networks_.out_of_fold.types.loc[inside] for m in (fitted, other))
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_restarts_are_averaged_and_each_keeps_its_own_checkpoint(world, tmp_path):
    study, _, _, chips = world
    training = replace(TRAINING, n_epochs=2, n_restarts=2, checkpoint=tmp_path / "state")
    networks = replace(NETWORKS, training=training)
    quick = clone(QUICK).set_params(networks=networks, n_restarts=1, n_bootstrap=0)
    mixture = clone(quick).fit(study, chips)
    networks = mixture.networks_
    assert [len(fold) for fold in networks.networks] == [2, 2]
    names = {f"state.fold_{fold}.restart_{restart}" for fold in (0, 1) for restart in (0, 1)}
    assert {path.name for path in tmp_path.iterdir()} == names
    # what is said of a site is the mean of the networks that did not see it
    pixels = torch.from_numpy(np.stack([chips[key] for key in networks.blind.index]))
    odds = []
    for fold in networks.networks:
        told = [
            m.network(pixels, torch.zeros(len(pixels), 1))[:, : len(m.centre)].numpy() - m.centre
            for m in fold
        ]
        odds.append(
            np.mean(
                [o[:, m.order[1]] - o[:, m.order[0]] for o, m in zip(told, fold, strict=True)],
                axis=0,
            )
        )
    blind, everyone = networks.blind.to_numpy(), np.arange(len(pixels))
    np.testing.assert_allclose(
        networks.out_of_fold.types["log_odds_2"], np.array(odds)[blind, everyone], atol=1e-4
    )
    again = clone(quick).fit(study, chips)
    np.testing.assert_allclose(
        again.component_effects_.value, mixture.component_effects_.value, rtol=1e-6
    )
    assert "the mean of 2 for each of 2 folds" in mixture.summary()


def _restudy(table):
    return Study(
        table,
        outcome="outcome",
        treatment="treated",
        site="site",
        covariates=["age"],
        propensity=0.5,
    )


def test_the_order_of_rows_and_chips_does_not_matter_and_it_pickles(world, fitted):
    study, _, _, chips = world
    table = study.table.sample(frac=1, random_state=1)
    turned = chips.select(chips.keys[::-1])
    other = clone(QUICK).fit(_restudy(table), turned)
    np.testing.assert_allclose(
        other.component_effects_.value, fitted.component_effects_.value, rtol=1e-4
    )
    again = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(again.predict_proba(chips), fitted.predict_proba(chips))


def test_one_component_and_the_choice_read_chips_too(two_types, rng):
    study, embeddings, _ = two_types(60, 4, effects=(1.0, 1.0), random_state=3)
    chips = chips_of(embeddings, rng)
    one = clone(QUICK).set_params(n_components=1, n_bootstrap=0).fit(bare(study), chips)
    assert (one.predict_proba(chips)["probability_1"] == 1).all()
    folds = bare(study).folds(2, random_state=0)
    choice = choose_components(bare(study), (1,), folds, mixture=QUICK, chips=chips)
    assert choice.n_components == 1


def test_a_perceptron_bends_types_in_embeddings(rng):
    n_sites, units = 150, 5
    x = rng.normal(size=(n_sites, 2))
    # one type in a strip, the other on both sides of it: no line parts them
    chance = 1 / (1 + np.exp(-3 * (np.abs(x[:, 0]) - 0.7) * 2))
    kind = (rng.random(n_sites) < chance).astype(int)
    site = np.repeat(np.arange(n_sites), units)
    treated = rng.integers(0, 2, len(site))
    outcome = 3.0 * kind[site] * treated + rng.normal(size=len(site))
    table = pd.DataFrame({"outcome": outcome, "treated": treated, "site": site})
    embeddings = pd.DataFrame(x, columns=["e0", "e1"])
    study = Study(table, outcome="outcome", treatment="treated", site="site", propensity=0.5)
    study = study.join(embeddings, role="modifier")
    bent = MixtureNetworks("mlp", training=TrainingSettings(learning_rate=0.03, n_epochs=12))
    mixture = clone(QUICK).set_params(networks=bent, n_bootstrap=0).fit(study)
    line = clone(QUICK).set_params(networks=None, n_bootstrap=0).fit(study)
    found, straight = (
        roc_auc_score(kind, m.predict_proba(embeddings)["probability_2"]) for m in (mixture, line)
    )
    assert found > straight + 0.1


# -- layers with a posterior -------------------------------------------------------------------


def test_divergence_is_that_of_normals():
    layer = MeanField(torch.nn.Linear(3, 2))
    assert layer.divergence().item() == pytest.approx(0, abs=1e-6)
    wanted = 0.0
    with torch.no_grad():
        for (_, mean), log_sd in zip(layer.network.named_parameters(), layer.log_sds, strict=True):
            prior = torch.distributions.Normal(mean.clone(), torch.exp(log_sd))
            mean += 0.1
            log_sd -= 0.5
            own = torch.distributions.Normal(mean, torch.exp(log_sd))
            wanted += torch.distributions.kl_divergence(own, prior).sum().item()
    assert layer.divergence().item() == pytest.approx(wanted, rel=1e-4)


def test_layers_with_a_posterior_make_memberships_less_certain(world, fitted):
    study, _, kind, chips = world
    bayesian = clone(QUICK).set_params(networks=replace(NETWORKS, bayesian=True), n_bootstrap=0)
    mixture = bayesian.fit(study, chips)
    found = mixture.predict_proba(chips)
    assert roc_auc_score(kind, found["probability_2"]) > 0.7
    assert found["sd_2"].mean() > fitted.predict_proba(chips)["sd_2"].mean()
    pd.testing.assert_frame_equal(found, mixture.predict_proba(chips))


# -- bad input ---------------------------------------------------------------------------------


def test_chips_that_do_not_serve_are_refused_before_training(world):
    study, _, _, chips = world
    with pytest.raises(AlignmentError, match=r"2 sites with 10 units have none: 's000', 's001'"):
        clone(QUICK).fit(study, chips.select(chips.keys[2:]))
    with pytest.raises(RoleError, match=r"reads chips, fit\(study, chips\); got no chips"):
        clone(QUICK).fit(study)
    mlp = clone(QUICK).set_params(networks=MixtureNetworks("mlp"))
    with pytest.raises(RoleError, match=r"'mlp' reads embeddings, .*; got chips of 200 sites"):
        mlp.fit(study, chips)
    with pytest.raises(ValueError, match=r"200 sites support at most 20, got n_components=21"):
        clone(QUICK).set_params(n_components=21).fit(study, chips)
    counts = clone(QUICK).set_params(family="poisson")
    with pytest.raises(ValueError, match=r"family='poisson' takes counts"):
        counts.fit(study, chips)


def test_late_images_are_refused(world):
    study, _, _, chips = world
    table = study.table.assign(day="2008-01-01")
    dated = Study(table, outcome="outcome", treatment="treated", site="site", treatment_date="day")
    with pytest.raises(LeakageError, match=r"the images have no dates"):
        clone(QUICK).fit(dated, chips)


def test_other_images_are_refused_at_prediction(world, fitted):
    embeddings = world[1]
    other = chips_of(embeddings, np.random.default_rng(0), bands=("red", "swir"))
    with pytest.raises(BandError, match=r"bands 'red', 'nir'; these have 'red', 'swir'"):
        fitted.predict_proba(other)
    with pytest.raises(TypeError, match=r"fitted to chips .*; got DataFrame"):
        fitted.predict(embeddings)


def test_settings_of_networks():
    with pytest.raises(ValueError, match=r"`network` must be one of .*; got 'resnet'"):
        MixtureNetworks("resnet")
    with pytest.raises(ValueError, match=r"`n_folds` must be an integer of at least 2; got 1"):
        MixtureNetworks(n_folds=1)
    assert MixtureNetworks("cnn", training=TRAINING).settings is TRAINING


def test_a_network_whose_loss_is_not_finite_names_step_and_learning_rate(world):
    study, _, _, chips = world
    wild = replace(NETWORKS, training=replace(TRAINING, learning_rate=1e30))
    with pytest.raises(FloatingPointError, match=r"step \d+ of \d+ of epoch \d+, at learning rate"):
        clone(QUICK).set_params(networks=wild).fit(study, chips)
