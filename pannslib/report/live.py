"""A picture that grows while a network is trained."""

import pandas as pd

from pannslib.report import plots


class LiveCurve:
    """The training curve in a notebook, drawn anew after every evaluation.

    Call it with the curve so far, as `training.run(..., watch=LiveCurve(...))` does. Where no notebook looks on it
    does nothing.
    """

    def __init__(self, title: str, iterations: int):
        """For a run called ``title`` of so many ``iterations``."""
        self.title, self.iterations = title, iterations
        self._display = None

    def __call__(self, curve: pd.DataFrame) -> None:
        """Draw the curve (see `training.TrainingResult.curve`) in the place of the last one."""
        from IPython import get_ipython

        if get_ipython() is None:
            return
        import matplotlib.pyplot as plt
        from IPython.display import display

        figure, ax = plt.subplots()
        plots.training_curve(curve, ax)
        ax.set(title=self.title, xlim=(0, self.iterations))
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)
        plt.close(figure)
