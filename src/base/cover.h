/* What a set of intervals of time covers, in whatever order they come and however they overlap. */
#ifndef SGC_BASE_COVER_H
#define SGC_BASE_COVER_H

#include <stdint.h>

typedef struct sgc_time_span { double start_s, end_s; } sgc_time_span;

typedef struct sgc_cover {
    sgc_time_span *intervals; /* owned */
    int64_t n, capacity;
} sgc_cover;                 /* starts as zeros */

/* An interval for which there is no memory is left out, as is one without length. */
void sgc_cover_add(sgc_cover *c, double start_s, double end_s);
/* Length of what both cover. Puts them in order, which changes nothing of what they cover. */
double sgc_cover_common(sgc_cover *a, sgc_cover *b);
void sgc_cover_free(sgc_cover *c);

#endif
