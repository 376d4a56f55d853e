"""Compile every kernel for one GPU without having it: python compile_offline.py CAPABILITY."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

# Decided before triton is imported: the interpreter compiles nothing.
os.environ["TRITON_INTERPRET"] = "0"

import triton
from neuropipe_kernels import lanes
from neuropipe_kernels.glm_ll import fused as glm
from neuropipe_kernels.glm_ll import tile_kernels as glm_kernels
from neuropipe_kernels.glm_ll import wide as glm_wide
from neuropipe_kernels.glm_ll import wide_kernels
from neuropipe_kernels.hmm_fb import fused, lane_kernels, tile_kernels
from neuropipe_kernels.ntf_sweep import code_kernels as ntf_codes
from neuropipe_kernels.ntf_sweep import fused as ntf
from neuropipe_kernels.ntf_sweep import tile_kernels as ntf_kernels
from neuropipe_kernels.poisson_lowrank_nll import fused as lowrank
from neuropipe_kernels.poisson_lowrank_nll import tile_kernels as lowrank_kernels
from neuropipe_kernels.sos_scan import fused as sos
from neuropipe_kernels.sos_scan import lane_kernels as sos_kernels
from neuropipe_kernels.viterbi import lane_kernels as viterbi_kernels
from neuropipe_kernels.vq_ema import fused as vq
from neuropipe_kernels.vq_ema import tile_kernels as vq_kernels
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

POINTERS = {
    "p_lengths": "*i64",
    "p_scale": "*fp64",
    "p_scale_out": "*fp64",
    "p_evidence": "*fp64",
    "p_score": "*fp64",
    "p_count": "*fp64",
    "p_last": "*i32",
    "p_map": "*i32",
    "p_map_out": "*i32",
    "p_end": "*i32",
    "p_end_out": "*i32",
    "p_first": "*i32",
    "p_mask": "*u8",
    "p_group": "*i64",
    "floor": "fp32",
}


def configurations() -> Iterator[tuple[Any, dict[str, Any], dict[str, str], dict[str, int]]]:
    """Yield (kernel, constants, pointer types that differ, options)."""
    one = {"num_warps": 1}
    yield lanes.unturn_kernel, {"RAGGED": True, "K": 5, "W": 128, "L": 32}, {}, {"num_warps": 4}
    for K, turned, real in ((3, True, "*fp32"), (4, False, "*fp32"), (4, True, "*fp64")):
        meta = {"K": K, "L": fused.LANES[0]}
        types, itemsize = ({}, 4) if real == "*fp32" else ({"real": real}, 8)
        bins = {"RAGGED": turned, "TURNED": K % 4 != 0, "K": K}
        for kernel, block, (rows, warps) in (
            (lane_kernels.transfer_kernel, fused.transfer_block, fused.LANES),
            (lane_kernels.smooth_kernel, fused.block, fused.SMOOTH_LANES),
        ):
            tile = {"B": block(K, itemsize), "L": rows}
            yield kernel, {**bins, **tile}, types, {"num_warps": warps}
        scan = {**meta, "U": fused.ahead(K, itemsize)}
        yield lane_kernels.product_kernel, scan, types, one
        yield lane_kernels.spread_kernel, {"TOP": turned, **scan}, types, one
        yield viterbi_kernels.transfer_kernel, {"RAGGED": turned, **meta}, types, one
        yield viterbi_kernels.product_kernel, meta, types, one
        yield viterbi_kernels.spread_kernel, {"TOP": turned, **meta}, types, one
        bits = {"BITS": 2 if turned else 3}
        point = {**types, "p_ptr": "*u8" if turned else "*i32"}
        yield viterbi_kernels.point_kernel, {"RAGGED": turned, **meta, **bits}, point, one
        yield viterbi_kernels.compose_kernel, {**meta, **bits}, {}, one
        yield viterbi_kernels.link_kernel, {"L": 32, **bits}, {}, one
        walk = {**point, "p_state": "*i64"}
        yield viterbi_kernels.walk_kernel, {"RAGGED": turned, "L": 32, **bits}, walk, one
    for K, KP in ((11, 16), (32, 32)):
        meta = {"K": K, "KP": KP}
        bins = {"RAGGED": True, "TURNED": False}
        for kernel, (rows, warps) in (
            (tile_kernels.transfer_kernel, fused.TRANSFER_TILE),
            (tile_kernels.smooth_kernel, fused.SMOOTH_TILE),
        ):
            yield kernel, {**bins, **meta, "L": rows}, {}, {"num_warps": warps}
        yield tile_kernels.product_kernel, {**meta, "L": 1}, {}, one
        yield tile_kernels.spread_kernel, {"TOP": True, **meta, "L": 1}, {}, one
        yield tile_kernels.spread_kernel, {"TOP": False, **meta, "L": 1}, {}, one
    for family in ("poisson", "gaussian"):
        meta = {"N": 100, "MASKED": True, "FAMILY": family, "FAST": True, "BM": 64, "BN": 64}
        yield glm_kernels.constant_kernel, meta, {}, {"num_warps": 4}
    for link, precision, masked, n in (
        ("softplus", "tf32", False, 128),
        ("softplus", "tf32x3", True, 128),
        ("softplus", "tf32", True, 18),
        ("exp", "tf32", True, 18),
        ("sigmoid", "tf32", True, 18),
        ("bernoulli", "tf32x3", False, 18),
        ("identity", "tf32x3", True, 18),
    ):
        tile = glm.tile(n, 37, precision)
        options = {k: tile.pop(k) for k in ("num_warps", "num_stages")}
        form = {"LINK": link, "PRECISION": precision, "MASKED": masked, "FAST": True}
        meta = {"N": n, "K": 3, "F": 37, **form, **tile}
        yield glm_kernels.ll_kernel, meta, {}, options
        yield glm_kernels.slope_kernel, meta, {}, options
    for link, masked in (("softplus", False), ("identity", True)):
        form = {"N": 130, "K": 3, "MASKED": masked, "LINK": link, "FAST": True}
        tile = {"BM": glm_wide.TILE["BM"], "BN": glm_wide.width(130)}
        warps = {"num_warps": glm_wide.TILE["num_warps"]}
        yield wide_kernels.sum_kernel, {"KEEP": masked, **form, **tile}, {}, warps
        yield (
            wide_kernels.weigh_kernel,
            {"SLOPED": masked, "TURNED": masked, **form, **tile},
            {},
            warps,
        )
        yield wide_kernels.turn_kernel, {"BM": 64, "BN": 64}, {}, warps
        own = {"LEFT": masked, "BM": 32, "BN": 128}
        yield wide_kernels.planes_kernel, own, {"p_out": "*bf16"}, warps
    for columns, precision, stored in (
        (5, "tf32x3", "*fp32"),
        (16, "tf32", "*bf16"),
        (64, "tf32x3", "*bf16"),
    ):
        for over, kernels in (
            ("pair", (ntf_kernels.stored_over_pairs, ntf_kernels.made_over_pairs)),
            ("row", (ntf_kernels.stored_over_rows, ntf_kernels.made_over_rows)),
        ):
            for kernel, form in zip(kernels, ("stored", "min"), strict=True):
                tile = ntf.tile(columns, form, over)
                options = {k: tile.pop(k) for k in ("num_warps", "num_stages")}
                meta = {"R": columns, "PRECISION": precision, **tile}
                types = {"p_x": stored}
                if form == "stored":
                    meta["SHORT"] = stored != "*fp32"
                    types |= {"p_c": "*bf16"} if meta["SHORT"] else {}
                else:
                    meta |= {"FORM": form, **({"BI": ntf.UNITS} if over == "pair" else {})}
                yield kernel, meta, types, options
        meta = {"R": columns, "BR": max(columns, 8), "BM": 64, "GROUPED": columns > 5}
        yield ntf_kernels.update_rows, {**meta, "HALS": columns != 16}, {}, {"num_warps": 4}
        tile = ntf.codes_tile(columns)
        options = {k: tile.pop(k) for k in ("num_warps", "num_stages")}
        types = {"p_x": "*i8", "p_q": "*i8", "p_sum": "*i32", "scale": "fp32"}
        yield ntf_codes.codes_over_line, {"R": columns, **tile}, types, options
        meta = {"R": columns, "BK": tile["BK"], "BR": tile["BR"]}
        yield ntf_codes.digits, meta, types, {"num_warps": 4}
    for latents, neurons, gradient, counts in (
        (3, 19, True, "*u8"),
        (8, 1024, True, "*u8"),
        (8, 100, False, "*u8"),
        (20, 1024, True, "*i64"),
        (64, 100, True, "*fp32"),
    ):
        tile = lowrank.tile(neurons, latents, gradient)
        options = {k: tile.pop(k) for k in ("num_warps", "num_stages")}
        form = {"SPREAD": latents != 3, "WEIGHTED": latents != 8, "GRADIENT": gradient}
        meta = {"P": latents, "WHOLE": counts == "*u8", "EMULATE": False, **form, **tile}
        yield lowrank_kernels.nll_kernel, meta, {"p_y": counts}, options
    for S, real, reverse in ((1, "*fp32", True), (4, "*fp32", False), (8, "*fp64", True)):
        types = {f"p_{name}": "*fp64" for name in ("sos", "z", "zf", "e", "e_out", "z_out", "M")}
        types["real"] = real
        lanes_of = {"L": sos.LANES}
        run = {"S": S, "REVERSE": reverse, "U": sos.AHEAD, **lanes_of}
        yield sos_kernels.power_kernel, {"S": S, "DP": 2 * S}, types, {"num_warps": 4}
        for write in (False, True):
            yield sos_kernels.run_kernel, {**run, "WRITE": write}, types, one
        yield sos_kernels.gather_kernel, {"D": 2 * S, **lanes_of}, types, one
        yield sos_kernels.spread_kernel, {"D": 2 * S, **lanes_of}, types, one
    for dim, n_codes in ((64, 2048), (20, 8192), (128, 64)):
        own = {"D": dim, "BD": vq.width(dim)}
        types = {f"p_{name}": "*i64" for name in ("index", "order", "edge")}
        types |= {"p_short": "*bf16", "p_left": "*i32", "p_n_left": "*i32"}
        types |= {"margin": "fp32", "decay": "fp32", "p_found": "*i64"}
        types |= {"p_sum": "*i64"}
        merge = {"S": 4, "BM": 128}
        yield vq_kernels.best_kernel, merge, {**types, "p_score": "*fp64"}, {"num_warps": 4}
        whole = {**types, "p_count": "*i64", "p_total": "*i64"}
        yield vq_kernels.tally_kernel, {**own, "BM": 16}, whole, {"num_warps": 4}
        for kernel, tile, more in (
            (
                vq_kernels.screen_kernel,
                vq.SCREEN_TILE,
                {"LOW": vq.margin(n_codes)[1], "EMULATE": False},
            ),
            (vq_kernels.exact_kernel, vq.EXACT_TILE, {"LISTED": True}),
            (vq_kernels.exact_kernel, vq.EXACT_TILE, {"LISTED": False}),
            (vq_kernels.read_kernel, {"BK": 16, "num_warps": 4}, {}),
            (vq_kernels.segment_kernel, {"BM": 32, "num_warps": 4}, {}),
            (vq_kernels.scatter_kernel, {"BM": 64, "num_warps": 4}, {}),
            (vq_kernels.update_kernel, {"BK": 16, "num_warps": 4}, {}),
        ):
            options = {k: v for k, v in tile.items() if k.startswith("num_")}
            shape = {k: v for k, v in tile.items() if not k.startswith("num_")}
            yield kernel, {**own, **more, **shape}, types, options


def compile_one(
    kernel: Any, constants: dict[str, Any], types: dict[str, str], options: dict, target: GPUTarget
) -> None:
    """Compile one kernel; raises what the compiler would raise on the device."""
    real = types.get("real", "*fp32")
    signature = {
        name: "constexpr"
        if name in constants
        else types.get(name, POINTERS.get(name, real if name.startswith("p_") else "i32"))
        for name in kernel.arg_names
    }
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if name.startswith("p_")
    }
    triton.compile(ASTSource(kernel, signature, constants, aligned), target=target, options=options)


def main() -> None:
    """Compile all of them and say which fail."""
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    failed = []
    for kernel, constants, types, options in configurations():
        try:
            compile_one(kernel, constants, types, options, target)
        except Exception as fault:  # every kernel is to be reported, whatever it raised
            failed.append(f"{kernel.__module__}.{kernel.__name__} {constants}: {fault}")
    sys.exit("\n".join(failed) if failed else 0)


if __name__ == "__main__":
    main()
