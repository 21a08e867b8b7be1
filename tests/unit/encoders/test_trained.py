"""Encoders trained on outcomes: what they learn, and what they must not know."""

import functools
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from terracausal._foundation.errors import AlignmentError, BandError, LeakageError
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.trained import TrainedEncoder
from terracausal.imagery import Chips
from terracausal.study import Study

N_SITES = 30
FLOAT32 = 1e-5  # columns of order 1
QUICK = TrainingSettings(n_epochs=3, batch_size=8)
NETWORKS = ("cnn", "channelvit", "kernel_max")
every_network = pytest.mark.parametrize("network", NETWORKS)


def chips_of(n_times=1, bands=("red", "nir"), order=None, seed=0, days=True):
    pixels = np.random.default_rng(seed).normal(size=(N_SITES, n_times, len(bands), 12, 12))
    pixels = 5 + 3 * pixels
    pixels[3, 0, 0, :2, 3:9] = np.nan
    order = np.arange(N_SITES) if order is None else order
    times = [f"{2000 + k}-01-01" for k in range(n_times)] if days else None
    return Chips.from_arrays(pixels[order], sites=100 + order, bands=bands, times=times)


def outcomes(seed=0):
    numbers = np.random.default_rng(seed).normal(size=N_SITES)
    return pd.Series(20 + 7 * numbers, index=100 + np.arange(N_SITES), name="income")


def quick(network="cnn", random_state=0, **settings):
    return TrainedEncoder(network, training=QUICK, random_state=random_state, **settings)


def close(one, other, tolerance=FLOAT32):
    pd.testing.assert_frame_equal(one, other, rtol=tolerance, atol=tolerance)


# -- it learns -------------------------------------------------------------------------------------


def coarse_or_fine(n_sites, generator):
    """Return pixels of 0 and 1 in squares of 1 or 2 px, and +1 where they are of 2 px.

    Every image has as many pixels of 1 as of 0: all moments of pixels are the same.
    """
    coarse = np.arange(n_sites) % 2 == 0
    pixels = np.empty((n_sites, 16, 16))
    for image, squares in zip(pixels, coarse, strict=True):
        values = generator.permutation(np.arange(64 if squares else 256) % 2)
        image[:] = (
            np.kron(values.reshape(8, 8), np.ones((2, 2))) if squares else values.reshape(16, 16)
        )
    return pixels[:, None, None], np.where(coarse, 1.0, -1.0)


def test_a_pattern_that_no_mean_sees_is_learnt():
    generator = np.random.default_rng(0)
    n_sites, n_train, noise_sd = 700, 300, 0.5
    pixels, pattern = coarse_or_fine(n_sites, generator)
    y = pd.Series(pattern + noise_sd * generator.normal(size=n_sites), name="y")
    chips = Chips.from_arrays(pixels, sites=range(n_sites), bands=["b"])
    settings = TrainingSettings(n_epochs=15)
    network = functools.partial(_small_cnn, widths=(8, 16))
    encoder = TrainedEncoder(network, training=settings, random_state=0)
    encoder.fit(chips.select(range(n_train)), y[:n_train])
    test = chips.select(range(n_train, n_sites))
    found, truth = encoder.predict(test).to_numpy(), y[n_train:].to_numpy()
    # the pattern has variance 1: noise of variance 0.25 leaves 1 / 1.25 to be explained at best
    bound = 1 / (1 + noise_sd**2)
    r2 = 1 - np.square(truth - found).mean() / truth.var()
    # of the best prediction R2 is known from 400 sites up to this: the mean square of normal noise
    # varies by sqrt(2 / n), and so does 1 - R2 = 0.2 relative to itself (the pattern is balanced)
    sd = (1 - bound) * np.sqrt(2 / len(truth))
    assert r2 < bound + 4 * sd
    # and the network may miss a twentieth of the pattern
    assert r2 > bound - 4 * sd - 0.05 * bound


