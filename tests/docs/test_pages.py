"""Links lead somewhere, every figure is explained, and what is said of configurations is valid."""

import ast
import os
import re
import subprocess
import sys

import pytest
import yaml
from reading import PAGES, ROOT, anchors, blocks, links, name_of

import neuropipe as npp
from neuropipe import figures
from neuropipe.config import check_study, read_study
from neuropipe.io.manifest import Page
from neuropipe.preprocess import check_steps

STEP = re.compile(r"\{step: (?!name).*?\}(?=[`|,\n])")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


def test_every_page_is_in_the_contents():
    listed = set()
    for fence in re.findall(
        r"```\{toctree\}\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.S
    ):
        listed |= {line for line in fence.splitlines() if line and not line.startswith(":")}
    pages = {
        str(p.relative_to(ROOT / "docs"))[:-3] for p in PAGES if p.is_relative_to(ROOT / "docs")
    }
    assert listed == pages - {"index"}


def test_every_figure_is_explained():
    text = (ROOT / "docs" / "figures.md").read_text()
    explained = re.findall(r"^### (\w+)\n(.+)", text, re.MULTILINE)
    assert {name for name, _ in explained} == set(figures.FIGURES)
    assert all(len(said) > 40 for _, said in explained)


def test_every_public_name_is_in_the_reference():
    text = (ROOT / "docs" / "api.md").read_text()
    for name in npp.__all__:
        if name != "__version__":
            assert re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda b: name_of(b.page))
def test_yaml_is_what_it_is_said_to_be(block):
    content = yaml.safe_load(block.text)
    if "datasets" in content:
        check_study(content)
        for data in content["datasets"].values():
            check_steps(data.get("preprocess", ()))
    else:
        Page(**content)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_steps_that_are_named_exist(page):
    for found in STEP.findall(page.read_text()):
        check_steps([yaml.safe_load(found)])


@pytest.mark.parametrize("block", blocks("python"), ids=lambda b: name_of(b.page))
def test_python_uses_names_that_exist_and_results_of_the_default_study(block):
    tree = ast.parse(block.text)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "npp"
    }
    assert used <= set(npp.__all__)
    study = read_study(ROOT / "config" / "config.yaml")
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    for path in (t for t in texts if isinstance(t, str) and t.startswith("results/")):
        room, name, *rest = path.split("/")[1:]
        if room in ("fit", "transform"):
            assert name in study.runs, path
            assert room == "transform" or rest[0] in study.runs[name].estimators(), path
        else:
            assert name in study.datasets, path


@pytest.mark.parametrize(
    "block", [b for b in blocks("python") if "results/" in b.text], ids=lambda b: name_of(b.page)
)
def test_python_on_results_runs_where_there_are_any(block, tmp_path):
    """After `make pipelines` in this tree, or where NEUROPIPE_DOCS_RESULTS names such a folder."""
    results = os.environ.get("NEUROPIPE_DOCS_RESULTS", str(ROOT / "results"))
    wanted = re.findall(r'"(results/[^"]+)"', block.text)
    if not all(os.path.exists(os.path.join(os.path.dirname(results), path)) for path in wanted):
        pytest.skip("the default study has not been run here")
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=os.path.dirname(results),
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/kernels"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "block",
    [b for b in blocks("python") if "results/" not in b.text],
    ids=lambda b: name_of(b.page),
)
@pytest.mark.filterwarnings("ignore")  # fits cut short do not converge, and say so
def test_python_that_needs_nothing_runs(block, tmp_path, monkeypatch, capsys):
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, name_of(block.page), "exec"), {})
