"""RATE ratios of the Youth Opportunities Program over the choices of an analyst."""

import argparse
from pathlib import Path

import pandas as pd

import terracausal as tc

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data"
CLIP = "clip_rsicd_embeddings.csv.gz"
SEEDS = 20
ENCODERS = ("band statistics", "random features", "CLIP-RSICD", "district")
LEARNERS = {"ridge": tc.DRLearner(), "forest": tc.CausalForest(n_trees=500)}


def declare(study: tc.Study, clip: Path, given: argparse.Namespace) -> tc.Choices:
    """Return the choices; the seed of the random features is fixed, as in any analysis."""
    district = study.table.groupby("site")["district"].first()
    known = {
        "band statistics": tc.BandStatisticsEncoder(),
        "random features": tc.RandomConvEncoder(n_features=512, random_state=0),
        "CLIP-RSICD": pd.read_csv(clip, index_col="site"),
        # no image at all: what is left if an image only tells where a village lies
        "district": pd.get_dummies(district, dtype=float),
    }
    return tc.Choices(
        encoder={name: known[name] for name in given.encoder},
        components=(None, 50),
        learner={name: LEARNERS[name] for name in given.learner},
        n_seeds=given.seeds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--kept", type=Path, default=HERE / "kept", help="finished cells")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--learner", nargs="+", choices=LEARNERS, default=["ridge"])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--only-cells", action="store_true", help="write no tables")
    given = parser.parse_args()
    data = tc.load_dataset("uganda_yop", root=given.data)
    found = tc.compare_choices(
        data.study,
        declare(data.study, given.data / "uganda_yop" / CLIP, given),
        chips=data.chips,
        folder=given.kept,
        n_jobs=given.n_jobs,
        random_state=0,
    )
    print(found.summary())
    print(f"CPU seconds of the fits: {found.seconds.sum() / 2:.0f}")
    if given.only_cells:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    for name, table in (
        ("results", found.to_dataframe()),
        ("ranking", found.ranking()),
        ("regression", found.regression().to_dataframe()),
    ):
        table.to_csv(given.out / f"{name}.csv", index=False, float_format="%.5g")
    (given.out / "joint.csv").write_text(f"joint_p_value\n{found.joint_p_value():.5g}\n")
    found.plot().figure.savefig(given.out / "specification_curve.png", dpi=110)


if __name__ == "__main__":
    main()
