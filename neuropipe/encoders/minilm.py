"""MiniLM, a network of sentences (all-MiniLM-L6-v2), with the weights that a package ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropipe.encoders import MINILM, shipped

N_LAYERS, N_HEADS, EPS = 6, 12, 1e-12
LONGEST = 256  # tokens, as it was trained
BATCH = 32


@lru_cache(maxsize=1)
def _loaded() -> tuple[object, dict[str, Tensor]]:
    """Return tokenizer and weights."""
    tokens, weights = shipped(
        MINILM[0], "model/tokenizer.json", "model/model.safetensors", needs=MINILM[1:]
    )  # fmt: skip
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokens))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer, load_file(weights)


def _linear(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    name = f"{name}.LayerNorm"
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], EPS)


def states(w: Mapping[str, Tensor], token: Tensor, seen: Tensor) -> Tensor:
    """Return the last states (sentence, token, 384) of BERT with weights `w`.

    Parameters
    ----------
    token : (sentence, token)
    seen : (sentence, token)
        False where a sentence is padded.

    Notes
    -----
    Source: Devlin et al., BERT, NAACL 2019; distilled by Wang et al., MiniLM, NeurIPS 2020.
    """
    n, length = token.shape
    h = w["embeddings.word_embeddings.weight"][token]
    h = h + w["embeddings.position_embeddings.weight"][:length]
    h = _norm(w, "embeddings", h + w["embeddings.token_type_embeddings.weight"][0])
    for number in range(N_LAYERS):
        layer = f"encoder.layer.{number}"
        q, k, v = (
            _linear(w, f"{layer}.attention.self.{part}", h)
            .view(n, length, N_HEADS, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])
        heard = heard.transpose(1, 2).flatten(2)
        h = _norm(w, f"{layer}.attention.output",
                  h + _linear(w, f"{layer}.attention.output.dense", heard))  # fmt: skip
        wide = F.gelu(_linear(w, f"{layer}.intermediate.dense", h))
        h = _norm(w, f"{layer}.output", h + _linear(w, f"{layer}.output.dense", wide))
    return h


@torch.no_grad()
def features(texts: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield (text, 384) float32 of length 1, 32 at a time, on CPU: the mean of its tokens' states.

    Raises
    ------
    BackendUnavailable
        If a package is not installed.
    """
    tokenizer, w = _loaded()
    for start in range(0, len(texts), BATCH):
        found = tokenizer.encode_batch(list(texts[start : start + BATCH]))  # type: ignore[attr-defined]
        token = torch.tensor([one.ids for one in found])
        seen = torch.tensor([one.attention_mask for one in found]).bool()
        h = states(w, token, seen)
        mean = (h * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
        yield F.normalize(mean, dim=1).numpy()
