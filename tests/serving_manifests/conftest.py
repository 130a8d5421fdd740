"""The scripts of serving/ import each other by name, as they do when one of them is run."""

import sys
from pathlib import Path

SERVING = Path(__file__).resolve().parents[2] / "serving"

if str(SERVING) not in sys.path:
    sys.path.append(str(SERVING))
