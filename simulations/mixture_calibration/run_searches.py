"""The same for the posteriors that Pyro seeks: by SVI and by NUTS; 20 s of one core each."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import main
from run import ENTROPY, draw

FOLDER = Path(__file__).parent

if __name__ == "__main__":
    if "--out" not in sys.argv:
        sys.argv += ["--out", str(FOLDER / "results_searches.csv")]
    main(partial(draw, guides=("full_rank", "nuts")), ENTROPY, FOLDER, 100)
