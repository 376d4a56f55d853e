# Generic over figures and tables: a new one needs no new rule.
rule figure:
    input:
        run_outputs,
    output:
        report(
            "results/figure/{run}/{figure}.svg",
            caption="../report/figure.rst",
            category="{run}",
            labels={"figure": "{figure}"},
        ),
    log:
        "results/logs/figure/{run}/{figure}.log",
    benchmark:
        "results/benchmarks/figure/{run}/{figure}.tsv"
    resources:
        mem_mb=memory("figure"),
    params:
        settings=lambda wildcards: as_json(RUNS[wildcards.run].model_dump()),
        caption=lambda wildcards: caption(wildcards.figure),
    shell:
        "neuropipe figure {wildcards.figure} --run {wildcards.run}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"


rule table:
    input:
        run_outputs,
    output:
        "results/table/{run}/{table}.tsv",
    log:
        "results/logs/table/{run}/{table}.log",
    benchmark:
        "results/benchmarks/table/{run}/{table}.tsv"
    resources:
        mem_mb=memory("table"),
    params:
        settings=lambda wildcards: as_json(RUNS[wildcards.run].model_dump()),
    shell:
        "neuropipe table {wildcards.table} --run {wildcards.run}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"


# A row a fit: inputs, parameters, code, time, memory, energy, scores.
rule cost:
    input:
        fitted,
    output:
        "results/cost.tsv",
    log:
        "results/logs/cost.log",
    benchmark:
        "results/benchmarks/cost.tsv"
    resources:
        mem_mb=memory("cost"),
    params:
        study=as_json(STUDY.model_dump()),
    shell:
        "neuropipe cost --study {params.study:q} --output {output} > {log} 2>&1"


rule report:
    input:
        required_results,
        optional_results,
        "results/cost.tsv",
    output:
        "results/report/index.html",
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    resources:
        mem_mb=memory("report"),
    params:
        study=as_json(STUDY.model_dump()),
    shell:
        "neuropipe report --study {params.study:q} --output {output} > {log} 2>&1"
