"""``python -m neuropipe.cli`` is the same as ``neuropipe``."""

from neuropipe.cli import main

main()
