"""What can be read off an embedding: places from `uganda_yop`, tree cover from `gewata`.

    python simulations/embedding_skill/run.py

Writes the rows that results.csv lacks; `tables.py` only reads. More encoders: add to `ENTRIES`.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import terracausal as tc
from terracausal.encoders.base import ChipEncoder
from terracausal.encoders.texture import Texture

N_FOLDS, N_SPLITS = 5, 5  # folds of one cross-validation, and cross-validations that are averaged
CHIP_PX, BLOCK_PX = 32, 300
GEWATA_BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
SATURATED, NO_COVER = 16_000, 255
COLUMNS = ("task", "encoder", "n_columns", "target", "r2", "r2_low", "r2_high", "seconds")


@dataclass(frozen=True)
class Task:
    """Chips, what is to be read off them, and which of them are held out together.

    Parameters
    ----------
    chips : Chips
    targets : DataFrame
        One column per target, in the order of `chips.keys`.
    groups : ndarray of shape (n_sites,)
        Folds never split a group.
    """

    chips: tc.Chips
    targets: pd.DataFrame
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Parameters
    ----------
    embed : ChipEncoder or callable
        An encoder, or what returns the embeddings of a data folder and chips.
    tasks : tuple of str
        Where it is tried.
    refit : bool
        Whether the encoder is fitted anew on the training sites of each fold. Leave it out only
        for encoders that learn nothing from the chips.
    """

    embed: ChipEncoder | Callable[[Path, tc.Chips], pd.DataFrame]
    tasks: tuple[str, ...] = ("uganda_yop", "gewata")
    refit: bool = True


def clip_rsicd(root: Path, chips: tc.Chips) -> pd.DataFrame:
    """Return the stored CLIP-RSICD embeddings of the chips of `uganda_yop`."""
    stored = root / "uganda_yop" / "clip_rsicd_embeddings.csv.gz"
    return pd.read_csv(stored, index_col="site").loc[chips.keys]


def random_conv(**settings: object) -> tc.RandomConvEncoder:
    return tc.RandomConvEncoder(n_features=512, random_state=0, **settings)


ENTRIES = {
    "band mean and SD": Entry(tc.BandStatisticsEncoder(quantiles=()), refit=False),
    "band statistics": Entry(tc.BandStatisticsEncoder(), refit=False),
    "band statistics, all moments": Entry(
        tc.BandStatisticsEncoder(moments=("mean", "sd", "skewness", "kurtosis")), refit=False
    ),
    "band statistics, indices": Entry(
        tc.BandStatisticsEncoder(indices=("NDWI", "MNDWI", "NDBI")), refit=False
    ),
    "band statistics, texture": Entry(tc.BandStatisticsEncoder(texture=Texture())),
    "random features, 3 px": Entry(random_conv()),
    "random features, 5 px": Entry(random_conv(patch_px=5)),
    "random features, 3, 5 and 7 px": Entry(random_conv(patch_px=(3, 5, 7))),
    "random features, 3 px, max": Entry(random_conv(pooling="max")),
    "random features, 3 px, mean and max": Entry(random_conv(pooling="both")),
    "random features, 3 px, 64 components": Entry(random_conv(n_components=64)),
    "random features, 16 and 32 px of the chip": Entry(
        tc.MultiScaleEncoder(random_conv(), sizes_px=(16, 32))
    ),
    "128 random features, 16 and 32 px, width of one": Entry(
        tc.MultiScaleEncoder(
            tc.RandomConvEncoder(128, random_state=0), sizes_px=(16, 32), equal_width=True
        )
    ),
    "random convolutional network": Entry(tc.RandomNetworkEncoder("cnn", random_state=0)),
    "random transformer": Entry(tc.RandomNetworkEncoder("vit", random_state=0)),
    "CLIP-RSICD (stored)": Entry(clip_rsicd, tasks=("uganda_yop",)),
}


def uganda_yop(root: Path) -> Task:
    """Return the chips of the Youth Opportunities Program and where they lie."""
    chips = tc.load_dataset("uganda_yop", root=root).chips
    places = chips.sites.geometry
    targets = pd.DataFrame({"longitude": places.x, "latitude": places.y}, index=chips.keys)
    return Task(chips, targets, np.arange(chips.n_sites))


