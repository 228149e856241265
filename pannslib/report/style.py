"""One look for all figures."""

from pathlib import Path

SHEET = Path(__file__).with_name("panns.mplstyle")

# a colour a family of architectures (as in Figure 5 of the paper) and a colour a strategy; those of the families are
# told apart by colour-blind readers too (Okabe and Ito's set)
FAMILY_COLOURS = {
    "cnn": "#0072b2",
    "resnet": "#d55e00",
    "mobilenet": "#009e73",
    "dainet": "#7f7f7f",
    "leenet": "#cc79a7",
    "res1dnet": "#56b4e9",
    "wavegram": "#e69f00",
}
# the colour of a system, in whichever figure it is; where a figure varies CNN14, the base keeps its colour
SYSTEM_COLOURS = {
    "CNN14": FAMILY_COLOURS["cnn"],
    "MobileNetV1": FAMILY_COLOURS["mobilenet"],
    "Wavegram-Logmel-CNN": FAMILY_COLOURS["wavegram"],
    "baseline": "#333333",
}
VARIANT_COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#333333", "#56b4e9")  # of what a figure varies, in its order
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
