/* The text of a configuration file with its @include lines replaced by what they name, and where each line is from. */
#ifndef SGC_CONF_SOURCE_IMPL_H
#define SGC_CONF_SOURCE_IMPL_H

#include <stdbool.h>

#include "conf/option_impl.h"

typedef struct sgc_source_line { int file, line; } sgc_source_line;
typedef struct sgc_wide_number { int line; char *name; } sgc_wide_number;

typedef struct sgc_source {
    sgc_str text;
    char **files;              /* owned, n_files names            */
    int n_files;
    sgc_source_line *lines;    /* owned: line k + 1 of the text   */
    int n_lines, n_lines_capacity;
    sgc_wide_number *wide;     /* owned: integers that libconfig would wrap */
    int n_wide;
} sgc_source;

/**
 * Read a file and all that it includes, paths relative to the including file. Zero-initialise s.
 * Integers that do not fit 31 bits and have no L are recorded as problems: libconfig 1.5 wraps them in silence.
 * @return false after a problem that makes parsing pointless (unreadable file, unclosed string or comment).
 */
bool sgc_source_read(sgc_source *s, const char *path, sgc_problems *p);
void sgc_source_free(sgc_source *s);

/* "conf/x.cfg:12" of a line of the text (from 1). Owned by the caller. */
char *sgc_source_where(const sgc_source *s, int line);
/* Was the number given to `name`, which stands on that line, recorded as a problem? */
bool sgc_source_is_wide(const sgc_source *s, int line, const char *name);
/* The text of a line without blanks around, at most 60 characters; "" past the end. */
void sgc_source_excerpt(const sgc_source *s, int line, char out[64]);

#endif
