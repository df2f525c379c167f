"""Attention by PyTorch's scaled_dot_product_attention, for tests/gpu/run.sh: FlashAttention and the fastest that cuDNN has, forward and backward.

    peer_attention.py B T SECONDS

Writes lines as tests/bench/kernels does: row, metric, side, unit, rate; five of each. A backend that is not there is left out.
"""
import argparse
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

H, D = 12, 64
SIDES = {"PyTorch flash": SDPBackend.FLASH_ATTENTION, "PyTorch cuDNN": SDPBackend.CUDNN_ATTENTION}

parser = argparse.ArgumentParser()
parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
parser.add_argument("B", type=int)
parser.add_argument("T", type=int)
parser.add_argument("SECONDS", type=float, help="for one rate, at least")
options = parser.parse_args()
B, T = options.B, options.T


def finish():
    if options.device == "cuda":
        torch.cuda.synchronize()


def seconds(work, n):
    finish()
    start = time.perf_counter()
    for _ in range(n):
        work()
    finish()
    return time.perf_counter() - start


def rates(work):
    """Calls per second, five times."""
    seconds(work, 3)
    n = 1
    while seconds(work, n) < options.SECONDS:
        n *= 2
    return [n / seconds(work, n) for _ in range(5)]


torch.manual_seed(1)
# packed, as the product before it leaves them
qkv = torch.randn(B, T, 3, H, D, device=options.device, dtype=torch.bfloat16)
q, k, v = (part.squeeze(2).transpose(1, 2).requires_grad_() for part in qkv.split(1, dim=2))
gradient = torch.randn(B, T, H, D, device=options.device, dtype=torch.bfloat16).transpose(1, 2)
for side, backend in SIDES.items():
    try:
        with sdpa_kernel(backend):
            y = scaled_dot_product_attention(q, k, v, is_causal=True)
            forward = rates(lambda: scaled_dot_product_attention(q, k, v, is_causal=True))
            backward = rates(lambda: torch.autograd.grad(y, (q, k, v), gradient, retain_graph=True))
    except RuntimeError as error:
        print(f"{side}: {error}", file=sys.stderr)
        continue
    for metric, products, measured in (("attention forward", 2, forward), ("attention backward", 5, backward)):
        for rate in measured:
            print("kernels-bf16", metric, side, "GFLOP/s", f"{1e-9 * products * B * T * T * H * D * rate:.6g}", sep="\t")
