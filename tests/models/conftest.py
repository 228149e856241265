"""Lets the tests here import ``golden_recipe``, which they share with those of the folder above."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
