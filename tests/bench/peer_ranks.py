"""GPT-2 124M on the ranks of mpirun with torch.distributed (gloo), for `make bench`: peer_ranks.py ddp|zero|fsdp2 RENDEZVOUS UPDATES.

RENDEZVOUS is a file that does not exist yet. Rank 0 prints the tokens/s of every update but the first, all ranks together, in one line.
"""
import os
import sys
import time

import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from transformers import GPT2Config, GPT2LMHeadModel

kind, rendezvous, n_updates = sys.argv[1], os.path.abspath(sys.argv[2]), int(sys.argv[3])
rank, world = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)

torch.manual_seed(1)
model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)).train()
vocab_size = model.config.vocab_size
if kind == "fsdp2":
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (world,))
    for block in model.transformer.h:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
else:
    model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    if kind == "zero":
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=torch.optim.AdamW, lr=1e-5, fused=True)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

torch.manual_seed(2 + rank)
ids = torch.randint(0, vocab_size, (2, 256))
rates = []
for _ in range(n_updates):
    start = time.perf_counter()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    dist.barrier()
    rates.append(world * ids.numel() / (time.perf_counter() - start))
if rank == 0:
    print(*(f"{rate:.6g}" for rate in rates[1:]), flush=True)
dist.destroy_process_group()
