/* Data: tokenizers, token files, samples in a seekable random order, batches. */
#ifndef SGC_DATA_DATA_H
#define SGC_DATA_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/util.h"

/* Tokenizers: an ops table, chosen by name. */
typedef struct sgc_tokenizer {
    const char *name;
    int64_t vocab_size;
    /* Text to ids; *ids is owned by the caller (free). */
    sgc_status (*encode)(const struct sgc_tokenizer *t, const char *text, size_t bytes, int32_t **ids, int64_t *n);
    /* Appends the bytes of one id. */
    sgc_status (*decode)(const struct sgc_tokenizer *t, int32_t id, sgc_str *out);
} sgc_tokenizer;
const sgc_tokenizer *sgc_tokenizer_find(const char *name); /* NULL if unknown */
const sgc_tokenizer *sgc_tokenizer_at(int i);              /* all of them, by number; NULL after the last */

/* A token file, mapped read-only. See docs/file-formats.md. */
typedef struct sgc_tokens {
    char path[SGC_PATH_MAX];
    char tokenizer[64];
    int64_t vocab_size;       /* of the tokenizer                                  */
    int64_t n_tokens, n_documents;
    int token_bytes;          /* 2 or 4                                            */
    uint64_t source_hash;     /* XXH3 of all source bytes and the size of each      */
    const void *token;        /* [n_tokens], borrowed from the mapping, any alignment */
    void *map;                /* owned, of the whole file                          */
    size_t map_bytes;
} sgc_tokens;

/**
 * Make a token file from text files, each one document. Local; written under a temporary name, synced, renamed.
 * @return SGC_EDATA for unreadable or empty text (names the file), SGC_EIO.
 */
sgc_status sgc_tokens_prepare(const char *output, const sgc_tokenizer *t, int n_files, char *const *files);
sgc_status sgc_tokens_open(sgc_tokens *f, const char *path); /* SGC_EDATA if it is not a token file */
void sgc_tokens_close(sgc_tokens *f);
/* Does the token file at path hold exactly these sources with this tokenizer? Compares the stored hash with the files'. */
bool sgc_tokens_fit(const char *path, const sgc_tokenizer *t, int n_files, char *const *files);
/* Copy tokens [first, first + n) as int32. SGC_EDATA if one is not below vocab_size: the file is damaged. */
sgc_status sgc_tokens_read(const sgc_tokens *f, int64_t first, int64_t n, int32_t *out);

/* Samples: consecutive blocks of one token file. */
typedef struct sgc_samples {
    const sgc_tokens *tokens; /* borrowed                            */
    int64_t first, n, block;  /* sample i is tokens [(first + i) * block, + block) */
} sgc_samples;

/* O(1) permutation of [0, n): where position i of an epoch's order is found. Keyed by (seed, epoch); a bijection. */
int64_t sgc_permute(uint64_t seed, int64_t epoch, int64_t n, int64_t i);

/*
 * The stream of training samples: epoch after epoch, each padded to epoch_samples by looping to its own first samples (or cut,
 * drop_last). A position in it is one integer: the number of samples that the whole job has taken.
 */
typedef struct sgc_sampler {
    uint64_t seed;
    int64_t n;                /* samples                                               */
    int64_t epoch_samples;    /* L * B * W: positions of an epoch                      */
} sgc_sampler;

/* multiple: B * W, or B * W * G in full_determinism. SGC_EDATA if drop_last leaves nothing (says the numbers). */
sgc_status sgc_sampler_make(sgc_sampler *s, uint64_t seed, int64_t n, int64_t multiple, bool drop_last);
int64_t sgc_sampler_at(const sgc_sampler *s, int64_t position); /* sample index in [0, n) */

#endif
