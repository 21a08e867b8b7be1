import pytest

from terracausal.imagery.calibration import (
    Scaling,
    band_scaling,
    check_one_unit,
    landsat_scaling,
    sentinel2_baseline,
    sentinel2_scaling,
)

NEW = "S2B_MSIL2A_20220126T101219_N0400_R022_T32TQM_20220126T123456"
OLD = "S2A_MSIL2A_20200113T104411_N0213_R008_T31TDG_20200114T121530"
ANEW = "S2A_MSIL2A_20200113T104411_N0500_R008_T31TDG_20230427T121530"


def test_baseline_from_names_and_properties():
    assert sentinel2_baseline(NEW) == 4.0
    assert sentinel2_baseline(f"/a/{OLD}.SAFE/GRANULE/x.jp2") == 2.13
    assert sentinel2_baseline(properties={"s2:product_uri": ANEW}) == 5.0
    assert sentinel2_baseline(OLD, {"s2:processing_baseline": "05.11"}) == 5.11
    assert sentinel2_baseline(properties={"PROCESSING_BASELINE": "04.00"}) == 4.0
    assert sentinel2_baseline("T31TDG_20200113T104411_B02_10m.jp2") is None
    with pytest.raises(ValueError, match="got 'N0400'"):
        sentinel2_baseline(properties={"s2:processing_baseline": "N0400"})


@pytest.mark.parametrize(
    ("name", "reflectance"),
    # an old image processed anew carries the offset: its date does not tell
    [(NEW, 0.25), (OLD, 0.35), (ANEW, 0.25)],
)
def test_offset_follows_the_baseline(name, reflectance):
    scale, offset = sentinel2_scaling(sentinel2_baseline(name))
    assert 3500 * scale + offset == pytest.approx(reflectance)
    shift = band_scaling("B04", {}, name=name)
    assert 3500 * shift.scale + shift.offset == pytest.approx(10_000 * reflectance)
    declared = band_scaling("B04", {}, {"scale": 1e-4}, name=name)
    assert 3500 * declared.scale + declared.offset == pytest.approx(reflectance)


def test_an_offset_is_never_applied_twice():
    told = {"s2:processing_baseline": "05.00", "earthsearch:boa_offset_applied": True}
    assert band_scaling("red", told, {"scale": 1e-4, "offset": -0.1}) == (1e-4, 0.0)
    assert band_scaling("red", told) == (1.0, 0.0)
    told["earthsearch:boa_offset_applied"] = False
    assert band_scaling("red", told, {"scale": 1e-4, "offset": -0.1}) == (1e-4, -0.1)
    assert band_scaling("red", told) == (1.0, -1000.0)
    assert sentinel2_scaling(5.0, offset_applied=True) == (1e-4, 0.0)


@pytest.mark.parametrize("band", ["SCL", "AOT", "WVP", "probability"])
def test_bands_that_are_no_reflectance_are_not_shifted(band):
    assert band_scaling(band, {"s2:processing_baseline": "04.00"}) == (1.0, 0.0)


@pytest.mark.parametrize("band", ["B01", "B8A", "B12", "blue", "rededge1", "nir08", "swir16"])
def test_optical_bands_are_shifted(band):
    assert band_scaling(band, {"s2:processing_baseline": "04.00"}).offset == -1000


def test_declared_numbers_of_other_products():
    assert band_scaling("red", {}, {"raster:scale": 0.0000275, "raster:offset": -0.2}) == (
        0.0000275,
        -0.2,
    )
    assert band_scaling("red", {}) == (1.0, 0.0)
    with pytest.raises(ValueError, match=r"offset of the band 'red' must be a number.* 'x'"):
        band_scaling("red", {}, {"offset": "x"})


def test_landsat():
    scale, offset = landsat_scaling("LC08_L2SP_170055_20200113_20200823_02_T1_SR_B4")
    # valid range of the product guide: 7273 to 43636 is 0 to 1
    assert 7273 * scale + offset == pytest.approx(0, abs=1e-4)
    assert 43_636 * scale + offset == pytest.approx(1, abs=1e-4)
    assert landsat_scaling("ST_B10") == (0.00341802, 149.0)
    assert landsat_scaling("QA_PIXEL") is None


def test_mixed_units_are_refused():
    check_one_unit({"red": [Scaling(1e-4, 0), Scaling(1e-4, -0.1)]})
    with pytest.raises(ValueError, match=r"those of 'red' are multiplied by 0.0001, 1.0"):
        check_one_unit({"red": [Scaling(1e-4, 0), Scaling(1.0, -1000)]})
