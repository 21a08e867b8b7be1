"""Checksums of encoders and chips: equal for equals, different for others, in every process."""

import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from terracausal.encoders.band_statistics import BandStatisticsEncoder
from terracausal.encoders.digests import digest_of
from terracausal.encoders.identity import chips_digest, encoder_digest
from terracausal.encoders.random_conv import RandomConvEncoder
from terracausal.imagery import Chips, open_chips, write_chips
from terracausal.imagery.places import site_table
from terracausal.imagery.records import ChipRecord


@dataclass
class Pair:
    first: object
    second: object


class Plain:
    def __init__(self, **state):
        self.__dict__.update(state)


ARRAY = np.arange(6.0).reshape(2, 3)
DIFFERENT = [
    None,
    0,
    1,
    1.0,
    True,
    "1",
    b"1",
    np.nan,
    (),
    (1,),
    (1, 2),
    ((1,), 2),
    (1, (2,)),
    {},
    {"a": 1},
    {"a": "1"},
    {"b": 1},
    {1},
    "ab",
    ("a", "b"),
    ("ab", ""),
    Path("a"),
    np.ones(1),
    ARRAY,
    ARRAY.T,
    ARRAY.astype(np.float32),
    np.nextafter(ARRAY, 9),
    np.array(["a", None], dtype=object),
    np.array("2001-01-01", dtype="datetime64[D]"),
    pd.Timestamp("2001-01-01"),
    pd.Timestamp("2001-01-02"),
    pd.Series([1, 2]),
    pd.Series([1, 2], index=[1, 2]),
    Pair(1, 2),
    Pair(2, 1),
    Plain(),
    Plain(a=1),
    Plain(a=2),
    np.mean,
    np.median,
    digest_of,
    RandomConvEncoder(),
    RandomConvEncoder(patch_px=5),
    RandomConvEncoder(random_state=0),
]


def test_different_values_have_different_digests():
    digests = [digest_of(value) for value in DIFFERENT]
    assert len(set(digests)) == len(digests)
    assert digests == [digest_of(pickle.loads(pickle.dumps(value))) for value in DIFFERENT]


def test_equal_values_have_equal_digests():
    for one, other in (
        ([1, (2, "a")], (1, [2, "a"])),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.float64(0.1), 0.1),
        (np.int64(3), 3),
        (ARRAY[::-1][::-1], ARRAY),
        (np.asfortranarray(ARRAY), ARRAY),
        ({"batch_size": 1, "a": [{"n_jobs": 3}]}, {"batch_size": 2, "a": [{"n_jobs": 4}]}),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (RandomConvEncoder(batch_size=1), RandomConvEncoder(batch_size=2)),
    ):
        assert digest_of(one) == digest_of(other)


def test_networks_and_tensors_are_told_by_their_numbers():
    torch = pytest.importorskip("torch")

    def network(value, bias=True):
        made = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=bias))
        for parameter in made.parameters():
            torch.nn.init.constant_(parameter, value)
        return made

    assert digest_of(network(1.0)) == digest_of(pickle.loads(pickle.dumps(network(1.0))))
    tensor = torch.arange(4.0)
    different = [
        network(1.0),
        network(1.0 + 1e-6),
        network(1.0, bias=False),
        tensor,
        tensor.reshape(2, 2),
        tensor.to(torch.bfloat16),
        tensor.to(torch.bfloat16) + 1,
        torch.tensor(1.0),
    ]
    assert len({digest_of(value) for value in different}) == len(different)
    assert digest_of(tensor.reshape(2, 2).T.contiguous()) == digest_of(tensor.reshape(2, 2).T)


def test_a_function_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"the function '.*<lambda>' has no name of its own"):
        digest_of(Pair(lambda x: x, 1))


