"""benchmarks/ is no package: its modules are found beside each other, as `python benchmarks/results.py` finds them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
