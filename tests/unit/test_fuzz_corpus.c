/* The inputs that fuzzing has found worth keeping: each goes through its reader, under sanitizers too. */
#include <dirent.h>

#include "base/util.h"
#include "tests/fuzz/targets.h"
#include "unit.h"

static int run_corpus(const char *name, fuzz_target *run)
{
    char directory[SGC_PATH_MAX], path[SGC_PATH_MAX];
    int n_run = 0;
    snprintf(directory, sizeof(directory), SGC_SOURCE_DIR "/tests/fuzz/corpus/%s", name);
    DIR *d = opendir(directory);
    ck_assert_msg(d != NULL, "there is no %s", directory);
    for (struct dirent *e; (e = readdir(d));) {
        char *bytes;
        size_t n;
        if (e->d_name[0] == '.') continue;
        ck_assert_int_eq(sgc_path_join(path, directory, e->d_name), SGC_OK);
        ck_assert_int_eq(sgc_read_file(path, &bytes, &n), SGC_OK);
        ck_assert_int_eq(run((const uint8_t *)bytes, n), 0);
        free(bytes);
        n_run++;
    }
    closedir(d);
    return n_run;
}

START_TEST(every_input_of_the_corpus_is_read_or_refused) { ck_assert_int_gt(run_corpus(fuzz_targets[_i].name, fuzz_targets[_i].run), 2); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuzz corpus");
    TCase *all = tcase_create("fuzz corpus");
    tcase_set_timeout(all, 0);
    tcase_add_loop_test(all, every_input_of_the_corpus_is_read_or_refused, 0, N_FUZZ_TARGETS);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
