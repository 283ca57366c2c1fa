"""The flagbt command of 0.1.0, with one preset more: a network of a few kilobytes, as the tests train."""

import sys

from flagbt.__main__ import main
from flagbt.models.architecture import PRESETS

PRESETS["nano"] = {"layers": 2, "d_model": 16, "heads": 2, "d_feedforward": 32, "context_bars": 8, "chunk_bars": 32}

if __name__ == "__main__":
    sys.argv[0] = "flagbt"
    sys.exit(main())
