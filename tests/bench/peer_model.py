"""GPT-2 in PyTorch, forward + backward + AdamW on random tokens, for `make bench` and tests/gpu/run.sh.

Reads numbers of updates from stdin, one per line; answers each with one line: the tokens/s of every update, then the peak
memory in bytes, resident or of the GPU. So it can stay compiled between the repetitions, without using a core.
With --largest it says instead how many samples about fit into the memory of the GPU.
"""
import argparse
import resource
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

SIZES = {"gpt2": {}, "gpt2-xl": {"n_embd": 1600, "n_layer": 48, "n_head": 25}}

parser = argparse.ArgumentParser()
parser.add_argument("--bf16", action="store_true", help="autocast to bf16")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--length", type=int, default=256)
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--size", choices=SIZES, default="gpt2")
parser.add_argument("--largest", action="store_true")
options = parser.parse_args()

torch.manual_seed(1)
config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, **SIZES[options.size])
model = GPT2LMHeadModel(config).to(options.device).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
ids = torch.randint(0, model.config.vocab_size, (options.batch, options.length), device=options.device)
forward = torch.compile(model) if options.compile else model


def update():
    with torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.bf16):
        loss = forward(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def peak():
    if options.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def largest_batch():
    """By what an update takes for each sample beside weights and optimizer; what PyTorch reserves and cannot use is left out."""
    for _ in range(3):
        update()
    stays = torch.cuda.memory_allocated()
    room = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - stays
    return int(0.95 * room * options.batch / (peak() - stays))


if options.largest:
    print(largest_batch())
    sys.exit()
for line in sys.stdin:
    rates = []
    for _ in range(int(line)):
        start = time.perf_counter()
        update()
        rates.append(ids.numel() / (time.perf_counter() - start))
    print(*(f"{rate:.6g}" for rate in rates), peak(), flush=True)
