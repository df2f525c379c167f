#define _GNU_SOURCE 1 /* posix_openpt */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "unit.h"

/* Every test runs in a process of its own, whose stderr is put into a file or a terminal. */
static int seen;

static void catch_in_file(void)
{
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    seen = fileno(f);
    ck_assert_int_eq(dup2(seen, STDERR_FILENO), STDERR_FILENO);
}

static void catch_in_terminal(int n_columns)
{
    seen = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    ck_assert_int_ge(seen, 0);
    ck_assert_int_eq(grantpt(seen), 0);
    ck_assert_int_eq(unlockpt(seen), 0);
    int terminal = open(ptsname(seen), O_RDWR | O_NOCTTY);
    ck_assert_int_ge(terminal, 0);
    ck_assert_int_eq(ioctl(terminal, TIOCSWINSZ, &(struct winsize){.ws_row = 24, .ws_col = (unsigned short)n_columns}), 0);
    ck_assert_int_eq(dup2(terminal, STDERR_FILENO), STDERR_FILENO);
}

static const char *caught(void)
{
    static char text[200000];
    lseek(seen, 0, SEEK_SET); /* fails on a terminal, which has no position */
    ssize_t n = read(seen, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

START_TEST(lines_of_the_main_process_have_date_level_and_text)
{
    catch_in_file();
    sgc_log_warning("%d of %d", 3, 4);
    const char *text = caught();
    int year, month, day, hour, minute, second, n = 0;
    ck_assert_int_eq(sscanf(text, "%4d-%2d-%2d %2d:%2d:%2d %n", &year, &month, &day, &hour, &minute, &second, &n), 6);
    ck_assert_str_eq(text + n, "WARNING  3 of 4\n");
}
END_TEST

START_TEST(lines_below_the_level_are_not_printed)
{
    catch_in_file();
    sgc_log_debug("no");
    sgc_log_set_level(SGC_LOG_ERROR);
    sgc_log_warning("no");
    sgc_log_error("yes");
    sgc_log_critical("yes");
    ck_assert_ptr_null(strstr(caught(), "no"));
    ck_assert_ptr_nonnull(strstr(caught(), "ERROR    yes\n"));
    ck_assert_ptr_nonnull(strstr(caught(), "CRITICAL yes\n"));
}
END_TEST

START_TEST(lines_of_a_replica_wait_with_their_level)
{
    catch_in_file();
    sgc_log_identity(3, "node07", false);
    sgc_log_set_level(SGC_LOG_WARNING);
    sgc_log_info("not wanted");
    sgc_log_warning("first");
    sgc_log_error("second");
    size_t n_bytes;
    const char *pending = sgc_log_pending(&n_bytes);
    ck_assert_uint_eq(n_bytes, sizeof("2first\0003second"));
    ck_assert_mem_eq(pending, "2first\0003second", n_bytes);
    ck_assert_str_eq(caught(), "");
    sgc_log_drop_pending();
    sgc_log_pending(&n_bytes);
    ck_assert_uint_eq(n_bytes, 0);
}
END_TEST

/* As a thread that writes a checkpoint may, while the main thread sends what there is. */
START_TEST(a_line_that_comes_while_others_are_sent_is_not_lost)
{
    size_t n_bytes;
    sgc_log_identity(3, "node07", false);
    sgc_log_error("sent");
    sgc_log_pending(&n_bytes);
    sgc_log_error("new");
    sgc_log_drop_pending();
    ck_assert_str_eq(sgc_log_pending(&n_bytes), "3new");
    ck_assert_uint_eq(n_bytes, sizeof("3new"));
}
END_TEST

START_TEST(a_replica_that_ends_alone_prints_rank_and_node)
{
    catch_in_file();
    sgc_log_identity(3, "node07", false);
    sgc_log_error("lost");
    sgc_log_flush_local();
    ck_assert_ptr_nonnull(strstr(caught(), "ERROR    [rank 3 node07] lost\n"));
    size_t n_bytes;
    sgc_log_pending(&n_bytes);
    ck_assert_uint_eq(n_bytes, 0);
}
END_TEST

START_TEST(a_full_queue_says_how_many_lines_it_dropped)
{
    catch_in_file();
    sgc_log_identity(1, "n", false);
    for (int i = 0; i < 1000; i++) sgc_log_error("%0200d", i); /* 202 bytes each: 324 fit into 64 KiB */
    sgc_log_error("a short one that would fit");
    sgc_log_flush_local();
    ck_assert_ptr_nonnull(strstr(caught(), "00323\n"));
    ck_assert_ptr_null(strstr(caught(), "00324\n"));
    ck_assert_ptr_null(strstr(caught(), "a short one"));
    ck_assert_ptr_nonnull(strstr(caught(), "WARNING  [rank 1 n] 677 more lines dropped\n"));
    sgc_log_error("after");
    size_t n_bytes;
    ck_assert_str_eq(sgc_log_pending(&n_bytes), "3after");
    ck_assert_uint_eq(n_bytes, 7);
}
END_TEST

START_TEST(log_lines_go_above_the_status_line)
{
    catch_in_terminal(80);
    ck_assert(sgc_log_on_terminal());
    sgc_log_status_line("step 1");
    ck_assert_str_eq(caught(), "\r\033[Kstep 1");
    sgc_log_error("a line");
    const char *text = caught();
    ck_assert_int_eq(strncmp(text, "\r\033[K", 4), 0);
    ck_assert_ptr_nonnull(strstr(text, " a line\r\nstep 1"));
    sgc_log_status_line("step 2");
    ck_assert_str_eq(caught(), "\r\033[Kstep 2");
    sgc_log_status_line(NULL);
    ck_assert_str_eq(caught(), "\r\033[K");
    sgc_log_error("b");
    ck_assert_ptr_null(strstr(caught(), "step"));
}
END_TEST

START_TEST(the_status_line_is_cut_to_the_width_of_the_terminal)
{
    catch_in_terminal(5);
    sgc_log_status_line("123456789");
    ck_assert_str_eq(caught(), "\r\033[K1234");
    sgc_log_status_line("\u2588\u2588\u2588\u2588\u2588\u2588"); /* characters of three bytes each */
    ck_assert_str_eq(caught(), "\r\033[K\u2588\u2588\u2588\u2588");
}
END_TEST

START_TEST(there_is_no_status_line_without_a_terminal)
{
    catch_in_file();
    ck_assert(!sgc_log_on_terminal());
    sgc_log_status_line("step 1");
    sgc_log_status_line(NULL);
    ck_assert_str_eq(caught(), "");
}
END_TEST

UNIT_MAIN("log", lines_of_the_main_process_have_date_level_and_text, lines_below_the_level_are_not_printed, lines_of_a_replica_wait_with_their_level,
          a_line_that_comes_while_others_are_sent_is_not_lost, a_replica_that_ends_alone_prints_rank_and_node,
          a_full_queue_says_how_many_lines_it_dropped, log_lines_go_above_the_status_line, the_status_line_is_cut_to_the_width_of_the_terminal,
          there_is_no_status_line_without_a_terminal)
