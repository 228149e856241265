"""Train a network of the catalogue without its notebook: `panns train`, alone or under torchrun."""

from typing import Annotated

import typer

from pannslib.cli.base import DataRootOption, MissingOption, ProfileOption, app, plan_of


@app.command()
def train(
    run: Annotated[str, typer.Argument(help="A training run of the catalogue; --list names them.")] = "train_cnn14",
    profile: ProfileOption = "demo",
    data_root: DataRootOption = "",
    allow_missing: MissingOption = False,
    list_runs: Annotated[bool, typer.Option("--list", help="Say which runs there are, and train none.")] = False,
) -> None:
    """Train a network on AudioSet, or go on with one that was stopped; the result is in runs/<profile>/<run>/.

    On several GPUs or machines: torchrun --nproc-per-node 8 -m pannslib train <run> --profile full. The batch of the
    profile is then divided between the processes.
    """
    from pannslib import paths
    from pannslib.audioset_runs import RUNS
    from pannslib.errors import ProfileError

    if list_runs:
        for name, facts in RUNS.items():
            typer.echo(f"{name:36}{facts.title}")
        return
    if run not in RUNS:
        raise ProfileError(f"There is no training run {run!r}; there are {', '.join(RUNS)}.")
    plan = plan_of(profile, data_root, allow_missing)

    from pannslib import training
    from pannslib.training import devices

    first = devices.world()[0] == 0
    try:
        result = training.run(plan, run)
    except training.Stopped as stop:
        if first:
            typer.echo(
                f"panns: {stop}; the same command goes on from here. The weights so far are in "
                f"{paths.shown(plan.runs / run / 'stopped.safetensors')}.",
                err=True,
            )
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        if first:
            typer.echo("panns: stopped; the same command goes on from the last evaluation.", err=True)
        raise typer.Exit(130) from None
    if first:
        last = result.evaluations.iloc[-1]
        typer.echo(
            f"{result.title}: mAP {last['map']:.3f}, mAUC {last['mauc']:.3f}, d-prime {last['d_prime']:.2f} on the "
            f"evaluation clips (a guess: {result.chance:.3f}); {result.verdict}. {result.advice}".strip()
        )
        typer.echo(f"Everything is in {paths.shown(result.run.path)}.")
