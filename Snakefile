# The whole study: `snakemake --cores N pipelines`. Everything else is under workflow/.
include: "workflow/Snakefile"


rule pipelines:
    default_target: True
    input:
        required_results,
        optional_results,
        "results/report/index.html",
