"""A first configuration for somebody's own recordings: what they hold, and which models suit."""

from __future__ import annotations

from neuropipe.drafts.advice import Advice, advise
from neuropipe.drafts.contents import Contents, look
from neuropipe.drafts.page import draft

__all__ = ["Advice", "Contents", "advise", "draft", "look"]
