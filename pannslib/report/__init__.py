"""Tables and figures from results, and nothing else: what readers open in ``figures/<profile>/``.

Every table and figure is written with the CSV of its numbers and a small JSON record of where they come from;
`index` shows all of them on one page.
"""

from pannslib.report import plots, reading, tables
from pannslib.report.artifacts import EVIDENCE, evidence_text, save_figure, save_table
from pannslib.report.index import write_index
from pannslib.report.live import LiveCurve
from pannslib.report.style import use_style

__all__ = [
    "EVIDENCE",
    "LiveCurve",
    "evidence_text",
    "plots",
    "reading",
    "save_figure",
    "save_table",
    "tables",
    "use_style",
    "write_index",
]
