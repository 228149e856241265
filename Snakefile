"""The DAG of the catalogue: one rule a job, each one papermill execution of one notebook.

`panns reproduce` (and so `make reproduce`) calls this with --directory runs/<profile>. On a cluster, call Snakemake
yourself with an executor plugin; every job is one shell command.
"""

import shlex
import sys

from pannslib import catalogue, paths

PROFILE = config.get("profile", "demo")
DATA_ROOT = config.get("data_root", "")
ALLOW_MISSING = str(config.get("allow_missing", False)) == "True"
PLAN = catalogue.plan(PROFILE, DATA_ROOT, ALLOW_MISSING)

OPTIONS = ["--profile", PROFILE, *(["--data-root", DATA_ROOT] if DATA_ROOT else [])]
OPTIONS += ["--allow-missing"] if ALLOW_MISSING else []
PANNS = shlex.join([sys.executable, "-m", "pannslib"])


rule all:
    input:
        "index.done",
    default_target: True


for job in catalogue.JOBS.values():

    rule:
        name:
            job.name
        input:
            notebook=paths.NOTEBOOKS / f"{job.notebook}.ipynb",
            needs=[f"{need}/done.json" for need in job.needs],
        output:
            f"{job.name}/done.json",
        params:
            digest=PLAN.digest(job.name),
            command=f"{PANNS} execute {job.name} {shlex.join(OPTIONS)}",
        threads: PLAN.threads(job.name)
        shell:
            "{params.command}"


rule index:
    input:
        [f"{name}/done.json" for name in catalogue.JOBS],
    output:
        "index.done",
    params:
        command=f"{PANNS} report {shlex.join(OPTIONS)}",
    shell:
        "{params.command} && touch {output}"
