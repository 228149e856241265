"""What a result says, in plain sentences: every number in them is read from the result."""

import pandas as pd


def training(result) -> str:
    """How well a network tags, against chance, and whether something went wrong.

    Args:
        result: a `training.TrainingResult`.
    """
    classes = result.classes.dropna(subset=["ap"]).sort_values("ap")
    last = result.evaluations.iloc[-1]
    says = {
        "trained": "",
        "hardly trained": "**This network has hardly learnt anything yet.** ",
        "at chance": "**This network sits at chance.** ",
        "diverged": "**This training diverged.** ",
    }[result.verdict]
    return (
        f"{says}{result.advice}{' ' if result.advice else ''}"
        f"After {int(last['iteration']):,} iterations on {result.summary['training_clips']:,} clips the mAP is "
        f"{last['map']:.3f}, {last['map'] / result.chance:.1f} times that of a guess ({result.chance:.3f}); "
        f"d-prime is {last['d_prime']:.2f}. The easiest class is "
        f"*{classes.iloc[-1]['label']}* (AP {classes.iloc[-1]['ap']:.2f}), the hardest *{classes.iloc[0]['label']}* "
        f"({classes.iloc[0]['ap']:.2f}). It learnt from {result.clips_per_second:,.0f} clips a second."
    )


def complexity(table: pd.DataFrame) -> str:
    """Whether the counts agree with the paper, and what one learns from them.

    Args:
        table: what `tables.complexity` made.
    """
    equal = int(table["equal"].sum())
    counted = table.set_index("architecture")["multi-adds, counted (1e9)"]
    dearest, cheapest = counted.idxmax(), counted.idxmin()
    text = (
        f"{equal} of {len(table)} architectures agree with the paper in both columns to the last printed digit. "
        f"{dearest} takes {counted[dearest] / counted[cheapest]:.0f} times the operations of {cheapest}."
    )
    if equal < len(table):
        text += f" Not equal: {', '.join(table.loc[~table['equal'], 'architecture'])}."
    return text


def architectures(models: dict) -> str:
    """How many layers with weights a network has, and whether its name says so.

    Args:
        models: what a system is called -> its model.
    """
    told, otherwise = [], []
    for name, model in models.items():
        weights = [part for part, values in model.named_parameters() if values.ndim > 1 and "downsample" not in part]
        sizes = sum(values.numel() for values in model.parameters())
        (told if name.endswith(str(len(weights))) else otherwise).append(
            f"{name} {len(weights)} ({sizes / 1e6:.1f} million parameters)"
        )
    parts = [f"{', '.join(told)}, as their names say"] if told else []
    parts += [f"{', '.join(otherwise)}, whose names don't say it"] if otherwise else []
    return f"Layers with weights, those of shortcuts left out: {'; '.join(parts)}."


def costs(table: pd.DataFrame) -> str:
    """What changes when operations are counted in full, and when time is measured.

    Args:
        table: what `tables.costs` made.
    """
    rows = table.set_index("architecture")
    published, true = rows["multi-adds, paper's convention (1e9)"], rows["true cost with FFT (1e9 MACs)"]
    milliseconds, stft = rows["latency (ms)"], rows["of which STFT by convolution (1e9)"]
    share = (stft / published)[stft > 0].sort_values(ascending=False)
    most = " and ".join(f"{part:.0%} of {name}'s" for name, part in share[share > 0.5].items())
    fft = rows["FLOPs, front end by FFT (1e9)"].max()
    dear, cheap = published.idxmax(), published.idxmin()
    per_mac = milliseconds / true
    fronts = {}
    for name, values in (("multi-adds", published), ("true cost", true), ("latency", milliseconds)):
        fronts.setdefault(", ".join(_front(values, rows["mAP, published"])), []).append(name)
    best = "; ".join(f"by {' and by '.join(names)}: {members}" for members, names in fronts.items())
    return (
        f"The STFT as a convolution costs {stft.max():.2f}e9 multi-adds: {most} published cost, and "
        f"{share.min():.0%} of {share.idxmin()}'s. By FFT the whole front end takes {fft:.3f}e9 operations, "
        f"{stft.max() / fft:.0f} times fewer. So {dear} costs {published[dear] / published[cheap]:.0f} times as much "
        f"as {cheap} in the published count, {true[dear] / true[cheap]:.0f} times in the true one, and takes "
        f"{milliseconds[dear] / milliseconds[cheap]:.0f} times as long here.\n\n"
        f"Operations aren't time: a billion multiply-accumulates take {per_mac.min():.0f} ms in {per_mac.idxmin()} and "
        f"{per_mac.max():.0f} ms in {per_mac.idxmax()} ({rows['device'].iloc[0]}, threads: "
        f"{rows['threads'].iloc[0]}). The rank correlation with latency is "
        f"{published.corr(milliseconds, 'spearman'):.2f} for multi-adds and "
        f"{true.corr(milliseconds, 'spearman'):.2f} for the true cost.\n\n"
        f"No cheaper architecture is as good as these, {best}. The latencies are of one run, beside which other work "
        "went on: near ties change from run to run."
    )


def _front(cost: pd.Series, quality: pd.Series) -> list[str]:
    """The architectures that no other beats in cost without losing quality, the cheapest first."""
    order = cost.sort_values().index
    return [name for name in order if quality[name] > quality[cost < cost[name]].max() or name == order[0]]
