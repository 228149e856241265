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

arguments = ["--profile", PROFILE, *(["--data-root", DATA_ROOT] if DATA_ROOT else [])]
arguments += ["--allow-missing"] if ALLOW_MISSING else []
OPTIONS = shlex.join(arguments)
PANNS = shlex.join([sys.executable, "-m", "pannslib"])


rule all:
    input:
        "index.done",
    default_target: True


# AudioSet's shards, beside each other, before what reads them; clips that come packed are read as they are
SHARDS = [] if PLAN.comes_packed("audioset") else list(range(PLAN.shards("audioset")))
for shard in SHARDS:

    rule:
        name:
            f"pack_audioset_{shard:02d}"
        output:
            f"pack_audioset_{shard:02d}/done",
        params:
            digest=PLAN.packing_digest("audioset"),
            shard=shard,
        threads: 1
        shell:
            "{PANNS} pack --task audioset --shard {params.shard} --cores {threads} {OPTIONS} && touch {output}"


for job in catalogue.JOBS.values():

    rule:
        name:
            job.name
        input:
            notebook=paths.NOTEBOOKS / f"{job.notebook}.ipynb",
            needs=[f"{need}/done.json" for need in PLAN.needs(job.name)],
            shards=[f"pack_audioset_{shard:02d}/done" for shard in SHARDS if "audioset" in job.tasks],
        output:
            f"{job.name}/done.json",
        params:
            # all that a job depends on; how it is called is none of it, so another data root runs again only what reads it
            digest=PLAN.digest(job.name),
        threads: PLAN.threads(job.name)
        # what others wait for goes first: else a long chain is left over when all else is done
        priority: catalogue.priority(job.name)
        shell:
            "{PANNS} execute {rule} {OPTIONS}"


rule index:
    input:
        [f"{name}/done.json" for name in catalogue.JOBS],
    output:
        "index.done",
    shell:
        "{PANNS} report {OPTIONS} && touch {output}"
