/* One Check program per noun: UNIT_MAIN("noun", test_a, test_b, ...) at the end of the file. */
#ifndef SGC_TESTS_UNIT_H
#define SGC_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

#define UNIT_MAIN(noun, ...)                                                       \
    int main(void)                                                                 \
    {                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                \
        Suite *suite = suite_create(noun);                                         \
        TCase *all = tcase_create(noun);                                           \
        tcase_set_timeout(all, 0); /* a slow machine is no failure */              \
        for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)              \
            tcase_add_test(all, tests[i]);                                         \
        suite_add_tcase(suite, all);                                               \
        SRunner *runner = srunner_create(suite);                                   \
        srunner_run_all(runner, CK_ENV);                                           \
        int n_failed = srunner_ntests_failed(runner);                              \
        srunner_free(runner);                                                      \
        return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;                             \
    }

#endif
