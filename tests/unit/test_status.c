#include <errno.h>
#include <string.h>

#include "base/status.h"
#include "unit.h"

static sgc_status inner(void) { return sgc_err(SGC_EIO, "the disk %s is full", "/scratch"); }

static sgc_status outer(void)
{
    sgc_status st = SGC_OK;
    SGC_TRY(inner());
done:
    SGC_KEEP(sgc_err(SGC_EDATA, "a later error, of clean-up"));
    return st;
}

START_TEST(the_first_error_is_kept_with_its_frames)
{
    ck_assert_int_eq(outer(), SGC_EIO);
    ck_assert_str_eq(sgc_err_message(), "the disk /scratch is full");
    ck_assert_str_eq(sgc_err_origin(), "");
    ck_assert_ptr_nonnull(strstr(sgc_err_frames(), "test_status.c"));
    ck_assert_ptr_nonnull(strstr(sgc_err_frames(), "inner()"));
    sgc_err_clear();
    ck_assert_str_eq(sgc_err_message(), "");
    ck_assert_str_eq(sgc_err_frames(), "");
}
END_TEST

START_TEST(the_reason_of_the_system_is_appended)
{
    errno = ENOSPC;
    ck_assert_int_eq(sgc_err_errno(SGC_EIO, "cannot write %s", "x.h5"), SGC_EIO);
    ck_assert_str_eq(sgc_err_message(), "cannot write x.h5: No space left on device");
}
END_TEST

START_TEST(an_error_of_another_rank_says_where)
{
    ck_assert_int_eq(sgc_err_remote(SGC_EDATA, 2, "node07", "no such file"), SGC_EDATA);
    ck_assert_str_eq(sgc_err_message(), "no such file");
    ck_assert_str_eq(sgc_err_origin(), "rank 2 on node07");
}
END_TEST

START_TEST(long_messages_and_many_frames_are_cut)
{
    static char name[2 * SGC_ERR_BYTES];
    memset(name, 'x', sizeof(name) - 1);
    sgc_err(SGC_EARG, "%s", name);
    ck_assert_uint_eq(strlen(sgc_err_message()), SGC_ERR_BYTES - 1);
    ck_assert_str_eq(sgc_err_message() + strlen(sgc_err_message()) - 3, "...");
    for (int i = 0; i < 1000; i++) sgc_err_frame("file.c", i, "call()");
    ck_assert_ptr_nonnull(strstr(sgc_err_frames(), "file.c:0: call()\n"));
    ck_assert_int_eq(sgc_err_frames()[strlen(sgc_err_frames()) - 1], '\n');
}
END_TEST

START_TEST(every_thread_has_its_own_error)
{
    sgc_err(SGC_EARG, "of the main thread");
    int n_seen = 0;
#pragma omp parallel num_threads(3) reduction(+ : n_seen)
    n_seen += sgc_err_message()[0] != '\0';
    ck_assert_int_eq(n_seen, 1);
}
END_TEST

UNIT_MAIN("status", the_first_error_is_kept_with_its_frames, the_reason_of_the_system_is_appended, an_error_of_another_rank_says_where,
          long_messages_and_many_frames_are_cut, every_thread_has_its_own_error)
