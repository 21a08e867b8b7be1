import numpy as np
import pytest

from terracausal._foundation.errors import BandError
from terracausal.imagery.masks import (
    LANDSAT_BITS,
    LANDSAT_CONFIDENCES,
    SCENE_CLASSES,
    CloudProbabilityMask,
    LandsatMask,
    SceneClassMask,
    apply_mask,
    cloud_share,
    confidence,
)

# values of QA_PIXEL and what they mean, from table 6-3 of the product guide
GUIDE = {
    1: {"fill"},
    21824: set(),  # clear
    21826: {"dilated_cloud"},
    21888: set(),  # water
    22280: {"cloud"},
    23888: {"cloud_shadow"},
    23952: {"cloud_shadow"},  # over water
    24344: {"cloud", "cloud_shadow"},
    24472: {"cloud", "cloud_shadow"},  # over water
    30048: set(),  # snow
    54596: {"cirrus"},
    55052: {"cirrus", "cloud"},
}


def as_pixels(values):
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("value", sorted(GUIDE))
@pytest.mark.parametrize("flag", ["fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow"])
def test_landsat_flags_against_the_product_guide(value, flag):
    found = bool(LandsatMask(reject=(flag,)).rejects(as_pixels([value]))[0])
    assert found == (flag in GUIDE[value])


def test_landsat_bits_one_by_one():
    names = ("fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow", "snow", "clear", "water")
    assert tuple(LANDSAT_BITS) == names
    for bit, flag in enumerate(names):
        only = LandsatMask(reject=(flag,))
        words = as_pixels([1 << k for k in range(16)])
        assert np.flatnonzero(only.rejects(words)).tolist() == [bit]
    for name, bit in LANDSAT_CONFIDENCES.items():
        words = as_pixels([level << bit for level in range(4)] + [np.nan])
        np.testing.assert_array_equal(confidence(words, name), [0, 1, 2, 3, np.nan])
        others = as_pixels([0xFFFF & ~(3 << bit)])
        assert confidence(others, name).tolist() == [0]


def test_landsat_clouds_leave_out_fill_and_count_missing_as_unusable():
    mask = LandsatMask()
    values = as_pixels([1, 21824, 22280, 23888, 30048, np.nan])
    assert mask.rejects(values).tolist() == [True, False, True, True, False, True]
    assert mask.clouds(values).tolist() == [False, False, True, True, False, False]
    assert not mask.clouds(as_pixels([1 | 8])).any()  # fill shows no cloud, whatever else is set
    assert LandsatMask(reject=("snow",)).rejects(values).tolist() == [
        False, False, False, False, True, True,
    ]  # fmt: skip


def test_scene_classes():
    every = as_pixels([*range(12), np.nan])
    rejected = SceneClassMask().rejects(every)
    assert np.flatnonzero(rejected).tolist() == [0, 1, 3, 8, 9, 10, 12]
    assert np.flatnonzero(SceneClassMask().clouds(every)).tolist() == [3, 8, 9, 10]
    for name, number in SCENE_CLASSES.items():
        assert np.flatnonzero(SceneClassMask(reject=(name,)).rejects(every)).tolist() == [
            number,
            12,
        ]


def test_cloud_probability_in_both_units():
    percent = as_pixels([0, 39.9, 40, 100, np.nan])
    assert CloudProbabilityMask(40).rejects(percent).tolist() == [False, False, True, True, True]
    assert CloudProbabilityMask(0.4).rejects(percent / 100).tolist() == [
        False, False, True, True, True,
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"between 0 and 1; 3 of 4 pixels do not"):
        CloudProbabilityMask(0.4).rejects(percent)
    with pytest.raises(ValueError, match="got 0"):
        CloudProbabilityMask(0)


def test_apply_mask_hides_every_band_of_a_rejected_pixel():
    pixels = np.arange(12, dtype=np.float32).reshape(2, 3, 1, 2)
    pixels[:, 1] = [[[4, 9]], [[0, 5]]]
    masked = apply_mask(pixels, ["red", "SCL", "nir"], SceneClassMask())
    assert masked.shape == (2, 2, 1, 2)
    np.testing.assert_array_equal(
        masked, [[[[0, np.nan]], [[4, np.nan]]], [[[np.nan, 7]], [[np.nan, 11]]]]
    )
    assert pixels[0, 0, 0, 1] == 1  # the input stays as it was
    assert cloud_share(pixels, ["red", "SCL", "nir"], SceneClassMask()) == [0.5, 0.0]


def test_cloud_share_of_an_image_without_pixels():
    pixels = np.full((1, 2, 2, 2), np.nan, dtype=np.float32)
    assert np.isnan(cloud_share(pixels, ["red", "SCL"], SceneClassMask())).all()


def test_bad_masks_are_named():
    with pytest.raises(ValueError, match=r"got 'clouds'"):
        LandsatMask(reject=("clouds",))
    with pytest.raises(TypeError, match="the one text 'cloud'"):
        LandsatMask(reject="cloud")
    with pytest.raises(ValueError, match="one or more of 'no_data'"):
        SceneClassMask(reject=())
    pixels = np.ones((1, 2, 1, 1), dtype=np.float32)
    with pytest.raises(BandError, match=r"needs the band 'SCL'; the chips have 'red', 'qa'"):
        apply_mask(pixels, ["red", "qa"], SceneClassMask())
    with pytest.raises(BandError, match="no band besides the quality band 'SCL'"):
        apply_mask(pixels[:, :1], ["SCL"], SceneClassMask())
    with pytest.raises(TypeError, match="got str"):
        apply_mask(pixels, ["red", "SCL"], "SCL")


def test_quality_bands_that_were_resampled_are_refused():
    # bilinear between clear (21824) and cloud (22280) makes numbers that mean something else
    with pytest.raises(ValueError, match=r"1 of 3 pixels do not, for example 22052.5"):
        LandsatMask().rejects(as_pixels([21824, 22052.5, 22280]))
    with pytest.raises(ValueError, match=r"from 0 to 11; 1 of 2"):
        SceneClassMask().rejects(as_pixels([4, 12]))
