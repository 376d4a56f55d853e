# From a manifest to prepared recordings. A rule's output is the note that is written beside a store
# when it is whole: small, with the store's content hash, so that equal content re-runs nothing.
# What a job is given is said to its Dask, which uses it with NEUROPIPE_SCHEDULER=local.
GIVEN = "NEUROPIPE_THREADS={threads} NEUROPIPE_MEMORY_MB={resources.mem_mb} "
FETCH = (
    "neuropipe fetch {input} --session {wildcards.session} --output {output}"
    " {params.flags} > {log} 2>&1"
)


def fetch_flags(wildcards):
    return "--accept-terms" if STUDY.datasets[wildcards.dataset].accept_terms else ""


rule fetch:
    input:
        lambda wildcards: STUDY.datasets[wildcards.dataset].manifest,
    output:
        "results/fetch/{dataset}/{session}.json",
    log:
        "results/logs/fetch/{dataset}/{session}.log",
    benchmark:
        "results/benchmarks/fetch/{dataset}/{session}.tsv"
    wildcard_constraints:
        dataset="|".join(REQUIRED) or NEVER,
    resources:
        mem_mb=memory("fetch"),
    params:
        flags=fetch_flags,
        row=lambda wildcards: as_json(
            [r.model_dump() for r in FILES[wildcards.dataset][wildcards.session]]
        ),
    shell:
        FETCH


checkpoint fetch_optional:
    input:
        lambda wildcards: STUDY.datasets[wildcards.dataset].manifest,
    output:
        "results/fetch/{dataset}/{session}.json",
    log:
        "results/logs/fetch/{dataset}/{session}.log",
    benchmark:
        "results/benchmarks/fetch/{dataset}/{session}.tsv"
    wildcard_constraints:
        dataset="|".join(OPTIONAL) or NEVER,
    resources:
        mem_mb=memory("fetch"),
    params:
        flags=lambda wildcards: f"--optional --skips {skips(wildcards)} {fetch_flags(wildcards)}",
    shell:
        FETCH


rule ingest:
    input:
        "results/fetch/{dataset}/{session}.json",
    output:
        "results/ingest/{dataset}/{session}.json",
    log:
        "results/logs/ingest/{dataset}/{session}.log",
    benchmark:
        "results/benchmarks/ingest/{dataset}/{session}.tsv"
    resources:
        mem_mb=memory("ingest"),
    params:
        store="results/ingest/{dataset}/{session}.zarr",
    shell:
        GIVEN + "neuropipe ingest {input} --output {params.store} > {log} 2>&1"


rule quality:
    input:
        "results/ingest/{dataset}/{session}.json",
    output:
        table="results/quality/{dataset}/{session}.tsv",
        figure=report(
            "results/quality/{dataset}/{session}.svg",
            caption="../report/figure.rst",
            category="Recordings",
            labels={"data set": "{dataset}", "session": "{session}"},
        ),
    log:
        "results/logs/quality/{dataset}/{session}.log",
    benchmark:
        "results/benchmarks/quality/{dataset}/{session}.tsv"
    resources:
        mem_mb=memory("quality"),
    params:
        store="results/ingest/{dataset}/{session}.zarr",
        thresholds=as_json(STUDY.quality),
        caption="Quality of the recording {session} of {dataset}.",
    shell:
        "neuropipe quality {params.store} --thresholds {params.thresholds:q}"
        " --output {output.table} > {log} 2>&1"


rule preprocess:
    input:
        "results/ingest/{dataset}/{session}.json",
    output:
        "results/preprocess/{dataset}/{session}.json",
    log:
        "results/logs/preprocess/{dataset}/{session}.log",
    benchmark:
        "results/benchmarks/preprocess/{dataset}/{session}.tsv"
    resources:
        mem_mb=memory("preprocess"),
    params:
        source="results/ingest/{dataset}/{session}.zarr",
        store="results/preprocess/{dataset}/{session}.zarr",
        steps=lambda wildcards: as_json(STUDY.datasets[wildcards.dataset].preprocess),
    shell:
        GIVEN + "neuropipe preprocess {params.source} --steps {params.steps:q}"
        " --output {params.store} > {log} 2>&1"


rule split:
    input:
        store_notes,
    output:
        "results/preprocess/splits/{run}.json",
    log:
        "results/logs/preprocess/splits/{run}.log",
    benchmark:
        "results/benchmarks/preprocess/splits/{run}.tsv"
    resources:
        mem_mb=memory("split"),
    params:
        stores=lambda wildcards: stores(wildcards.run),
        split=lambda wildcards: as_json(RUNS[wildcards.run].split.model_dump()),
        seed=lambda wildcards: RUNS[wildcards.run].seed,
    shell:
        "neuropipe preprocess {params.stores:q} --split {params.split:q} --seed {params.seed}"
        " --output {output} > {log} 2>&1"