def test_the_strongest_answer_to_an_unknown_kernel_is_learnt():
    """The world of the confounding paper, small: the maximum over an image of a linear filter."""
    generator = np.random.default_rng(0)
    n_sites, n_train, noise_sd = 1000, 600, 0.5
    pixels = generator.normal(size=(n_sites, 20, 20))
    kernel = np.fliplr(np.eye(4)) - 1 / 4
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (4, 4), axis=(1, 2))
    highest = np.einsum("nhwij,ij->nhw", windows, kernel).max(axis=(1, 2))
    signal = (highest - highest.mean()) / highest.std()
    y = pd.Series(signal + noise_sd * generator.normal(size=n_sites), name="y")
    chips = Chips.from_arrays(pixels[:, None, None], sites=range(n_sites), bands=["b"])
    encoder = TrainedEncoder(
        _four_kernels,
        training=TrainingSettings(n_epochs=20, learning_rate=0.1, n_restarts=3),
        random_state=0,
    ).fit(chips.select(range(n_train)), y[:n_train])
    truth = y[n_train:].to_numpy()
    found = encoder.predict(chips.select(range(n_train, n_sites))).to_numpy()
    # bound, its spread and the twentieth that may be missed: as above
    bound = 1 / (1 + noise_sd**2)
    sd = (1 - bound) * np.sqrt(2 / len(truth))
    r2 = 1 - np.square(truth - found).mean() / truth.var()
    assert bound - 4 * sd - 0.05 * bound < r2 < bound + 4 * sd


def _four_kernels(n_bands):
    from terracausal.encoders.networks import KernelMaxNetwork

    return KernelMaxNetwork(n_bands, width_px=4, n_filters=4)


def _small_cnn(n_bands, widths):
    from terracausal.encoders.networks import ConvNetwork

    return ConvNetwork(n_bands, widths)


@every_network
def test_a_binary_outcome_has_probabilities(network):
    y = (outcomes() > 20).astype(int)
    found = quick(network, task="binary").fit(chips_of(), y).predict(chips_of())
    assert found.between(0, 1).all()
    assert found.name == "income"


def test_predictions_are_in_the_units_of_the_outcome():
    one = quick().fit(chips_of(), outcomes()).predict(chips_of())
    other = quick().fit(chips_of(), 1000 * outcomes() - 5).predict(chips_of())
    # the network is trained on the same standardised numbers, up to rounding
    np.testing.assert_allclose(other, 1000 * one - 5, rtol=1e-3)


def test_several_outcomes():
    y = pd.DataFrame({"income": outcomes(), "age": outcomes(1)})
    encoder = quick().fit(chips_of(), y)
    assert encoder.predict(chips_of()).columns.tolist() == ["income", "age"]
    assert encoder.history_.shape == (3, 4)


def test_units_are_joined_by_site_and_not_by_row():
    units = pd.DataFrame(
        {"site": np.repeat(outcomes().index, 2), "income": np.repeat(outcomes(), 2).to_numpy()}
    )
    units = units.sample(frac=1, random_state=0)
    by_unit = quick().fit(chips_of(), units).transform(chips_of())
    close(by_unit, quick().fit(chips_of(), outcomes()).transform(chips_of()), 1e-4)


def test_sites_without_outcomes_are_not_trained_on():
    other = chips_of()
    fewer = outcomes()[:20]
    encoder = quick().fit(other, fewer)
    alone = quick().fit(other.select(fewer.index), fewer)
    pd.testing.assert_frame_equal(
        encoder.transform(other), alone.transform(other), check_exact=True
    )
    assert list(encoder.fitted_sites_) == list(fewer.index)


# -- rows ------------------------------------------------------------------------------------------


@every_network
def test_rows_depend_on_their_own_site_alone(network):
    chips = chips_of(n_times=2)
    encoder = quick(network).fit(chips, outcomes())
    table = encoder.transform(chips)
    order = np.random.default_rng(1).permutation(chips.keys)
    close(encoder.transform(chips.select(order)), table.loc[order])
    for site in chips.keys[:4]:
        close(encoder.transform(chips.select([site])), table.loc[[site]])


