"""The paper's facts, as they are printed in it or stored in the authors' repository.

Nothing here is computed. ``README.md`` says where each file comes from and how exact it is, ``ERRATA.md`` where
the sources disagree and which was used.
"""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parent


def table(number: int) -> pd.DataFrame:
    """The rows of one of Tables IV to XVIII of the paper.

    Args:
        number: of the table, 4 to 18.

    Raises:
        KeyError: a table that is not of numbers (I to III are architectures), or not in the paper.
    """
    path = FOLDER / "tables" / f"table_{number:02d}.csv"
    if not path.is_file():
        raise KeyError(f"Table {number} isn't one of numbers in the paper; those are 4 to 18.")
    return pd.read_csv(path)


def complexity_map() -> pd.DataFrame:
    """Figure 5: a row an architecture: its group, multi-adds (1e9) and mAP, as drawn."""
    return pd.read_csv(FOLDER / "figures" / "fig_05_complexity_map.csv")


def training_curves() -> pd.DataFrame:
    """Figure 4: panel, series, split ("train" or "eval"), iteration, map, source of the point, inside_axes."""
    return pd.read_csv(FOLDER / "figures" / "fig_04_training_curves.csv")


def training_curve_series() -> pd.DataFrame:
    """Figure 4: panel, series and split of each curve, with its legend label, colour and extent."""
    return pd.read_csv(FOLDER / "figures" / "fig_04_series.csv")


def class_curves() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Figure 3: its 30 classes (column, index, display_name, training_clips, ...), and index, iteration, ap of each."""
    folder = FOLDER / "figures"
    return pd.read_csv(folder / "fig_03_classes.csv"), pd.read_csv(folder / "fig_03_class_ap_curves.csv")


def classwise_ap() -> pd.DataFrame:
    """Figure 12: the 527 classes: AP of four systems, training clips, label quality, place in the figure."""
    return pd.read_csv(FOLDER / "figures" / "fig_12_classwise_ap.csv")


def evaluation_iterations() -> pd.DataFrame:
    """The iteration at which each system's values in Tables V to XI were read: system, iteration."""
    return pd.read_csv(FOLDER / "tables" / "evaluation_iterations.csv")


def gpus() -> pd.DataFrame:
    """Named GPUs: peak rates (1e12 operations a second, without sparsity), memory, bandwidth, source of each."""
    return pd.read_csv(FOLDER / "gpus.csv")


def training_time() -> pd.DataFrame:
    """How many days a training takes, in the paper and in the authors' README: source, days_low, days_high, remark."""
    return pd.read_csv(FOLDER / "training_time.csv")


def class_in_repository() -> dict[str, str]:
    """The paper's name of each architecture of Table XII -> the authors' class name."""
    recount = pd.read_csv(FOLDER / "tables" / "table_12_recount.csv")
    return dict(zip(recount["architecture"], recount["class_in_repository"], strict=True))


def class_labels() -> pd.DataFrame:
    """The 527 classes of AudioSet: index, mid, display_name, numbers of training clips, label quality."""
    return pd.read_csv(FOLDER / "audioset" / "class_labels.csv")


def rethinking() -> pd.DataFrame:
    """The results of *Rethinking CNN Models for Audio Classification*, as far as a review of it tells them.

    Columns: model, dataset, condition, models_averaged, accuracy_percent, std_percent, column_label_in_review, and
    basis, which says what is stated and what is inferred; the reasons are at the end of ``ERRATA.md``.
    """
    return pd.read_csv(FOLDER / "rethinking_cnn.csv")
