/* Configurations for the tests of options: files in a fresh directory, and the exact message of a refusal. */
#ifndef SGC_TESTS_CONFIG_FILES_H
#define SGC_TESTS_CONFIG_FILES_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/config.h"
#include "unit.h"

static char directory[64];

static inline void in_fresh_directory(void)
{
    strcpy(directory, "/tmp/sgc-config.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static inline void leave(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(sgc_remove_tree(directory), SGC_OK);
}

static inline void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

#define N(list) ((int)(sizeof(list) / sizeof((list)[0])))
#define LOAD(c, file, ...) sgc_config_load(c, file, N(((char *[]){__VA_ARGS__})), (char *[]){__VA_ARGS__})

static inline void accept_file(sgc_config *c, const char *text)
{
    put("x.cfg", text);
    sgc_status st = sgc_config_load(c, "x.cfg", 0, NULL);
    ck_assert_msg(st == SGC_OK, "refused: %s", sgc_err_message());
}

/* The whole message must be the given one. */
static inline void refuse_file(const char *text, const char *message)
{
    sgc_config c;
    put("x.cfg", text);
    ck_assert_int_eq(sgc_config_load(&c, "x.cfg", 0, NULL), SGC_ECONFIG);
    ck_assert_str_eq(sgc_err_message(), message);
    ck_assert_ptr_null(c.origins);
    sgc_err_clear();
}

static inline void refuse_arguments(int n, char *const *args, const char *message)
{
    sgc_config c;
    ck_assert_int_eq(sgc_config_load(&c, NULL, n, args), SGC_ECONFIG);
    ck_assert_str_eq(sgc_err_message(), message);
    sgc_err_clear();
}
#define REFUSE(message, ...) refuse_arguments(N(((char *[]){__VA_ARGS__})), (char *[]){__VA_ARGS__}, message)

#endif
