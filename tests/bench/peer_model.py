"""GPT-2 124M in PyTorch, forward + backward + AdamW on random tokens, for `make bench`.

Reads numbers of updates from stdin, one per line; answers each with one line: the tokens/s of every update, then the peak
resident memory in bytes. So it can stay compiled between the repetitions, without using a core.
"""
import argparse
import resource
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

parser = argparse.ArgumentParser()
parser.add_argument("--bf16", action="store_true", help="autocast to bf16")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--length", type=int, default=256)
options = parser.parse_args()

torch.manual_seed(1)
model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
ids = torch.randint(0, model.config.vocab_size, (options.batch, options.length))
forward = torch.compile(model) if options.compile else model


def update():
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bf16):
        loss = forward(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


for line in sys.stdin:
    rates = []
    for _ in range(int(line)):
        start = time.perf_counter()
        update()
        rates.append(ids.numel() / (time.perf_counter() - start))
    print(*(f"{rate:.6g}" for rate in rates), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
