import numpy as np
import pandas as pd
import pytest

from terracausal.encoders import BandStatisticsEncoder, RandomConvEncoder
from terracausal.encoders.scales import MultiScaleEncoder
from terracausal.encoders.sequences import SequenceEncoder
from terracausal.imagery import Chips, open_chips
from terracausal.imagery.cropping import centre_crop, crop_pixels

BANDS = ["red", "nir"]
STATISTICS = BandStatisticsEncoder(quantiles=())


def images(n_sites=10, n_times=1, size=(12, 15), seed=0):
    pixels = np.random.default_rng(seed).gamma(3, 20, size=(n_sites, n_times, 2, *size))
    return pixels.astype(np.float32)


def chips_of(pixels, **more):
    return Chips.from_arrays(pixels, sites=list("abcdefghij")[: len(pixels)], bands=BANDS, **more)


@pytest.mark.parametrize(
    ("height", "width", "size_px", "rows", "columns"),
    [
        (12, 15, 4, (4, 8), (5, 9)),
        (12, 15, 5, (3, 8), (5, 10)),
        (12, 15, 12, (0, 12), (1, 13)),
        (3, 3, 1, (1, 2), (1, 2)),
        (4, 4, 1, (1, 2), (1, 2)),  # half a pixel towards the first row and column
    ],
)
def test_crops_are_centred_to_half_a_pixel(height, width, size_px, rows, columns):
    image = np.arange(height * width, dtype=np.float32).reshape(height, width)
    found = crop_pixels(image, size_px)
    np.testing.assert_array_equal(found, image[slice(*rows), slice(*columns)])
    for (first, last), length in ((rows, height), (columns, width)):
        assert 0 <= length / 2 - (first + last) / 2 <= 0.5


def test_centre_crop_is_lazy_and_keeps_what_is_known():
    sites = pd.DataFrame({"lon": [33.0, 33.1], "lat": [1.0, 1.0]}, index=["a", "b"])
    pixels = images(2, 3)
    pixels[0, 1, :, 4:8, 5:9] = np.nan  # nothing of this date in the centre
    days = ["2001-01-01", "2002-01-01", "2003-01-01"]
    chips = Chips.from_arrays(
        pixels, sites=sites, bands=BANDS, times=days, crs="EPSG:32636", resolution_m=30
    )
    crop = centre_crop(chips, 4)
    assert (crop.size_px, crop.n_times, crop.bands) == ((4, 4), 3, ("red", "nir"))
    assert (crop.crs, crop.resolution_m) == (chips.crs, 30)
    assert crop.times.equals(chips.times)
    for site in "ab":
        np.testing.assert_array_equal(crop[site], chips[site][..., 4:8, 5:9])
    assert crop.manifest["status"].tolist() == ["ok", "no data", "ok", "ok", "ok", "ok"]
    assert crop.manifest["offset_m"].equals(chips.manifest["offset_m"])
    assert chips.manifest["status"].tolist()[1] == "partial"
    some = crop.select(["b"], bands=["nir"], times=slice("2002", "2003"))
    np.testing.assert_array_equal(some["b"], chips["b"][1:, [1], 4:8, 5:9])
    assert centre_crop(crop, 4) is crop
    assert centre_crop(crop, 2).size_px == (2, 2)


def test_a_crop_of_a_store_is_written_and_read_back(tmp_path):
    chips = chips_of(images(4))
    chips.write(tmp_path / "whole.zarr")
    crop = centre_crop(open_chips(tmp_path / "whole.zarr"), 5)
    crop.write(tmp_path / "crop.zarr")
    again = open_chips(tmp_path / "crop.zarr")
    for site in chips:
        np.testing.assert_array_equal(again[site], chips[site][..., 3:8, 5:10])


@pytest.mark.parametrize("size_px", [13, 16])
def test_crops_larger_than_the_chips_are_refused_with_both_sizes(size_px):
    chips = chips_of(images())
    message = f"{size_px} x {size_px} px must fit into the chips; these have 12 x 15 px"
    with pytest.raises(ValueError, match=message):
        centre_crop(chips, size_px)
    with pytest.raises(ValueError, match=message):
        MultiScaleEncoder(STATISTICS, sizes_px=(4, size_px)).fit(chips)
    fitted = MultiScaleEncoder(STATISTICS, sizes_px=(4, size_px)).fit(
        chips_of(images(size=(20, 20)))
    )
    with pytest.raises(ValueError, match=message):
        fitted.transform(chips)