@every_network
def test_same_seed_same_rows_and_other_seed_other_rows(network):
    order = np.random.default_rng(2).permutation(N_SITES)
    tables = [
        quick(network, seed).fit(given, outcomes()).transform(chips_of())
        for seed, given in ((0, chips_of()), (0, chips_of(order=order)), (1, chips_of()))
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert not np.allclose(tables[0], tables[2])


@every_network
def test_two_encoders_share_nothing(network):
    first = quick(network).fit(chips_of(), outcomes())
    table = first.transform(chips_of())
    second = clone(first).fit(chips_of(seed=1), outcomes(1))
    second.transform(chips_of())
    pd.testing.assert_frame_equal(first.transform(chips_of()), table, check_exact=True)
    second.fit(chips_of(), outcomes())
    pd.testing.assert_frame_equal(second.transform(chips_of()), table, check_exact=True)


@every_network
def test_pickles_hold_parameters_and_little_else(network):
    encoder = quick(network).fit(chips_of(), outcomes())
    table = encoder.transform(chips_of())
    pickled = pickle.dumps(encoder)
    n_bytes = sum(values.nbytes for values in encoder.parameters_.values())
    # an optimiser would hold two more numbers for each, and a network its own copy
    assert len(pickled) < n_bytes + 10_000
    again = pickle.loads(pickled).transform(chips_of())
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert again.attrs == table.attrs


def test_components_reduce_columns_and_not_predictions():
    plain = quick().fit(chips_of(), outcomes())
    reduced = quick(n_components=3).fit(chips_of(), outcomes())
    assert reduced.transform(chips_of()).shape == (N_SITES, 3)
    pd.testing.assert_series_equal(reduced.predict(chips_of()), plain.predict(chips_of()))


def test_the_transform_that_ran_is_told():
    facts = quick().fit(chips_of(), outcomes()).transform(chips_of()).attrs["encoder"]
    assert json.loads(json.dumps(facts)) == facts
    assert facts["supervised"]
    assert facts["fitted_sites"] == list(range(100, 100 + N_SITES))
    other = quick().fit(chips_of(), outcomes(1)).transform(chips_of()).attrs["encoder"]
    assert other["parameters_digest"] != facts["parameters_digest"]


# -- bands and times -------------------------------------------------------------------------------


def test_channelvit_reads_any_of_its_bands():
    chips = chips_of(bands=("red", "nir", "swir"))
    encoder = quick("channelvit").fit(chips, outcomes())
    fewer = encoder.transform(chips.select(bands=["swir", "red"]))
    close(fewer, encoder.transform(chips.select(bands=["red", "swir"])))
    assert not np.allclose(fewer, encoder.transform(chips))
    assert fewer.attrs["encoder"]["bands_read"] == ["swir", "red"]
    assert len(encoder.predict(chips.select(bands=["nir"]))) == N_SITES
    with pytest.raises(BandError, match=r"'blue' are unknown"):
        encoder.transform(chips_of(bands=("red", "blue")))


@pytest.mark.parametrize("network", ["cnn", "kernel_max"])
def test_others_refuse_fewer_bands(network):
    encoder = quick(network).fit(chips_of(), outcomes())
    for run in (encoder.transform, encoder.predict):
        with pytest.raises(BandError, match=r"fitted on the bands 'red', 'nir'; these.*have 'red'"):
            run(chips_of().select(bands=["red"]))


def test_attention_reads_dates_and_asks_for_them():
    chips = chips_of(n_times=3)
    encoder = quick(times="attention").fit(chips, outcomes())
    pixels = np.stack([chips[site] for site in chips])
    days = ["2000-01-01", "2000-02-01", "2009-01-01"]
    other = Chips.from_arrays(pixels, sites=chips.keys, bands=chips.bands, times=days)
    assert not np.allclose(encoder.transform(other), encoder.transform(chips))
    for run in (encoder.transform, lambda undated: clone(encoder).fit(undated, outcomes())):
        with pytest.raises(ValueError, match=r"needs the date of every image; those of 30 of 30"):
            run(chips_of(n_times=3, days=False))


def test_chips_that_need_much_memory_are_read_in_every_step(monkeypatch):
    from terracausal.encoders.networks import site_images

    chips = chips_of(n_times=2)
    table = quick().fit(chips, outcomes()).transform(chips)
    monkeypatch.setattr(site_images, "MOST_BYTES", 0)
    again = quick().fit(chips, outcomes()).transform(chips)
    pd.testing.assert_frame_equal(again, table, check_exact=True)


# -- out of fold -----------------------------------------------------------------------------------


@pytest.fixture
def folds():
    return pd.Series(np.arange(N_SITES) % 3, index=outcomes().index).map(lambda k: "abc"[k])


def test_each_site_is_encoded_by_a_network_that_saw_none_of_its_fold(folds):
    chips, y = chips_of(), outcomes()
    one = quick().cross_fit_transform(chips, y, folds)
    changed = y.copy()
    changed[folds == "b"] = changed[folds == "b"].to_numpy()[::-1] * 3
    other = quick().cross_fit_transform(chips, changed, folds)
    # outcomes of fold b reach the rows of the others alone
    assert one[folds == "b"].equals(other[folds == "b"])
    for label in "ac":
        assert not np.allclose(one[folds == label], other[folds == label])
    assert list(one.index) == list(chips.keys)


def test_predictions_out_of_fold_do_not_know_noise():
    """In the sample a network knows outcomes that no image tells; out of fold it cannot."""
    n_sites = 120
    generator = np.random.default_rng(0)
    pixels = generator.normal(size=(n_sites, 1, 1, 8, 8))
    chips = Chips.from_arrays(pixels, sites=range(n_sites), bands=["b"])
    y = pd.Series(generator.normal(size=n_sites), name="y")
    settings = TrainingSettings(n_epochs=40, learning_rate=0.01, held_out_share=0, augment=False)
    network = functools.partial(_small_cnn, widths=(16,))
    encoder = TrainedEncoder(network, training=settings, random_state=0)
    inside = np.corrcoef(clone(encoder).fit(chips, y).predict(chips), y)[0, 1]
    outside = np.corrcoef(encoder.cross_predict(chips, y, y.index.to_series() % 2), y)[0, 1]
    # correlations of independent numbers have a standard deviation of 1 / sqrt(n) = 0.09
    assert inside > 0.5
    assert abs(outside) < 4 / np.sqrt(n_sites)


def test_a_study_refuses_rows_that_know_its_outcomes(folds):
    chips, y = chips_of(), outcomes()
    table = pd.DataFrame({"income": y, "paid": np.arange(N_SITES) % 2, "village": y.index})
    study = Study(table, outcome="income", treatment="paid", site="village")
    encoder = quick().fit(chips, y)
    for rows in (encoder.transform(chips), encoder.predict(chips).to_frame("guess")):
        with pytest.raises(LeakageError, match=r"outcomes of 30 of its 30 sites.*`cross_predict`"):
            study.join(rows)
    joined = study.join(encoder.cross_predict(chips, y, folds).to_frame("guess"))
    assert joined.embedding_columns == ("guess",)
    assert len(study.join(encoder.cross_fit_transform(chips, y, folds)).embedding_columns) == 128


def test_folds_that_split_clusters_are_refused(folds):
    y = outcomes().to_frame().assign(cluster=np.arange(N_SITES) // 10)
    with pytest.raises(LeakageError, match=r"3 of 3 are in several folds: 0, 1, 2"):
        quick().cross_predict(chips_of(), y, folds)


def test_bad_folds(folds):
    chips, y = chips_of(), outcomes()
    with pytest.raises(AlignmentError, match=r"2 of 30 have none: 100, 101"):
        quick().cross_predict(chips, y, folds[2:])
    with pytest.raises(TypeError, match=r"Series of fold labels.*got ndarray"):
        quick().cross_predict(chips, y, folds.to_numpy())
    with pytest.raises(ValueError, match=r"at least two labels; got 'a'"):
        quick().cross_predict(chips, y, folds.map(lambda _: "a"))


def test_folds_have_checkpoints_of_their_own(tmp_path, folds):
    settings = TrainingSettings(n_epochs=2, checkpoint=tmp_path / "state")
    encoder = TrainedEncoder("kernel_max", training=settings, random_state=0)
    one = encoder.cross_predict(chips_of(), outcomes(), folds)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"state.fold{k}" for k in range(3)]
    pd.testing.assert_series_equal(encoder.cross_predict(chips_of(), outcomes(), folds), one)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "y", "error", "message"),
    [
        ({}, None, TypeError, r"`y` must be a Series indexed by site.*got NoneType"),
        ({}, outcomes() * 0, ValueError, r"'income' must have more than one value.*have 1 values"),
        ({"task": "binary"}, outcomes(), ValueError, r"'income' must have 0 and 1 for a binary"),
        ({"task": "ranking"}, outcomes(), ValueError, r"`task` must be one of.*got 'ranking'"),
        ({"times": "max"}, outcomes(), ValueError, r"`times` must be one of.*got 'max'"),
        ({"network": "resnet"}, outcomes(), ValueError, r"`network` must be one of.*got 'resnet'"),
        ({"network": lambda n_bands: n_bands}, outcomes(), TypeError, "`n_features`.*int has none"),
        ({"device": "tpu"}, outcomes(), ValueError, r"'cpu' or 'cuda'.*got 'tpu'"),
    ],
    ids=["no y", "constant", "not binary", "task", "times", "network", "module", "device"],
)
def test_bad_input(settings, y, error, message):
    with pytest.raises(error, match=message):
        quick(**settings).fit(chips_of(), y)
