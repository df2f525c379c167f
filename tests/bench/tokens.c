/* tokens OUTPUT VOCABULARY TEXT: a token file of ids that are spread over the whole vocabulary, two bytes of the text to each. */
#include <stdio.h>
#include <stdlib.h>

#include "data/data.h"

static sgc_status spread(const sgc_tokenizer *t, const char *text, size_t bytes, int32_t **ids, int64_t *n)
{
    *n = (int64_t)(bytes / 2);
    *ids = malloc(sizeof(**ids) * (bytes / 2 + 1));
    if (!*ids) return sgc_err(SGC_ENOMEM, "no memory for the ids of %zu bytes of text", bytes);
    for (int64_t i = 0; i < *n; i++) {
        int64_t pair = (unsigned char)text[2 * i] * 256 + (unsigned char)text[2 * i + 1];
        (*ids)[i] = (int32_t)(pair * t->vocab_size / 65536);
    }
    return SGC_OK;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: tokens OUTPUT VOCABULARY TEXT\n");
        return 2;
    }
    const sgc_tokenizer t = {.name = "spread", .vocab_size = atoll(argv[2]), .encode = spread};
    if (sgc_tokens_prepare(argv[1], &t, 1, &argv[3]) == SGC_OK) return 0;
    fprintf(stderr, "tokens: %s\n", sgc_err_message());
    return 1;
}
