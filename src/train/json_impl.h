/* JSON as the reports write it: numbers in full precision, what is not finite as null. */
#ifndef SGC_TRAIN_JSON_IMPL_H
#define SGC_TRAIN_JSON_IMPL_H

#include <jansson.h>

#include "base/status.h"
#include "base/util.h"

json_t *sgc_json_number(double x);
/* Appended to out. Takes over the reference to root. SGC_ENOMEM. */
sgc_status sgc_json_text(json_t *root, sgc_str *out);
/* Write to PATH, whole or not at all. Local. Takes over the reference to root. SGC_EIO. */
sgc_status sgc_json_write(json_t *root, const char *path);
/* One line at the end of a file, whole or not at all. Takes over the reference to root. SGC_EIO. */
sgc_status sgc_json_append(json_t *root, int fd, const char *path);

#endif
