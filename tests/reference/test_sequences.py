"""Eight Landsat composites of Pucallpa: a change of vegetation is in the sequence, not in an image.

The target is the change of mean NDVI from 1990 to 2005 in 325 chips of 16 px that share no pixel,
predicted by ridge regression on means and SDs of the bands (not on NDVI), out of fold; folds hold
out squares of 112 px. Found: R2 0.98 for all eight images side by side; 0.94 for the trend and 0.98
for the difference of the four images from 1990 to 2005; 0.05 for the last image (2020) alone. The
mean and the variance of the four find nothing (-0.03, -0.12), and random attention 0.32. Trend and
difference over 1985 to 2020 answer another question: 0.29 and 0.11.
"""

import numpy as np
import pandas as pd
import pytest
import rasterio
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from terracausal.encoders import BandStatisticsEncoder
from terracausal.encoders.sequences import SequenceEncoder
from terracausal.imagery import read_chips

SIZE_PX, STEP_PX, BLOCK_PX = 16, 28, 112


@pytest.fixture(scope="module")
def pucallpa(data_root):
    """Chips, the target and the square of each site."""
    folder = data_root / "pucallpa_landsat"
    with rasterio.open(folder / "1985.tif") as file:
        transform, (height, width) = file.transform, file.shape
    half = SIZE_PX // 2
    row, column = (
        axis.ravel()
        for axis in np.meshgrid(
            np.arange(half, height - half, STEP_PX),
            np.arange(half, width - half, STEP_PX),
            indexing="ij",
        )
    )
    lon, lat = transform * (column.astype(float), row.astype(float))
    sites = pd.DataFrame({"lon": lon, "lat": lat}, index=[f"s{k:03d}" for k in range(len(lon))])
    chips = read_chips(folder, sites, size_px=SIZE_PX, bands=["swir1", "nir", "red", "green"])
    pixels = chips.to_xarray()
    nir, red = pixels.sel(band="nir"), pixels.sel(band="red")
    ndvi = ((nir - red) / (nir + red)).mean(("y", "x"))
    years = ndvi.time.dt.year
    change = ndvi[:, years == 2005].to_numpy() - ndvi[:, years == 1990].to_numpy()
    block = row // BLOCK_PX * 1000 + column // BLOCK_PX
    return chips, change[:, 0], block


def explained(table, target, block):
    learner = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15)))
    found = cross_val_predict(learner, table, target, groups=block, cv=GroupKFold(5))
    return 1 - ((target - found) ** 2).sum() / ((target - target.mean()) ** 2).sum()


def test_change_is_found_in_the_sequence_and_not_in_the_last_image(pucallpa):
    chips, target, block = pucallpa
    assert chips.n_sites == 325
    assert len(np.unique(block)) == 28
    decades = chips.select(times=slice("1990", "2005"))
    inner = BandStatisticsEncoder(quantiles=())

    def found(aggregate, which):
        return explained(SequenceEncoder(inner, aggregate).fit_transform(which), target, block)

    assert found("concatenate", chips) > 0.8
    assert found("trend", decades) > 0.8
    assert found("difference", decades) > 0.8
    last = inner.fit_transform(chips.select(times=slice("2020", "2020")))
    assert explained(last, target, block) < 0.2
    # without the order of the images there is no change to be seen
    assert found("mean", decades) < 0.2
    assert found("variance", decades) < 0.2
