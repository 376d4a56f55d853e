# One job a run, estimator and fold.
rule fit:
    input:
        notes=store_notes,
        splits="results/preprocess/splits/{run}.json",
    output:
        "results/fit/{run}/{estimator}/fold-{fold}/fit.json",
    log:
        "results/logs/fit/{run}/{estimator}/fold-{fold}.log",
    benchmark:
        "results/benchmarks/fit/{run}/{estimator}/fold-{fold}.tsv"
    threads: 1
    resources:
        mem_mb=memory("fit"),
        # that share a fit of the model, on one machine: as many as `gpu`, or as `threads`
        processes=1,
        runtime=240,
        # a fit is told two minutes before its time is up, keeps its progress and ends; here, since
        # a command line with --set-resources forgets those of the profile
        slurm_extra="--signal=USR1@120",
    params:
        stores=lambda wildcards: stores(wildcards.run),
        settings=lambda wildcards: as_json(
            RUNS[wildcards.run].estimators()[wildcards.estimator]
        ),
        seed=lambda wildcards: RUNS[wildcards.run].seed,
        revision=lambda wildcards: revision(wildcards.estimator),
        # off the declared outputs: a failed job keeps its progress
        checkpoint="results/checkpoint/{run}/{estimator}/fold-{fold}.pt",
    shell:
        # in the shell's place: signals of a batch system reach the fit itself
        "exec neuropipe fit {wildcards.estimator} {params.stores:q} --splits {input.splits}"
        " --fold {wildcards.fold} --seed {params.seed} --parameters {params.settings:q}"
        " --checkpoint {params.checkpoint} --processes {resources.processes}"
        " --output {output} > {log} 2>&1"


rule transform:
    input:
        fit=lambda wildcards: f"results/fit/{wildcards.run}/{RUNS[wildcards.run].model}"
        f"/fold-{wildcards.fold}/fit.json",
        splits="results/preprocess/splits/{run}.json",
    output:
        "results/transform/{run}/fold-{fold}.json",
    log:
        "results/logs/transform/{run}/fold-{fold}.log",
    benchmark:
        "results/benchmarks/transform/{run}/fold-{fold}.tsv"
    resources:
        mem_mb=memory("transform"),
    params:
        stores=lambda wildcards: stores(wildcards.run),
    shell:
        "neuropipe transform {input.fit} {params.stores:q} --splits {input.splits}"
        " --output {output} > {log} 2>&1"


rule score:
    input:
        fit="results/fit/{run}/{estimator}/fold-{fold}/fit.json",
        splits="results/preprocess/splits/{run}.json",
    output:
        "results/score/{run}/{estimator}/fold-{fold}.tsv",
    log:
        "results/logs/score/{run}/{estimator}/fold-{fold}.log",
    benchmark:
        "results/benchmarks/score/{run}/{estimator}/fold-{fold}.tsv"
    resources:
        mem_mb=memory("score"),
    params:
        stores=lambda wildcards: stores(wildcards.run),
        seed=lambda wildcards: RUNS[wildcards.run].seed,
    shell:
        "neuropipe score {input.fit} {params.stores:q} --splits {input.splits}"
        " --run {wildcards.run} --seed {params.seed} --output {output} > {log} 2>&1"
