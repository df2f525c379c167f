"""The Hugging Face Trainer on a small GPT-2, for `make bench`: peer_trainer.py OUTPUT_DIR UPDATES SAVE_STEPS (0: no saves).

Prints the updates/s of the loop, the first ten left out.
"""
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

output, n_updates, save_steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
N_WARM = 10


class Clock(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == N_WARM:
            self.start = time.perf_counter()
        if state.global_step == n_updates:
            print(f"{(n_updates - N_WARM) / (time.perf_counter() - self.start):.6g}", flush=True)


config = GPT2Config(vocab_size=256, n_positions=64, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                    bos_token_id=0, eos_token_id=0)
tokens = torch.randint(0, 256, (2000, 64), generator=torch.Generator().manual_seed(1))
samples = [{"input_ids": row, "labels": row} for row in tokens]
arguments = TrainingArguments(output_dir=output, max_steps=n_updates, per_device_train_batch_size=12, use_cpu=True, report_to=[], disable_tqdm=True,
                              save_strategy="steps" if save_steps else "no", save_steps=save_steps or 500)
Trainer(model=GPT2LMHeadModel(config), args=arguments, train_dataset=samples, callbacks=[Clock()]).train()
