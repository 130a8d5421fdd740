"""The scripts of supply_chain/ are no package: they are imported by name."""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "supply_chain"

if str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))
