#!/usr/bin/env python3
"""Learning rates of transformers' schedules, for tests/unit/test_schedule.c. Needs torch and transformers.

Run: python3 schedules.py > schedules.txt

Each case is a line "schedule TYPE LEARNING_RATE WARMUP_STEPS WARMUP_RATIO N_STEPS", then lines "K RATE" (the rate of update
K + 1), or a line "plateau LEARNING_RATE min|max", then lines "METRIC RATE" (the rate after that evaluation)."""

import math
import warnings

import torch
import transformers
from transformers import get_scheduler

warnings.simplefilter("ignore")  # no optimizer.step() between the steps of the schedules

TYPES = ["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"]


def optimizer(rate):
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def schedule(kind, rate, warmup_steps, warmup_ratio, n_steps):
    n_warmup = warmup_steps if warmup_steps > 0 else math.ceil(n_steps * warmup_ratio)
    adamw = optimizer(rate)
    # transformers divides by zero at k = T when all updates are warm-up
    last = n_steps - 1 if kind == "polynomial" and n_warmup == n_steps else n_steps + 7
    scheduler = get_scheduler(kind, adamw, num_warmup_steps=n_warmup, num_training_steps=n_steps)
    print("schedule", kind, repr(rate), warmup_steps, repr(warmup_ratio), n_steps)
    for k in range(last + 1):
        if k > 0:
            scheduler.step()
        print(k, repr(scheduler.get_last_lr()[0]))


def plateau(rate, mode, metrics):
    adamw = optimizer(rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(adamw, mode=mode)
    print("plateau", repr(rate), mode)
    for metric in metrics:
        scheduler.step(metric)
        print(repr(metric), repr(adamw.param_groups[0]["lr"]))


print(f"# made by schedules.py with torch {torch.__version__} and transformers {transformers.__version__}")
for kind in TYPES:
    schedule(kind, 5e-5, 0, 0.0, 60)
    schedule(kind, 3e-4, 10, 0.0, 47)
    schedule(kind, 1e-3, 0, 0.1, 33)
    schedule(kind, 1e-3, 5, 0.5, 12)
    schedule(kind, 2e-4, 9, 0.0, 9)
    schedule(kind, 2e-4, 20, 0.0, 6)

falling = [3.0 / (1 + 0.3 * i) for i in range(8)]
plateau(1e-3, "min", falling + [0.9] * 12 + [0.89] + [0.8899] * 11 + [0.88] * 40)
plateau(1e-3, "min", [math.inf, math.nan] + [2.0] + [math.nan] * 10 + [1.0] + [math.nan] * 12)
plateau(1e-7, "min", [1.0] * 40)  # changes below 1e-8 are not made
plateau(1e-3, "max", falling + [2.9999] * 5 + [3.1] + [3.1002] * 12 + [3.11] * 5)
