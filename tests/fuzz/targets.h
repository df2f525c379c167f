/*
 * What is fuzzed: the readers of everything that a checkpoint or a token file brings from outside. Each takes any bytes and must come
 * back with a status. Hashes are made to fit, so that what is behind them is reached.
 */
#ifndef SGC_TESTS_FUZZ_TARGETS_H
#define SGC_TESTS_FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

typedef int fuzz_target(const uint8_t *data, size_t size); /* 0, as libFuzzer wants it */

fuzz_target fuzz_manifest; /* the lines of a manifest, without the last                   */
fuzz_target fuzz_nodes;    /* the lines of a node's part, without the last                */
fuzz_target fuzz_index;    /* checkpoint.h5                                               */
fuzz_target fuzz_shard;    /* a shard file of a checkpoint whose other files are whole    */
fuzz_target fuzz_tokens;   /* a token file                                                */

static const struct { const char *name; fuzz_target *run; } fuzz_targets[] = {
    {"manifest", fuzz_manifest}, {"nodes", fuzz_nodes}, {"index", fuzz_index}, {"shard", fuzz_shard}, {"tokens", fuzz_tokens},
};
enum { N_FUZZ_TARGETS = sizeof(fuzz_targets) / sizeof(fuzz_targets[0]) };

#endif
