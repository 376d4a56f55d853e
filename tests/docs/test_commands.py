"""Every command of every page is one that neuropipe, Snakemake or make would take."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer.main
from reading import ROOT, commands

ALL = commands()
PLACEHOLDER = re.compile(r"[A-Z_]{3,}|\.\.\.|<.*>|my_|my\.|your|path/to")


def of(tool):
    return [(page, words) for page, words in ALL if words[0] == tool]


def ids(pair):
    return f"{pair[0]}: {' '.join(pair[1])}"


def test_there_are_commands_of_each_kind():
    assert all(len(of(tool)) > 3 for tool in ("neuropipe", "snakemake", "make"))


@pytest.mark.parametrize("pair", of("neuropipe"), ids=ids)
def test_neuropipe_would_take_it(pair):
    """Verb, options and the number of arguments, as the command line itself reads them."""
    from neuropipe.cli import app

    command = typer.main.get_command(app)
    words = list(pair[1][1:])
    if words == ["--help"]:
        return
    context = click.Context(command)
    while isinstance(command, click.Group):
        name = words.pop(0).split("|")[0]
        assert name in command.commands, f"no verb {name!r}"
        command = command.commands[name]
    if not words:
        return  # a verb that is only named
    try:
        command.make_context(command.name, words, parent=context, resilient_parsing=False)
    except click.MissingParameter:
        assert not any(w.startswith("-") for w in words) or "export" in pair[1], "lacks an option"


@pytest.mark.parametrize("pair", of("make"), ids=ids)
def test_make_knows_the_target(pair):
    words = [w for w in pair[1][1:] if "=" not in w] or ["setup"]
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(known)


@pytest.mark.parametrize("pair", of("snakemake"), ids=ids)
def test_snakemake_would_take_it(pair):
    from snakemake.cli import get_argument_parser

    words = list(pair[1][1:])
    profiles = [words[i + 1] for i, w in enumerate(words) if w == "--workflow-profile"]
    assert all((ROOT / p / "config.yaml").is_file() for p in profiles)
    parser = get_argument_parser()
    parser.parse_args(words)


def test_the_results_that_are_named_can_be_made():
    """One dry run of the default study for all files that the pages ask for."""
    targets = {
        word
        for _, words in of("snakemake")
        for word in words
        if word.startswith("results/") and not PLACEHOLDER.search(word)
    }
    assert len(targets) > 15
    folder = Path(sys.executable).parent
    done = subprocess.run(
        ["snakemake", "--cores", "1", "-n", "--nolock", *sorted(targets)],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
