"""One look for all figures."""

from pathlib import Path

SHEET = Path(__file__).with_name("panns.mplstyle")

# a colour a family of architectures (as in Figure 5 of the paper) and a colour a strategy
FAMILY_COLOURS = {
    "cnn": "#1f5fa8",
    "resnet": "#c0392b",
    "mobilenet": "#2e8b57",
    "dainet": "#7f7f7f",
    "leenet": "#8e5ea2",
    "res1dnet": "#b8860b",
    "wavegram": "#d35400",
}
STRATEGY_COLOURS = {
    "scratch": "#7f7f7f",
    "fine_tune": "#1f5fa8",
    "freeze_l1": "#d35400",
    "freeze_l3": "#2e8b57",
}


def use_style() -> None:
    """Apply the project's style to all figures of this process."""
    import matplotlib.pyplot as plt

    plt.style.use(str(SHEET))
