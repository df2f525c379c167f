/* The table of tokenizers. */
#include <stdlib.h>
#include <string.h>

#include "data/data.h"

static sgc_status byte_encode(const sgc_tokenizer *t, const char *text, size_t bytes, int32_t **ids, int64_t *n)
{
    (void)t;
    *n = (int64_t)bytes;
    *ids = malloc(sizeof(**ids) * (bytes ? bytes : 1));
    if (!*ids) return sgc_err(SGC_ENOMEM, "no memory for the ids of %zu bytes of text", bytes);
    for (size_t i = 0; i < bytes; i++)
        (*ids)[i] = (unsigned char)text[i];
    return SGC_OK;
}

static sgc_status byte_decode(const sgc_tokenizer *t, int32_t id, sgc_str *out)
{
    if (id < 0 || id >= t->vocab_size)
        return sgc_err(SGC_EARG, "token %d is no byte: ids of the tokenizer %s are 0 to %lld", id, t->name, (long long)t->vocab_size - 1);
    sgc_str_printf(out, "%c", id);
    return SGC_OK;
}

static const sgc_tokenizer tokenizers[] = {
    {.name = "byte", .vocab_size = 256, .encode = byte_encode, .decode = byte_decode},
};

const sgc_tokenizer *sgc_tokenizer_at(int i)
{
    return i >= 0 && i < (int)(sizeof(tokenizers) / sizeof(tokenizers[0])) ? &tokenizers[i] : NULL;
}

const sgc_tokenizer *sgc_tokenizer_find(const char *name)
{
    const sgc_tokenizer *t;
    for (int i = 0; (t = sgc_tokenizer_at(i)); i++)
        if (strcmp(t->name, name) == 0) return t;
    return NULL;
}
