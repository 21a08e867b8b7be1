"""Training: what enters a gradient, what stops it, and that it can be killed and repeated."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from terracausal._foundation.errors import AlignmentError
from terracausal.encoders.networks import (
    ConvNetwork,
    KernelMaxNetwork,
    SiteNetwork,
    TrainingSettings,
    UnitTargets,
    train_network,
)
from terracausal.encoders.networks import runs as runs_module
from terracausal.encoders.networks.augmentation import turn_and_mirror
from terracausal.encoders.networks.losses import cross_entropy, squared_error
from terracausal.encoders.networks.targets import choose_held_out
from terracausal.imagery import Chips

N_SITES = 40
QUICK = {"n_epochs": 4, "batch_size": 8, "learning_rate": 0.02}


def chips_of(n_sites=N_SITES, seed=0, order=None):
    pixels = np.random.default_rng(seed).normal(size=(n_sites, 1, 2, 6, 6))
    pixels[:, 0, 0, 0, 0] = np.arange(n_sites)  # tells sites apart
    order = np.arange(n_sites) if order is None else order
    return Chips.from_arrays(pixels[order], sites=np.arange(n_sites)[order], bands=["a", "b"])


def outcomes(n_sites=N_SITES, seed=0):
    return pd.Series(np.random.default_rng(seed).normal(size=n_sites), name="y")


def make(dropout=0.0):
    images = nn.Sequential(KernelMaxNetwork(2, 2, n_filters=3), nn.Dropout(dropout))
    images.n_features = 3
    return SiteNetwork(images, 1, torch.zeros(2), torch.ones(2))


def train(y=None, chips=None, loss=squared_error, random_state=0, network=make, **settings):
    targets = UnitTargets.of(outcomes() if y is None else y)
    chips = chips_of() if chips is None else chips
    how = TrainingSettings(**{**QUICK, **settings})
    return train_network(network, chips, targets, loss, how, random_state=random_state)


def parameters(trained):
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def equal(one, other):
    one, other = parameters(one), parameters(other)
    return all(torch.equal(one[name], other[name]) for name in one)


# -- randomness ------------------------------------------------------------------------------------


def test_same_seed_same_numbers_and_other_seed_other_numbers():
    assert equal(train(random_state=0), train(random_state=0))
    assert not equal(train(random_state=0), train(random_state=1))
    assert not equal(train(random_state=None), train(random_state=None))


def test_global_streams_are_neither_read_nor_moved():
    def drop():
        return make(dropout=0.5)

    before = torch.get_rng_state()
    one = train(network=drop)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert equal(train(network=drop), one)


def test_order_of_sites_and_units_changes_no_number():
    order = np.random.default_rng(1).permutation(N_SITES)
    shuffled = train(outcomes().iloc[order[::-1]], chips_of(order=order))
    assert equal(shuffled, train())


def test_restarts_differ_and_the_lowest_held_out_loss_is_kept():
    trained = train(n_restarts=3)
    assert len(set(trained.restart_losses)) == 3
    assert trained.held_out_loss == min(trained.restart_losses)
    assert trained.restart_losses[0] == train().held_out_loss
    assert trained.held_out_sites.equals(train().held_out_sites)


# -- kill and go on --------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.mark.parametrize("random_state", [0, None])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_killed_and_resumed_is_as_if_nothing_had_happened(
    tmp_path, monkeypatch, random_state, schedule
):
    how = {"schedule": schedule, "n_epochs": 5, "patience": 2, "n_restarts": 2}
    path = tmp_path / "deep" / "state.pt"
    plain = runs_module.TrainingRun._epoch
    calls = []

    def killed(self, epoch):
        calls.append(epoch)
        if len(calls) == 3:
            raise KilledError
        return plain(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(runs_module.TrainingRun, "_epoch", killed)
        with pytest.raises(KilledError):
            train(checkpoint=path, random_state=random_state, **how)
    seed = torch.load(path, weights_only=True)["seed"]
    resumed = train(checkpoint=path, random_state=random_state, **how)
    assert torch.load(path, weights_only=True)["seed"] == seed
    if random_state is not None:
        whole = train(random_state=random_state, **how)
        assert equal(resumed, whole)
        pd.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)
    # what is finished is not trained again
    monkeypatch.setattr(runs_module.TrainingRun, "_epoch", killed)
    calls[:] = [0, 0]
    assert equal(train(checkpoint=path, random_state=random_state, **how), resumed)
    assert sorted(p.name for p in path.parent.iterdir()) == ["state.pt", "state.pt.1"]


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.5},
        {"batch_size": 16},
        {"random_state": 1},
        {"y": outcomes(seed=1)},
        {"chips": chips_of().select(bands=["b", "a"])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path, change):
    path = tmp_path / "state.pt"
    train(checkpoint=path)
    with pytest.raises(ValueError, match=r"state\.pt belongs to another training"):
        train(checkpoint=path, **change)


def test_damaged_checkpoints_are_refused_and_never_unpickled(tmp_path):
    path = tmp_path / "state.pt"
    train(checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"could not be read as a checkpoint"):
        train(checkpoint=path)
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (ran.touch, ())

    torch.save({"fingerprint": Trap()}, path)
    with pytest.raises(OSError, match="UnpicklingError"):
        train(checkpoint=path)
    assert not ran.exists()


# -- held-out sites --------------------------------------------------------------------------------


class Spy(SiteNetwork):
    """Notes which sites came through while gradients were on."""

    def __init__(self):
        images = KernelMaxNetwork(2, 2, n_filters=3)
        super().__init__(images, 1, torch.zeros(2), torch.ones(2))
        self.seen = {True: set(), False: set()}

    def forward(self, pixels, days):
        here = pixels[:, 0, 0].amax(dim=(1, 2)).int().tolist()
        self.seen[torch.is_grad_enabled()].update(here)
        return super().forward(pixels, days)


@pytest.mark.parametrize("clustered", [False, True])
def test_held_out_sites_never_enter_a_gradient(clustered):
    table = pd.DataFrame({"site": np.repeat(np.arange(N_SITES), 2)})
    table["y"] = np.random.default_rng(0).normal(size=len(table))
    if clustered:
        table["cluster"] = table["site"] // 5
    chips = Chips.from_arrays(
        np.broadcast_to(np.arange(N_SITES)[:, None, None, None, None], (N_SITES, 1, 2, 6, 6)),
        sites=range(N_SITES),
        bands=["a", "b"],
    )
    trained = train(table, chips, network=Spy)
    held_out = set(trained.held_out_sites)
    assert len(held_out) == (10 if clustered else 8)
    assert trained.network.seen[True] == set(range(N_SITES)) - held_out
    assert trained.network.seen[False] == set(range(N_SITES))
    if clustered:
        assert len({site // 5 for site in held_out}) == 2


def test_clusters_that_share_sites_are_held_out_together():
    table = pd.DataFrame({"site": list("aabbcd"), "cluster": [1, 2, 2, 3, 3, 4], "y": range(6)})
    assert UnitTargets.of(table).groups().tolist() == [0, 0, 0, 1]


def test_held_out_share_is_met_by_whole_groups(rng):
    groups = rng.integers(0, 30, 300)
    held_out = choose_held_out(groups, 0.2, rng)
    assert 60 <= held_out.sum() < 60 + np.bincount(groups).max()
    assert not set(groups[held_out]) & set(groups[~held_out])


def test_one_group_cannot_be_held_out():
    table = pd.DataFrame({"site": range(N_SITES), "cluster": 1, "y": outcomes()})
    with pytest.raises(ValueError, match="the 40 sites are one group"):
        train(table)
    assert np.isnan(train(table, held_out_share=0).held_out_loss)


def test_training_stops_when_the_held_out_loss_does_not_fall():
    history = train(n_epochs=200, patience=3, learning_rate=0.1).history
    losses = history["held_out_loss"].to_numpy()
    assert len(losses) - 1 - losses.argmin() == 3


def test_parameters_are_those_of_the_best_epoch():
    y = outcomes()
    trained = train(y, n_epochs=30, learning_rate=0.1)
    chips = chips_of()
    held_out = trained.held_out_sites
    pixels = torch.from_numpy(np.stack([chips[site] for site in held_out]))
    found = trained.network(pixels, torch.zeros(len(held_out), 1))[:, 0]
    loss = np.square(found.numpy() - y[held_out].to_numpy()).mean()
    # float32 losses of order 1
    assert loss == pytest.approx(trained.history["held_out_loss"].min(), rel=1e-5)


# -- the loss --------------------------------------------------------------------------------------


def first_gradient(y, batch_size=N_SITES, loss=squared_error):
    """Return the parameters after one step of gradient descent from the same start."""
    how = {"n_epochs": 1, "batch_size": batch_size, "held_out_share": 0, "augment": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", lambda p, lr, weight_decay: torch.optim.SGD(p, lr))
        return parameters(train(y, loss=loss, max_gradient_norm=1e9, schedule="constant", **how))


def test_weight_is_duplication():
    table = pd.DataFrame({"site": range(N_SITES), "y": outcomes(), "weight": 1.0})
    table.loc[:4, "weight"] = 3.0
    doubled = pd.concat([table, table[:5], table[:5]], ignore_index=True)
    one, other = first_gradient(table), first_gradient(doubled.drop(columns="weight"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6)


def test_units_of_a_site_count_each():
    table = pd.DataFrame({"site": np.repeat(range(N_SITES), 2), "y": np.repeat(outcomes(), 2)})
    table["y"] += np.tile([-1.0, 1.0], N_SITES)
    # squared errors around a mean have the gradient of that of the mean
    one, other = first_gradient(table.reset_index(drop=True)), first_gradient(outcomes())
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)


def test_several_heads_with_a_loss_of_their_own():
    """An outcome surface for each arm and a propensity, from targets (y, w)."""
    w = pd.Series(np.arange(N_SITES) % 2.0)
    y = pd.DataFrame({"y": 2 + 3 * w, "w": w})

    def loss(outputs, targets):
        treated = targets[:, 1:]
        factual = torch.where(treated == 1, outputs[:, 1:2], outputs[:, :1])
        return squared_error(factual, targets[:, :1]) + cross_entropy(outputs[:, 2:], treated)

    def three():
        images = KernelMaxNetwork(2, 2, n_filters=1)
        return SiteNetwork(images, 3, torch.zeros(2), torch.full((2,), 1e6))  # reads nothing

    trained = train(
        y, loss=loss, network=three, n_epochs=100, learning_rate=0.1, schedule="plateau"
    )
    pixels = torch.from_numpy(np.stack([chips_of()[site] for site in range(5)]))
    found = trained.network(pixels, torch.zeros(5, 1)).mean(dim=0)
    # least squares of constants are exact; half of the held-out 8 are treated up to chance, so
    # the share of the 32 others is within 4 units of a half, and its log-odds within 0.52
    assert found[:2].tolist() == pytest.approx([2, 5], abs=0.1)
    assert abs(found[2]) < 0.6


def test_a_loss_that_is_averaged_already_is_refused():
    with pytest.raises(ValueError, match=r"one loss per unit, of shape \(8,\); got \(\)"):
        train(loss=lambda outputs, targets: (outputs - targets).square().mean())


def test_a_loss_that_is_not_finite_names_its_step_and_learning_rate():
    def loss(outputs, targets):
        return squared_error(outputs, targets) / (targets[:, 0] != 0)

    y = outcomes()
    y[:] = 1.0
    y[:8] = 0.0
    with pytest.raises(
        FloatingPointError, match=r"became (inf|nan) in step \d of 4 of epoch 1, at learning rate 0"
    ):
        train(y, loss=loss, batch_size=8)


# -- memory and devices ----------------------------------------------------------------------------


class Hungry(SiteNetwork):
    most = 4

    def __init__(self):
        super().__init__(ConvNetwork(2, (3,)), 1, torch.zeros(2), torch.ones(2))

    def forward(self, pixels, days):
        if len(pixels) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().forward(pixels, days)


def test_out_of_memory_halves_the_parts_and_not_the_step(monkeypatch):
    with pytest.warns(RuntimeWarning, match=r"does not hold 8 sites at once; going on with 4"):
        small = train(network=Hungry)
    monkeypatch.setattr(Hungry, "most", 1000)
    whole = train(network=Hungry)
    for name, value in parameters(whole).items():
        # the same sums in another order, through 16 steps of float32
        torch.testing.assert_close(parameters(small)[name], value, rtol=1e-4, atol=1e-5)


def test_a_site_that_does_not_fit_is_an_error(monkeypatch):
    monkeypatch.setattr(Hungry, "most", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(MemoryError, match="does not hold the network and one site"):
            train(network=Hungry)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_not_there():
    targets = UnitTargets.of(outcomes())
    with pytest.raises(RuntimeError, match=r"`device='cuda'` asks for a GPU"):
        train_network(make, chips_of(), targets, squared_error, device="cuda")
    with pytest.raises(ValueError, match=r"'cpu' or 'cuda'.*got 'tpu'"):
        train_network(make, chips_of(), targets, squared_error, device="tpu")


# -- bad input -------------------------------------------------------------------------------------


def test_sites_without_chips_are_named():
    y = pd.concat([outcomes(), pd.Series([1.0, 2.0], index=[77, 99], name="y")])
    with pytest.raises(AlignmentError, match=r"2 of 42 sites have none: 77, 99"):
        train(y)


def test_sites_that_cannot_be_read_are_named_before_training():
    pixels = np.random.default_rng(0).normal(size=(N_SITES, 1, 2, 6, 6))
    pixels[7, :, :, :, ::2] = np.nan
    chips = Chips.from_arrays(pixels, sites=range(N_SITES), bands=["a", "b"])
    with pytest.raises(ValueError, match=r"reads nothing in the chips of 1 of 40 sites: 7\."):
        train(chips=chips)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.zeros(N_SITES), TypeError, r"Series indexed by site.*got ndarray"),
        (outcomes().replace(outcomes()[3], np.nan), ValueError, r"1 of 40 values are NaN"),
        (pd.DataFrame({"site": [0, None], "y": [1.0, 2]}), ValueError, "1 of 2 have none"),
        (pd.DataFrame({"site": [0, 1]}), ValueError, "at least one column"),
        (
            pd.DataFrame({"y": [0.0, 1], "weight": [1.0, -2]}),
            ValueError,
            r"the smallest is -2\.0",
        ),
    ],
    ids=["array", "NaN", "no site", "no outcome", "weight"],
)
def test_bad_outcomes(y, error, message):
    with pytest.raises(error, match=message):
        train(y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_epochs": 0}, "n_epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"schedule": "steps"}, "steps"),
        ({"held_out_share": 1.0}, "held_out_share"),
        ({"held_out_share": 0, "n_restarts": 2}, "Hold out some sites"),
        ({"weight_decay": -1}, "weight_decay"),
    ],
    ids=str,
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**settings)


# -- augmentation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "n_positions"), [((4, 4), 8), ((3, 5), 4)])
def test_augmentation_shows_every_position_and_changes_no_value(size, n_positions):
    site = torch.arange(float(2 * size[0] * size[1])).reshape(1, 2, 1, *size)
    moved = turn_and_mirror(site.expand(400, -1, -1, -1, -1), np.random.default_rng(0))
    # each of 8 positions is absent from 400 with chance (7/8)^400 < 1e-20
    assert len({tuple(one.flatten().tolist()) for one in moved}) == n_positions
    assert (moved.flatten(1).sort(dim=1).values == site.flatten()).all()
    # all times move alike
    torch.testing.assert_close(
        moved[:, 1] - moved[:, 0], torch.full_like(moved[:, 0], site[0, 0].numel())
    )


def test_networks_with_a_direction_are_not_turned(monkeypatch):
    turned = []

    def note(pixels, generator):
        turned.append(len(pixels))
        return pixels

    monkeypatch.setattr(runs_module, "turn_and_mirror", note)

    def oriented():
        return SiteNetwork(KernelMaxNetwork(2, 2), 1, torch.zeros(2), torch.ones(2))

    train(network=oriented)
    assert not turned
    train(network=oriented, augment=True)
    assert turned
    turned.clear()
    train()  # a network that says nothing
    assert turned
