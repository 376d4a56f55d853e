"""The pages of the documentation, taken apart: links, headings, blocks, commands."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md",
     ROOT / "config" / "README.md"]
)  # fmt: skip
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`((?:neuropipe|snakemake|make) [^`\n]+)`")
TOOLS = ("neuropipe", "snakemake", "make")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, often none, and its text."""

    page: Path
    language: str
    text: str


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(*languages):
    return [
        Block(page, found[1], found[2])
        for page in PAGES
        for found in FENCE.finditer(page.read_text())
        if found[1] in languages
    ]


def links(page):
    return LINK.findall(FENCE.sub("", page.read_text()))


def anchors(page):
    """Anchors of a page's headings, as its site makes them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


def commands():
    """Every command of every page: (page, words), comments and continuation lines taken care of."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [
            line
            for fence in FENCE.finditer(text)
            if fence[1] in ("", "bash", "console")
            for line in fence[2].replace("\\\n", " ").splitlines()
        ]
        lines += INLINE.findall(FENCE.sub("", text))
        for line in lines:
            words = shlex.split(line, comments=True)
            while words and "=" in words[0] and words[0].split("=")[0].isupper():
                words = words[1:]
            if words and words[0] in TOOLS:
                found.append((name_of(page), tuple(words)))
    return sorted(set(found))