def test_what_an_encoder_keeps_for_speed_does_not_matter():
    chips = chips_of(ARRAY)
    encoder = RandomConvEncoder(n_features=4, patch_px=1, random_state=0).fit(chips)
    before = encoder_digest(encoder)
    encoder._cached = object()
    assert encoder_digest(encoder) == before
    encoder.bias_ = encoder.bias_ + np.float32(1e-3)
    assert encoder_digest(encoder) != before


def test_digests_are_the_same_in_another_process():
    script = """
import numpy as np
from terracausal.encoders.band_statistics import BandStatisticsEncoder
from terracausal.encoders.identity import encoder_digest
from terracausal.encoders.digests import digest_of
from terracausal.imagery import Chips
chips = Chips.from_arrays(np.ones((1, 1, 1, 2, 2)), sites=["a"], bands=["red"])
print(digest_of({"b", "a", "c"}), encoder_digest(BandStatisticsEncoder().fit(chips)))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={}
    )
    chips = Chips.from_arrays(np.ones((1, 1, 1, 2, 2)), sites=["a"], bands=["red"])
    here = [digest_of({"c", "a", "b"}), encoder_digest(BandStatisticsEncoder().fit(chips))]
    assert run.stdout.split() == here


# -- chips -------------------------------------------------------------------------------------


def chips_of(array, keys=("a", "b"), bands=("red", "nir", "swir"), **options):
    sites = pd.DataFrame({"lon": options.pop("lon", 32.0), "lat": 1.0}, index=list(keys))
    return Chips.from_arrays(array.reshape(2, 1, -1, 1, 1), sites=sites, bands=bands, **options)


def test_equal_chips_are_equal_wherever_they_lie(tmp_path):
    chips = chips_of(ARRAY, times=["2001-01-01"], crs=32636, resolution_m=30)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=1)
    assert chips_digest(open_chips(tmp_path / "x.zarr")) == chips_digest(chips)
    assert chips_digest(chips.select(["b", "a"])) == chips_digest(chips)
    turned = chips.select(bands=["swir", "red"]).select(bands=["red", "swir"])
    direct = chips_of(ARRAY[:, [0, 2]], bands=("red", "swir"), times=["2001-01-01"], crs=32636,
                      resolution_m=30)  # fmt: skip
    assert chips_digest(turned) == chips_digest(direct)


def test_other_chips_have_other_digests():
    holed = np.where(ARRAY == 4, np.nan, ARRAY)
    made = [
        chips_of(ARRAY),
        chips_of(ARRAY[::-1]),
        chips_of(ARRAY + 0.25),
        chips_of(holed),
        chips_of(ARRAY, keys=("a", "c")),
        chips_of(ARRAY, keys=(1, 2)),
        chips_of(ARRAY, keys=("1", "2")),
        chips_of(ARRAY, bands=("red", "nir", "b3")),
        chips_of(ARRAY, times=["2001-01-01"]),
        chips_of(ARRAY, times=["2001-01-02"]),
        chips_of(ARRAY, lon=32.5),
        chips_of(ARRAY, crs=32636),
        chips_of(ARRAY, resolution_m=30),
        chips_of(ARRAY).select(["a"]),
        Chips.from_arrays(ARRAY.reshape(2, 1, 3, 1, 1), sites=["a", "b"], bands=("r", "n", "s")),
    ]
    assert len({chips_digest(chips) for chips in made}) == len(made)


def test_pixels_are_read_where_no_checksum_is_known():
    class Reader:
        def __init__(self, array):
            self.array = array

        def read(self, site):
            return self.array["ab".index(site)].reshape(1, 3, 1, 1).astype(np.float32)

    def lazily(array):
        records = [ChipRecord(site, None, "ok", 0.0) for site in "ab"]
        table = site_table(pd.DataFrame({"lon": 32.0, "lat": 1.0}, index=list("ab")))
        return Chips(Reader(array), table, records, ("red", "nir", "swir"), (1, 1))

    assert chips_digest(lazily(ARRAY)) == chips_digest(chips_of(ARRAY))
    assert chips_digest(lazily(ARRAY + 1)) == chips_digest(chips_of(ARRAY + 1))
