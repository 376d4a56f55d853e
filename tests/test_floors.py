"""The house stands: imports point downwards, `import neuropipe` is light, files are short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = {"floors", "models-apart", "models-see-no-files", "tensors-inside", "kernels-alone"}
LONGEST = 400


def tracked():
    """Files under version control; in an unpacked archive, all that lie there."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        found = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        found = [p for room in ("neuropipe", "kernels", "tests", "workflow", "config")
                 for p in (ROOT / room).rglob("*")]  # fmt: skip
    return [p for p in found if p.is_file() and "__pycache__" not in p.parts]


def modules_of(code):
    """Names of the modules that a statement loads in a fresh interpreter."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_import_contracts(tmp_path):
    pytest.importorskip("importlinter")
    code = (
        "import sys; from importlinter.application.use_cases import lint_imports;"
        "from importlinter.configuration import configure; configure();"
        f"sys.exit(not lint_imports(config_filename={str(ROOT / 'pyproject.toml')!r}, "
        f"cache_dir={str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in CONTRACTS:
        assert re.search(rf"^{name}: .*KEPT$", done.stdout, re.MULTILINE), name


def test_import_is_light():
    """A budget of modules stands for the time, which a busy machine stretches."""
    bare = modules_of("pass")
    light = modules_of("import neuropipe")
    assert {m for m in light - bare if m.startswith("neuropipe")} == {"neuropipe"}
    assert not {"torch", "xarray", "matplotlib", "numpy", "pydantic"} & light
    assert len(light - bare) < 20


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import neuropipe.cli", {"torch", "matplotlib", "xarray", "sklearn", "pynwb"}),
        ("import neuropipe.config", {"torch", "matplotlib", "xarray", "numpy", "pandas"}),
        ("import neuropipe.io.manifest", {"torch", "matplotlib", "pynwb", "h5py"}),
        ("import neuropipe.figures, neuropipe.tables", {"torch", "matplotlib", "numpy"}),
        ("import neuropipe.models, neuropipe.baselines", {"torch", "xarray", "numpy"}),
        ("import neuropipe.preprocess", {"torch", "xarray", "numpy", "dask"}),
    ],
)
def test_what_each_job_reads_stays_light(statement, heavy):
    assert not heavy & modules_of(statement)


def test_public_names_all_resolve():
    import neuropipe

    for name in neuropipe.__all__:
        assert getattr(neuropipe, name) is not None
    assert set(neuropipe.__all__) <= set(dir(neuropipe))
    with pytest.raises(AttributeError, match="no attribute 'HMMGML'"):
        _ = neuropipe.HMMGML


def test_files_are_short():
    code = {".py", ".smk"}
    long = {
        str(p.relative_to(ROOT)): n
        for p in tracked()
        if (p.suffix in code or p.name == "Snakefile")
        and (n := len(p.read_text().splitlines())) > LONGEST
    }
    assert not long


def test_no_file_names_a_folder_of_one_machine():
    """What runs here only would fail, or leak a name, anywhere else."""
    home = re.compile(r"(?<![\w./-])/(?:home|Users|root|work|mnt|scratch)/[A-Za-z0-9_.-]+")
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {m}" for m in home.findall(text)]
    assert not found
