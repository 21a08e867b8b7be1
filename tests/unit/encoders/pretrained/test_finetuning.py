"""What goes on learning in a pretrained network, and what does not."""

import pickle

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import BandError, LeakageError
from terracausal.encoders import Finetuning, PretrainedEncoder, TrainedEncoder, TrainingSettings
from terracausal.imagery import Chips
from terracausal.nuisance import ImageNuisanceLearner
from terracausal.study import Study

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="the extra 'pretrained' is missing")

NAMES = ("vit-base-in21k", "clip-rsicd-v2", "swin-base")
RGB = ("red", "green", "blue")
QUICK = TrainingSettings(n_epochs=1, learning_rate=0.01, batch_size=8)
N = 12


@pytest.fixture(scope="module")
def chips():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(N, 1, 3, 16, 16)).astype(np.float32)
    return Chips.from_arrays(pixels, sites=range(N), bands=RGB)


@pytest.fixture
def encoder(checkpoints, chips):
    def make(name="vit-base-in21k"):
        return PretrainedEncoder(name, units="uint8", path=str(checkpoints(name))).fit(chips)

    return make


@pytest.fixture
def study(rng):
    table = pd.DataFrame(
        {"y": rng.normal(size=2 * N), "w": [0, 1] * N, "site": np.arange(2 * N) // 2}
    )
    return Study(table, outcome="y", treatment="w", site="site")


def learned(network):
    return {name for name, p in network.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", NAMES)
def test_untrained_it_gives_the_rows_of_its_encoder(encoder, chips, name):
    pytest.importorskip("peft")
    fitted = encoder(name)
    images = torch.from_numpy(
        chips.to_arrays() if hasattr(chips, "to_arrays") else pixels_of(chips)
    )
    expected = fitted.encode(chips).to_numpy()
    for layers in ("none", "last", "lora"):
        network = Finetuning(fitted, layers, n_blocks=1, rank=2)(3).eval()
        with torch.no_grad():
            np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-4)


def pixels_of(chips):
    return np.stack([chips[site][0] for site in chips.keys])


def test_what_learns(encoder):
    pytest.importorskip("peft")
    fitted = encoder()
    assert not learned(Finetuning(fitted, "none")(3))
    last = learned(Finetuning(fitted, "last", n_blocks=1)(3))
    assert any(".1." in name for name in last)
    assert not any(".0." in name or "embeddings" in name for name in last)
    low_rank = learned(Finetuning(fitted, "lora", rank=2)(3))
    assert low_rank
    assert all("lora_" in name for name in low_rank)


@pytest.mark.parametrize("layers", ["none", "last", "lora"])
def test_training_moves_what_learns_and_nothing_else(encoder, chips, study, layers):
    pytest.importorskip("peft")
    tuning = Finetuning(encoder(), layers, n_blocks=1, rank=2)
    before = dict(tuning(3).named_parameters())
    learner = ImageNuisanceLearner(tuning, training=QUICK, random_state=0)
    fitted = learner.fit(study, chips)
    after = dict(fitted.networks_[0].sites.images.named_parameters())
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    allowed = learned(tuning(3))
    assert moved <= allowed
    assert bool(moved) == bool(allowed)
    again = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(again.predict(study, chips), fitted.predict(study, chips))


def test_folds_start_from_the_pretrained_weights(encoder, chips, study):
    tuning = Finetuning(encoder(), "last", n_blocks=1)
    learner = ImageNuisanceLearner(tuning, training=QUICK, random_state=0)
    folds = study.folds(2, random_state=0)
    one, two = (learner.cross_fit(study, chips, folds).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert "last 1 blocks" in learner.cross_fit(study, chips, folds).learners["propensity"]


def test_embeddings_that_know_outcomes_are_refused_by_a_study(encoder, chips, study):
    tuned = TrainedEncoder(Finetuning(encoder(), "last"), training=QUICK, random_state=0)
    outcome = study.outcome.groupby(study.sites.to_numpy()).mean().rename("y")
    rows = tuned.fit(chips, outcome).transform(chips)
    with pytest.raises(LeakageError, match=r"trained on outcomes of 12 of its 12 sites"):
        study.join(rows)


def test_bad_input(encoder, chips, study):
    fitted = encoder()
    with pytest.raises(ValueError, match="'lora', 'last', 'none'; got 'all'"):
        Finetuning(fitted, "all")
    with pytest.raises(BandError, match=r"fitted on 3 bands.*these chips have 2"):
        Finetuning(fitted)(2)
    turned = chips.select(bands=["blue", "green", "red"])
    with pytest.raises(BandError, match=r"these chips have 'blue', 'green', 'red'"):
        ImageNuisanceLearner(Finetuning(fitted), training=QUICK).fit(study, turned)
    with pytest.raises(ValueError, match="has 2 blocks; `n_blocks` is 3"):
        Finetuning(fitted, "last", n_blocks=3)(3)
    with pytest.raises(ValueError, match="reads sequences of 16 images"):
        Finetuning(encoder("videomae-base"))(3)
