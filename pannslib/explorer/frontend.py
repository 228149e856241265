"""What an explorer shows: widgets where a frontend answers, a picture and tables where none does."""

from __future__ import annotations

import base64
import html
import io
import os

import numpy as np
import pandas as pd

from pannslib.report import listening

DPI = 100  # of pictures on the screen
CELL = "padding:2px 10px;text-align:left;vertical-align:middle"


def is_interactive() -> bool:
    """Whether somebody can move a widget: a frontend is there and answers.

    The protocol of Jupyter tells: a frontend with somebody before it sends each cell with ``allow_stdin``, since it
    would answer a question of the kernel. What only executes notebooks (papermill, nbclient, nbconvert, nbval) sends
    that it wouldn't. The package's own executor also sets ``PANNS_PROGRESS``. Outside of Jupyter nothing answers.
    """
    if os.environ.get("PANNS_PROGRESS"):
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return False
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", False))


class Explorer:
    """What explorers share: how they are shown. A subclass has `widget` and `still`."""

    def show(self, interactive: bool | None = None) -> None:
        """Show the explorer below the cell: widgets, or what they show at first.

        Args:
            interactive: which of the two; None to find out (`is_interactive`).
        """
        from IPython.display import display

        if is_interactive() if interactive is None else interactive:
            display(self.widget())
            return
        for part in self.still():
            display(part)

    def widget(self):
        """The explorer as one ipywidgets box, made when it is first asked for."""
        raise NotImplementedError

    def still(self) -> list:
        """What the widgets would show, as IPython display objects."""
        raise NotImplementedError


def png(figure) -> bytes:
    """A matplotlib figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def player(waveform: np.ndarray, sample_rate: int, title: str, wide: bool = False) -> str:
    """An HTML player of a waveform, float32 (samples,) in [-1, 1]; the sound is inside, as Ogg Opus."""
    sound = base64.b64encode(listening.encode(waveform, sample_rate)).decode()
    width = "100%;max-width:640px" if wide else "15em"
    return (
        f'<audio controls preload="metadata" aria-label="{html.escape(title)}" style="width:{width}" '
        f'src="data:audio/ogg;base64,{sound}"></audio>'
    )


def table_html(frame: pd.DataFrame, decimals: int = 2, raw: tuple[str, ...] = ()) -> str:
    """A table as HTML, all of it escaped but the columns ``raw``."""
    head = "".join(f'<th style="{CELL}">{html.escape(str(name))}</th>' for name in frame.columns)
    rows = [
        "".join(f'<td style="{CELL}">{_cell(row[name], decimals, name in raw)}</td>' for name in frame.columns)
        for row in frame.to_dict("records")
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def note(text: str, fault: bool = False) -> str:
    """A line of HTML; a fault is red."""
    colour = "#b3261e" if fault else "#555"
    return f'<p style="color:{colour};margin:4px 0;line-height:1.35">{html.escape(text)}</p>'


def _cell(value, decimals: int, raw: bool) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.{decimals}f}"
    return str(value) if raw else html.escape(str(value))