def test_columns_are_those_of_each_crop():
    chips = chips_of(images(n_times=2))
    inner = RandomConvEncoder(n_features=12, random_state=0)
    table = MultiScaleEncoder(inner, sizes_px=(12, 5)).fit_transform(chips)
    for size in (12, 5):
        alone = RandomConvEncoder(n_features=12, random_state=0).fit_transform(
            centre_crop(chips, size)
        )
        part = table[[f"px{size:03d}_{name}" for name in alone.columns]]
        np.testing.assert_array_equal(part, alone)
    assert list(table.columns[[0, 12]]) == ["px012_rcf_000", "px005_rcf_000"]
    scales = table.attrs["encoder"]["scales"]
    assert scales["5"]["filters_digest"] != scales["12"]["filters_digest"]


def test_equal_width_is_the_components_of_all_scales():
    chips = chips_of(images())
    whole = MultiScaleEncoder(STATISTICS, sizes_px=(4, 8, 12)).fit_transform(chips)
    table = MultiScaleEncoder(STATISTICS, sizes_px=(4, 8, 12), equal_width=True).fit_transform(
        chips
    )
    assert whole.shape == (10, 12)
    assert list(table.columns) == [f"pc_{k:03d}" for k in range(4)]
    standard = (whole - whole.mean()) / whole.std(ddof=0)
    left, singular, _ = np.linalg.svd(standard.to_numpy(), full_matrices=False)
    np.testing.assert_allclose(np.abs(table), np.abs(left * singular)[:, :4], rtol=1e-8, atol=1e-10)
    # learned on the fitted sites alone
    fitted = MultiScaleEncoder(STATISTICS, sizes_px=(4, 8, 12), equal_width=True).fit(chips)
    pd.testing.assert_frame_equal(fitted.transform(chips.select(["b"])), table.loc[["b"]])


def test_a_centre_without_pixels_is_named():
    pixels = images()
    pixels[3, :, :, 4:8, 5:9] = np.nan
    encoder = MultiScaleEncoder(STATISTICS, sizes_px=(4, 12)).fit(chips_of(images()))
    with pytest.raises(ValueError, match=r"centre crops of 4, 12 px; sites 'd' have none"):
        encoder.transform(chips_of(pixels))


def test_scales_and_sequences_nest_both_ways():
    pixels = images(n_times=3)
    pixels[1, 0] = np.nan
    chips = chips_of(pixels, times=["2001-01-01", "2002-01-01", "2004-01-01"])
    inside = SequenceEncoder(MultiScaleEncoder(STATISTICS, sizes_px=(4, 12)), aggregate="trend")
    outside = MultiScaleEncoder(SequenceEncoder(STATISTICS, aggregate="trend"), sizes_px=(4, 12))
    first, second = inside.fit_transform(chips), outside.fit_transform(chips)
    assert set(first.columns) == set(second.columns)
    pd.testing.assert_frame_equal(first, second[first.columns], check_exact=True)


def test_wrong_settings_are_refused():
    chips = chips_of(images())
    for sizes in ((), (4, 4)):
        with pytest.raises(ValueError, match="one size or more, each once; got"):
            MultiScaleEncoder(STATISTICS, sizes_px=sizes).fit(chips)
    with pytest.raises(ValueError, match="`sizes_px` must be an integer of at least 1; got 0"):
        MultiScaleEncoder(STATISTICS, sizes_px=(0, 4)).fit(chips)
    with pytest.raises(ValueError, match="got also `n_components` = 3"):
        MultiScaleEncoder(STATISTICS, (4, 8), equal_width=True, n_components=3).fit(chips)
    with pytest.raises(ValueError, match=r"the 4 columns of one scale, .* sites than that; got 4"):
        MultiScaleEncoder(STATISTICS, (4, 8), equal_width=True).fit(chips_of(images(4)))
    with pytest.raises(TypeError, match="must be an encoder of chips; got str"):
        MultiScaleEncoder("resnet").fit(chips)
