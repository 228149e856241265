"""Explore models and results by ear and eye, in JupyterLab: widgets over what the other modules compute.

    clips = ClipExplorer.of_plan(plan)  # a clip, its log-mel and what two networks hear in it, on one time axis
    clips.show()
    ResultsExplorer(plan).show()  # a class: its AP across the systems, its best and worst clips

The same explorer is live where a frontend answers and still where none does: under papermill, nbconvert and nbval
`show` leaves the picture, the player and the table of the default choice instead of widgets that nothing moves
(`frontend.is_interactive` tells how that is found out). Whatever a widget shows can be had without one: set what is
chosen in Python, and ask for `figure()`, `numbers()` or `table()`.
"""

from pannslib.explorer.clip_explorer import ClipExplorer
from pannslib.explorer.clips import EvaluationClips, Sound, sound_of_bytes, sound_of_file
from pannslib.explorer.frontend import is_interactive
from pannslib.explorer.results_explorer import ResultsExplorer
from pannslib.explorer.rolls import Roll, finished_runs, roll_of

__all__ = [
    "ClipExplorer",
    "EvaluationClips",
    "ResultsExplorer",
    "Roll",
    "Sound",
    "finished_runs",
    "is_interactive",
    "roll_of",
    "sound_of_bytes",
    "sound_of_file",
]
