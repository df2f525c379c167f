#!/usr/bin/env python3
"""Read a stagecoach checkpoint with h5py and nothing else: read_checkpoint.py CHECKPOINT [NAME...]

Prints step, world size and every tensor with shape, type, mean and norm; with NAME only those. See file-formats.md.
"""
import os, sys
import h5py
import numpy as np


def tensors(directory):
    """Yields path and array of every tensor: model/NAME, optimizer/exp_avg/NAME, optimizer/exp_avg_sq/NAME."""
    with h5py.File(os.path.join(directory, "checkpoint.h5"), "r") as f:
        if f.attrs["format_version"] != 1:
            sys.exit(f"{directory}: format version {f.attrs['format_version']}, this program reads version 1")
        print(f"step {f['state/step'][()]}, written by {f.attrs['world_size']} ranks at ZeRO stage {f.attrs['stage']}")
        for group in ["model"] + ["optimizer/" + slot for slot in f.get("optimizer", [])]:
            for name, x in f[group].items():
                for source in x.virtual_sources():  # a missing shard would read as NaN, without an error
                    if not os.path.exists(os.path.join(directory, source.file_name)):
                        sys.exit(f"{directory}: {source.file_name} is missing")
                yield f"{group}/{name}", x[...]


if __name__ == "__main__":
    for name, x in tensors(sys.argv[1]):
        if len(sys.argv) == 2 or name in sys.argv[2:]:
            y = x.astype(np.float64)
            print(f"{name}  {' x '.join(map(str, x.shape))}  {x.dtype}  mean {y.mean():.6g}  norm {np.sqrt((y * y).sum()):.6g}")
