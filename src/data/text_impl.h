/* The text files that a token file is made from. */
#ifndef SGC_DATA_TEXT_IMPL_H
#define SGC_DATA_TEXT_IMPL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* HDF5 files begin with these bytes. */
#define SGC_HDF5_SIGNATURE "\211HDF\r\n\032\n"
#define SGC_HDF5_SIGNATURE_BYTES 8

/* Takes one piece of document number `document`; pieces come in order and are cut anywhere. */
typedef sgc_status (*sgc_text_piece)(void *arg, int document, const char *text, size_t bytes);

/**
 * Read all files once, piece by piece, in bounded memory.
 * @param piece  may be NULL: only the hash is wanted.
 * @param hash   [out] XXH3 (64 bits) of the bytes of each file followed by their number (8 bytes, low first).
 * @return SGC_EDATA for a file that cannot be read, is empty, a directory or an HDF5 file; or what piece returns.
 */
sgc_status sgc_text_read(int n_files, char *const *files, sgc_text_piece piece, void *arg, uint64_t *hash);

#endif
