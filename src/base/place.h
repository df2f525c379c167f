/* Places in one piece of memory for things that are not all alive at the same time. */
#ifndef SGC_BASE_PLACE_H
#define SGC_BASE_PLACE_H

#include <stddef.h>

#include "base/status.h"

typedef struct sgc_span {
    int first, last;  /* alive from time first to time last, both included */
    size_t bytes;
    size_t offset;    /* result: multiple of 64                            */
} sgc_span;

/**
 * Give every span an offset such that spans alive at the same time do not overlap: larger ones first, each at the lowest gap.
 * @param base   offsets start here (multiple of 64).
 * @param total  [out] end of the highest span.
 * @return SGC_ENOMEM.
 */
sgc_status sgc_place(sgc_span *spans, int n, size_t base, size_t *total);

#endif
