"""``python -m pannslib`` is the same as ``panns``."""

from pannslib.cli import main

main()