def gewata(root: Path) -> Task:
    """Return a Landsat scene cut into chips, and the mean tree cover of each."""
    folder = root / "gewata_landsat"
    with rasterio.open(folder / "gewata.tif") as file:
        scene, transform, crs = file.read().astype(np.float32), file.transform, file.crs
        scene[(scene == file.nodata) | (scene == SATURATED)] = np.nan
    with rasterio.open(folder / "tree_cover_2000.tif") as file:
        cover = file.read(1).astype(np.float64)
    cover[cover == NO_COVER] = np.nan
    rows, columns = (length // CHIP_PX for length in cover.shape)
    tops, lefts = (CHIP_PX * np.indices((rows, columns))).reshape(2, -1)
    windows = [
        (slice(top, top + CHIP_PX), slice(left, left + CHIP_PX))
        for top, left in zip(tops, lefts, strict=True)
    ]
    middle = CHIP_PX / 2
    xs, ys = transform @ (lefts + middle, tops + middle)
    sites = gpd.GeoDataFrame(geometry=gpd.points_from_xy(xs, ys), crs=crs).rename_axis("site")
    chips = tc.Chips.from_arrays(
        np.stack([scene[:, *window] for window in windows])[:, None],
        sites=sites,
        bands=GEWATA_BANDS,
        crs=crs,
        resolution_m=transform.a,
    )
    targets = pd.DataFrame({"tree cover": [np.nanmean(cover[window]) for window in windows]})
    across = -(-cover.shape[1] // BLOCK_PX)
    groups = (tops + middle) // BLOCK_PX * across + (lefts + middle) // BLOCK_PX
    return Task(chips, targets.set_index(chips.keys), groups.astype(np.int64))


TASKS = {"uganda_yop": uganda_yop, "gewata": gewata}


def ridge() -> Pipeline:
    """Return ridge regression on standardised columns; the penalty is chosen by leaving one out."""
    return make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 6, 33)))


def splits(task: Task, n_splits: int) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the number of the cross-validation, and the training and the held-out rows."""
    for number in range(n_splits):
        folds = GroupKFold(N_FOLDS, shuffle=True, random_state=number)
        for train, test in folds.split(task.targets, groups=task.groups):
            yield number, train, test


def measure(
    entry: Entry, task: Task, root: Path, n_splits: int = N_SPLITS
) -> tuple[pd.DataFrame, int]:
    """Return R² out of fold, by cross-validation and target, and the number of columns."""
    keys, truth = task.chips.keys, task.targets.to_numpy(dtype=float)
    fixed: pd.DataFrame | None = None
    if not isinstance(entry.embed, ChipEncoder):
        fixed = entry.embed(root, task.chips)
    elif not entry.refit:
        fixed = clone(entry.embed).fit_transform(task.chips)
    predicted = np.full((n_splits, *truth.shape), np.nan)
    for number, train, test in splits(task, n_splits):
        rows = fixed
        if rows is None:
            encoder = clone(entry.embed).fit(task.chips.select(keys[train]), truth[train])
            rows = encoder.transform(task.chips)
        numbers = rows.to_numpy()
        fitted = ridge().fit(numbers[train], truth[train])
        predicted[number, test] = fitted.predict(numbers[test]).reshape(len(test), -1)
    errors = ((predicted - truth) ** 2).sum(axis=1)
    r2 = 1 - errors / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    return pd.DataFrame(r2, columns=task.targets.columns), numbers.shape[1]


def rows_of(name: str, task_name: str, task: Task, root: Path) -> Iterator[dict[str, object]]:
    started = time.perf_counter()
    r2, n_columns = measure(ENTRIES[name], task, root)
    seconds = time.perf_counter() - started
    for target, values in r2.items():
        yield {
            "task": task_name,
            "encoder": name,
            "n_columns": n_columns,
            "target": target,
            "r2": f"{values.mean():.4f}",
            "r2_low": f"{values.min():.4f}",
            "r2_high": f"{values.max():.4f}",
            "seconds": f"{seconds:.1f}",
        }


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = os.environ.get("TERRACAUSAL_DATA", here.parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=folder)
    parser.add_argument("--out", type=Path, default=here / "results.csv")
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"no real data in {given.data}: name their folder with --data")
    done: set[tuple[str, str]] = set()
    if given.out.exists():
        done = set(pd.read_csv(given.out)[["task", "encoder"]].itertuples(index=False, name=None))
    with given.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for task_name, load in TASKS.items():
            task = load(given.data)
            for name, entry in ENTRIES.items():
                if task_name in entry.tasks and (task_name, name) not in done:
                    writer.writerows(rows_of(name, task_name, task, given.data))
                    file.flush()


if __name__ == "__main__":
    main()
