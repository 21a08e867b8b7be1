"""The Youth Opportunities Program: a randomised cash grant in northern Uganda.

The file is the tutorial data of the R package causalimages (GPL-3); the trial is Blattman, Fiala &
Martinez (2014), Quarterly Journal of Economics 129(2), doi:10.1093/qje/qjt057. The outcome is a
standardised skill index whose name the authors do not give.
"""

import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from terracausal._foundation.errors import RoleError, list_some
from terracausal._foundation.optional import require
from terracausal.imagery import Chips
from terracausal.study import Study, StudyData

FILE = "CausalImagesTutorialData.RData"
URL = (
    "https://raw.githubusercontent.com/cjerzak/causalimages-software/"
    "2c9e392fca812a7865f6b25702bfa47af9cb21bc/causalimages/data/" + FILE
)
SHA256 = "a44a8e196700f72fe9bda7283e8eb71df5357edcbfab0c67a5b8a4705fafed34"
PIXEL_M = 14.25
BANDS = ("green", "nir", "swir1")
# X is [W, female, W·female, x3, W·x3, x5, W·x5]: four of its seven columns contain the treatment
COVARIATES = {1: "female", 3: "x3", 5: "x5"}
LEAKING = (0, 2, 4, 6)


def load_uganda_yop(folder: Path | None) -> StudyData:
    """Load the study from a folder, or from its public address where there is none.

    Parameters
    ----------
    folder : Path, default=None
        Holds the original RData file and, if there, sites.csv with the districts.

    Returns
    -------
    StudyData
    """
    raw = read_rdata(_locate(folder))
    sites = site_table(raw)
    notes = [
        f"columns {', '.join(map(str, LEAKING))} of the original X are products with the treatment "
        "and were dropped; columns 1, 3 and 5 are female, x3 and x5",
        "the outcome is not named by its authors; 65 % of the units sit at its floor",
        f"chips are 8-bit pictures of Landsat 7 (about 2000), pixels of {PIXEL_M} m",
    ]
    units = unit_table(raw)
    districts = None if folder is None else folder / "sites.csv"
    if districts is not None and districts.is_file():
        known = pd.read_csv(districts, index_col="site")["district"]
        units["district"] = units["site"].map(known)
        notes.append("districts come from sites.csv; they are not in the original file")
    study = Study(
        units,
        outcome="outcome",
        treatment="treated",
        site="site",
        covariates=tuple(COVARIATES.values()),
        coords=("lon", "lat"),
    )
    pixels = np.moveaxis(np.asarray(raw["FullImageArray"]), -1, 1).astype(np.uint8)
    chips = Chips.from_arrays(
        pixels[:, None],
        sites=gpd.GeoDataFrame(
            index=sites.index,
            geometry=gpd.points_from_xy(sites["lon"], sites["lat"]),
            crs="EPSG:4326",
        ),
        bands=BANDS,
        resolution_m=PIXEL_M,
    )
    return StudyData(study, chips, "uganda_yop", tuple(notes))


def _locate(folder: Path | None) -> Path:
    if folder is not None:
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected {FILE} in {folder}, which holds {list_some(_names(folder))}. Put the "
                "original file there, or leave `root` unset to download it."
            )
        return path
    pooch = require("pooch", needed_by="load_dataset")
    cache = pooch.os_cache("terracausal") / "uganda_yop"
    return Path(pooch.retrieve(URL, known_hash=f"sha256:{SHA256}", fname=FILE, path=cache))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_rdata(path: Path) -> dict[str, Any]:
    """Decode the RData file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to object
        FullImageArray (n_sites, height, width, n_bands), KeysOfImages (n_sites,),
        KeysOfObservations, obsW, obsY (n_units,), X (n_units, 7) and LongLat (n_units, 2).
    """
    rdata = require("rdata", needed_by="load_dataset('uganda_yop')")
    try:
        with warnings.catch_warnings():
            # a data.table reads well as the data frame that it is
            warnings.filterwarnings("ignore", message="Missing constructor for R class")
            found: dict[str, Any] = rdata.read_rda(path)
    except Exception as error:
        error.add_note(f"while decoding {path}; expected the original file, sha256 {SHA256}")
        raise
    expected = {"FullImageArray", "KeysOfImages", "KeysOfObservations", "obsW", "obsY", "X"}
    absent = sorted(expected - set(found))
    if absent:
        raise RoleError(
            f"{path} lacks {list_some(absent)}; it holds {list_some(sorted(found), 10)}. "
            f"Expected the original file, sha256 {SHA256}."
        )
    return found


def unit_table(raw: dict[str, Any]) -> pd.DataFrame:
    """Return one row per person: site, treated, outcome, female, x3, x5, lon, lat.

    Parameters
    ----------
    raw : dict
        From `read_rdata`.

    Returns
    -------
    pandas.DataFrame of shape (2082, 8)
        Indexed by unit, from 1.
    """
    n_units = len(raw["obsY"])
    covariates = {name: raw["X"][:, column] for column, name in COVARIATES.items()}
    table = pd.DataFrame(
        {
            "site": np.asarray(raw["KeysOfObservations"]).astype(np.int64),
            "treated": np.asarray(raw["obsW"]).astype(np.int64),
            "outcome": np.asarray(raw["obsY"], dtype=np.float64),
            **covariates,
        },
        index=pd.RangeIndex(1, n_units + 1, name="unit"),
    )
    place = site_table(raw)
    return table.join(place, on="site")


def site_table(raw: dict[str, Any]) -> pd.DataFrame:
    """Return one row per site, lon and lat, in the order of the images.

    Parameters
    ----------
    raw : dict
        From `read_rdata`.

    Returns
    -------
    pandas.DataFrame of shape (327, 2)
    """
    place = pd.DataFrame(
        {
            "site": np.asarray(raw["KeysOfObservations"]).astype(np.int64),
            "lon": np.asarray(raw["LongLat"]["geo_long"], dtype=np.float64),
            "lat": np.asarray(raw["LongLat"]["geo_lat"], dtype=np.float64),
        }
    )
    keys = pd.Index(np.asarray(raw["KeysOfImages"]).astype(np.int64), name="site")
    return place.groupby("site").first().loc[keys]
