/* Names in a token file; docs/file-formats.md describes them. */
#ifndef SGC_DATA_TOKENS_IMPL_H
#define SGC_DATA_TOKENS_IMPL_H

#include "data/data.h"

#define SGC_TOKENS_FORMAT "stagecoach tokens"
#define SGC_TOKENS_VERSION 1

#define SGC_TOKENS_ATTR_FORMAT "format"
#define SGC_TOKENS_ATTR_VERSION "format_version"
#define SGC_TOKENS_ATTR_TOKENIZER "tokenizer"
#define SGC_TOKENS_ATTR_VOCAB_SIZE "vocab_size"
#define SGC_TOKENS_ATTR_HASH "source_hash" /* 16 hexadecimal digits, see sgc_text_read */
#define SGC_TOKENS_ATTR_CREATED "created"
#define SGC_TOKENS_ATTR_PROGRAM "stagecoach_version"

#define SGC_TOKENS_TOKENS "/tokens"       /* [n_tokens] uint16 or uint32           */
#define SGC_TOKENS_DOCUMENTS "/documents" /* [n_documents + 1] int64, first tokens */

#endif
