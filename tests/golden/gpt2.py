#!/usr/bin/env python3
"""Losses, gradients and 20 updates of two small GPT-2 in PyTorch, for tests/unit/test_golden.c. Needs torch, transformers, h5py.

Run: python3 gpt2.py gpt2.h5

Group per model (tied, untied), its attributes the configuration:
  weights/NAME, gradients/NAME   float32, by the names of Hugging Face without "transformer."
  tokens, labels [B, T]          -100 is ignored; attributes loss (smoothed), eval_loss (not smoothed), means over the labels scored
  training/tokens, labels [20, 4, T]; losses, grad_norms (before clipping), learning_rates [20]: of each update; attributes: L2 norms
                                 of the weights that decay, of exp_avg and of exp_avg_sq after the last update

Computed in float64 from float32 weights. Weights and gradients keep few bits, so that the file compresses: weights exactly
(they are multiples of 2^-10), gradients to 2^-17 of each element."""

import sys

import h5py
import numpy as np
import torch
from torch.nn.functional import log_softmax
from transformers import GPT2Config, GPT2LMHeadModel, get_scheduler

N_UPDATES, N_WARMUP, LEARNING_RATE, WEIGHT_DECAY, BETAS, MAX_GRAD_NORM = 20, 5, 1e-3, 0.1, (0.9, 0.95), 1.0

MODELS = {
    "tied": dict(
        config=dict(n_layer=3, n_head=3, n_embd=48, n_positions=40, vocab_size=97, activation_function="gelu_new"), B=3, T=37, smoothing=0.0
    ),
    "untied": dict(
        config=dict(n_layer=2, n_head=5, n_embd=40, n_positions=33, vocab_size=61, activation_function="gelu", n_inner=100, tie_word_embeddings=False),
        B=2,
        T=33,
        smoothing=0.1,
    ),
}


def make_model(config):
    model = GPT2LMHeadModel(
        GPT2Config(**config, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager", bos_token_id=0, eos_token_id=0)
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            spread = 0.05 if name.endswith("bias") else 0.1
            p.copy_(torch.round(1024 * ((".ln_" in name and name.endswith("weight")) + spread * torch.randn(p.shape))) / 1024)
    return model.double().eval()


def batch(n_rows, T, vocab_size, ignore):
    """Rows in which a token mostly tells the next one, so that there is something to learn."""
    tokens = torch.randint(vocab_size, (n_rows, T))
    for t in range(1, T):
        known = torch.rand(n_rows) < 0.8
        tokens[:, t] = torch.where(known, (5 * tokens[:, t - 1] + 3) % vocab_size, tokens[:, t])
    labels = tokens.clone()
    if ignore:
        labels[torch.rand(labels.shape) < 0.2] = -100
        labels[0, : T // 2] = -100
    return tokens, labels


def mean_loss(model, tokens, labels, smoothing):
    logp = log_softmax(model(tokens).logits[:, :-1], dim=-1)
    target = labels[:, 1:]
    nll = -logp.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    loss = (1 - smoothing) * nll - smoothing * logp.mean(-1)
    return loss[target != -100].mean()


def short(name):
    return name.removeprefix("transformer.")


def norm_of(tensors):
    return sum((x.detach() ** 2).sum().item() for x in tensors) ** 0.5


def rounded(x):
    """float32 with 16 bits of mantissa."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x40)) & np.uint32(0xFFFFFF80)).view(np.float32)


def main(path):
    torch.manual_seed(2024)
    torch.set_num_threads(1)
    compressed = dict(compression="gzip", compression_opts=9, shuffle=True)
    with h5py.File(path, "w") as f:
        f.attrs["made_by"] = f"gpt2.py with torch {torch.__version__}"
        for kind, spec in MODELS.items():
            config, B, T, smoothing = spec["config"], spec["B"], spec["T"], spec["smoothing"]
            ignore, vocab_size = smoothing > 0, spec["config"]["vocab_size"]
            model = make_model(config)
            g = f.create_group(kind)
            for key, value in config.items():
                g.attrs[key] = np.bytes_(value) if isinstance(value, str) else int(value)
            g.attrs["label_smoothing"] = smoothing

            tokens, labels = batch(B, T, vocab_size, ignore)
            g.create_dataset("tokens", data=tokens.numpy().astype(np.int32), **compressed)
            g.create_dataset("labels", data=labels.numpy().astype(np.int32), **compressed)
            loss = mean_loss(model, tokens, labels, smoothing)
            loss.backward()
            g.attrs["loss"] = loss.item()
            g.attrs["eval_loss"] = mean_loss(model, tokens, labels, 0.0).item()
            if smoothing == 0:  # that the shift is Hugging Face's
                assert abs(model(tokens, labels=labels).loss.item() - loss.item()) < 1e-6  # their loss is in float32
            for name, p in model.named_parameters():
                weight = p.detach().numpy().astype(np.float32)
                assert (weight == p.detach().numpy()).all()
                g.create_dataset("weights/" + short(name), data=weight, **compressed)
                g.create_dataset("gradients/" + short(name), data=rounded(p.grad.numpy()), **compressed)

            decay = [p for n, p in model.named_parameters() if not n.endswith("bias") and ".ln_" not in n]
            rest = [p for n, p in model.named_parameters() if n.endswith("bias") or ".ln_" in n]
            adamw = torch.optim.AdamW(
                [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}], lr=LEARNING_RATE, betas=BETAS, eps=1e-8
            )
            schedule = get_scheduler("linear", adamw, num_warmup_steps=N_WARMUP, num_training_steps=N_UPDATES)
            rows = {"tokens": [], "labels": [], "losses": [], "grad_norms": [], "learning_rates": []}
            for _ in range(N_UPDATES):
                tokens, labels = batch(4, T, vocab_size, ignore)
                model.zero_grad()
                loss = mean_loss(model, tokens, labels, smoothing)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
                for key, value in zip(rows, (tokens.numpy(), labels.numpy(), loss.item(), norm.item(), schedule.get_last_lr()[0])):
                    rows[key].append(value)
                adamw.step()
                schedule.step()
            for key, values in rows.items():
                data = np.array(values, dtype=np.int32 if key in ("tokens", "labels") else np.float64)
                g.create_dataset("training/" + key, data=data, **compressed)
            g["training"].attrs["weight_norm"] = norm_of(decay)
            g["training"].attrs["exp_avg_norm"] = norm_of([adamw.state[p]["exp_avg"] for p in decay + rest])
            g["training"].attrs["exp_avg_sq_norm"] = norm_of([adamw.state[p]["exp_avg_sq"] for p in decay + rest])
            print(kind, sum(p.numel() for p in model.parameters()), "parameters, losses", np.round(rows["losses"], 3), "norms", np.round(rows["grad_norms"], 2))


main(sys.argv[1])
