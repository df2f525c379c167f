#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/util.h"
#include "unit.h"

static char directory[64];

static void enter_directory(void)
{
    strcpy(directory, "/tmp/sgc-util-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static void leave_directory(void) { ck_assert_int_eq(sgc_remove_tree(directory), SGC_OK); }

START_TEST(paths_are_joined_with_one_slash)
{
    char path[SGC_PATH_MAX];
    ck_assert_int_eq(sgc_path_join(path, "a", "b"), SGC_OK);
    ck_assert_str_eq(path, "a/b");
    ck_assert_int_eq(sgc_path_join(path, "a/", "b"), SGC_OK);
    ck_assert_str_eq(path, "a/b");
    ck_assert_int_eq(sgc_path_join(path, "", "b"), SGC_OK);
    ck_assert_str_eq(path, "b");
    char longest[SGC_PATH_MAX];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    ck_assert_int_eq(sgc_path_join(path, longest, "b"), SGC_EARG);
}
END_TEST

START_TEST(directories_are_made_with_their_parents_and_removed_with_their_content)
{
    enter_directory();
    ck_assert_int_eq(sgc_make_dirs("a/b//c/"), SGC_OK);
    ck_assert_int_eq(sgc_make_dirs("a/b/c"), SGC_OK);
    ck_assert(sgc_path_exists("a/b/c"));
    ck_assert_int_eq(sgc_write_file_atomic("kept", "x", 1), SGC_OK);
    ck_assert_int_eq(sgc_write_file_atomic("a/b/file", "x", 1), SGC_OK);
    ck_assert_int_eq(symlink("../../kept", "a/b/link"), 0);
    ck_assert_int_eq(sgc_remove_tree("a"), SGC_OK);
    ck_assert(!sgc_path_exists("a"));
    ck_assert(sgc_path_exists("kept"));
    ck_assert_int_eq(sgc_remove_tree("a"), SGC_OK);
    ck_assert_int_eq(sgc_remove_tree("kept"), SGC_OK);
    ck_assert(!sgc_path_exists("kept"));
    leave_directory();
}
END_TEST

START_TEST(a_file_in_the_way_of_a_directory_is_named)
{
    enter_directory();
    ck_assert_int_eq(sgc_write_file_atomic("a", "x", 1), SGC_OK);
    ck_assert_int_eq(sgc_make_dirs("a"), SGC_EIO);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "directory a: a file"));
    sgc_err_clear();
    ck_assert_int_eq(sgc_make_dirs("a/b"), SGC_EIO);
    leave_directory();
}
END_TEST

START_TEST(what_is_written_is_read_back)
{
    enter_directory();
    char *text;
    size_t n_bytes;
    ck_assert_int_eq(sgc_write_file_atomic("f", "one\0two", 7), SGC_OK);
    ck_assert_int_eq(sgc_read_file("f", &text, &n_bytes), SGC_OK);
    ck_assert_uint_eq(n_bytes, 7);
    ck_assert_mem_eq(text, "one\0two", 8); /* and the NUL behind it */
    free(text);
    ck_assert_int_eq(sgc_write_file_atomic("f", "", 0), SGC_OK);
    ck_assert_int_eq(sgc_read_file("f", &text, &n_bytes), SGC_OK);
    ck_assert_uint_eq(n_bytes, 0);
    ck_assert_str_eq(text, "");
    free(text);
    static char big[100000];
    memset(big, 'x', sizeof(big));
    ck_assert_int_eq(sgc_write_file_atomic("f", big, sizeof(big)), SGC_OK);
    ck_assert_int_eq(sgc_read_file("f", &text, &n_bytes), SGC_OK);
    ck_assert_uint_eq(n_bytes, sizeof(big));
    ck_assert_mem_eq(text, big, sizeof(big));
    free(text);
    ck_assert(!sgc_path_exists("f.tmp"));
    ck_assert_int_eq(sgc_read_file("/proc/self/stat", &text, &n_bytes), SGC_OK); /* a file that says size 0 */
    ck_assert_uint_gt(n_bytes, 0);
    free(text);
    leave_directory();
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_named)
{
    char *text;
    size_t n_bytes;
    ck_assert_int_eq(sgc_read_file("/no/such/file", &text, &n_bytes), SGC_EDATA);
    ck_assert_str_eq(sgc_err_message(), "cannot read /no/such/file: No such file or directory");
    sgc_err_clear();
    ck_assert_int_eq(sgc_read_file("/tmp", &text, &n_bytes), SGC_EDATA);
    ck_assert_str_eq(sgc_err_message(), "cannot read /tmp: Is a directory");
}
END_TEST

START_TEST(a_failed_write_leaves_what_was_there)
{
    enter_directory();
    ck_assert_int_eq(sgc_make_dirs("f/g"), SGC_OK);
    ck_assert_int_eq(sgc_write_file_atomic("f", "x", 1), SGC_EIO); /* the rename onto a directory fails */
    ck_assert(sgc_path_exists("f/g"));
    ck_assert(!sgc_path_exists("f.tmp"));
    sgc_err_clear();
    ck_assert_int_eq(sgc_write_file_atomic("no/f", "x", 1), SGC_EIO);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "no/f.tmp: No such file"));
    sgc_err_clear();
    int full = open("/dev/full", O_WRONLY);
    ck_assert_int_ge(full, 0);
    ck_assert_int_eq(sgc_pwrite_all(full, "x", 1, 0, "/dev/full"), SGC_EIO);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "/dev/full: No space left"));
    close(full);
    leave_directory();
}
END_TEST

START_TEST(a_short_file_is_an_error)
{
    enter_directory();
    ck_assert_int_eq(sgc_write_file_atomic("f", "0123456789", 10), SGC_OK);
    int fd = open("f", O_RDONLY);
    char part[8];
    ck_assert_int_eq(sgc_pread_all(fd, part, 8, 2, "f"), SGC_OK);
    ck_assert_mem_eq(part, "23456789", 8);
    ck_assert_int_eq(sgc_pread_all(fd, part, 8, 5, "f"), SGC_EIO);
    ck_assert_str_eq(sgc_err_message(), "f is too short: it ends 3 bytes early");
    close(fd);
    leave_directory();
}
END_TEST

START_TEST(files_and_directories_are_synced)
{
    enter_directory();
    ck_assert_int_eq(sgc_write_file_atomic("f", "x", 1), SGC_OK);
    ck_assert_int_eq(sgc_fsync_path("f"), SGC_OK);
    ck_assert_int_eq(sgc_fsync_path("."), SGC_OK);
    ck_assert_int_eq(sgc_fsync_path("missing"), SGC_EIO);
    leave_directory();
}
END_TEST

START_TEST(text_grows_as_needed)
{
    sgc_str s = {0};
    for (int i = 0; i < 1000; i++) sgc_str_printf(&s, "%d,", i % 10);
    ck_assert_uint_eq(s.n, 2000);
    ck_assert_uint_eq(strlen(s.text), 2000);
    sgc_str_append(&s, "a\0b", 3);
    ck_assert_mem_eq(s.text + 1998, "9,a\0b", 6);
    sgc_str_free(&s);
    ck_assert_ptr_null(s.text);
    sgc_str_printf(&s, "%s", "");
    ck_assert_str_eq(s.text, "");
    sgc_str_free(&s);
}
END_TEST

START_TEST(edit_distance_counts_transpositions_once)
{
    ck_assert_int_eq(sgc_edit_distance("", ""), 0);
    ck_assert_int_eq(sgc_edit_distance("", "abc"), 3);
    ck_assert_int_eq(sgc_edit_distance("abc", ""), 3);
    ck_assert_int_eq(sgc_edit_distance("learning_rate", "learning_rate"), 0);
    ck_assert_int_eq(sgc_edit_distance("learning_rate", "learnign_rate"), 1);
    ck_assert_int_eq(sgc_edit_distance("kitten", "sitting"), 3);
    ck_assert_int_eq(sgc_edit_distance("ab", "ba"), 1);
}
END_TEST

START_TEST(bytes_are_written_with_a_unit)
{
    char out[32];
    ck_assert_str_eq(sgc_format_bytes(0, out), "0 B");
    ck_assert_str_eq(sgc_format_bytes(1023, out), "1023 B");
    ck_assert_str_eq(sgc_format_bytes(1536, out), "1.5 KiB");
    ck_assert_str_eq(sgc_format_bytes(3.0 * (1 << 30), out), "3.0 GiB");
}
END_TEST

START_TEST(the_hash_is_xxh3)
{
    ck_assert(sgc_hash64("", 0) == 0x2d06800538d394c2u); /* the published value of the empty input */
    ck_assert(sgc_hash64("a", 1) != sgc_hash64("b", 1));
    static char bytes[300000]; /* the library's plain function, whichever instructions ours is made of */
    for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (char)(i * i >> 7);
    for (size_t n = 1; n < sizeof(bytes); n += n / 2 + 1) ck_assert(sgc_hash64(bytes, n) == XXH3_64bits(bytes, n));
}
END_TEST

START_TEST(a_hash_of_pieces_is_that_of_the_whole)
{
    char bytes[1000];
    sgc_hasher *h = sgc_hasher_new();
    ck_assert_ptr_nonnull(h);
    for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (char)(i * i);
    ck_assert(sgc_hasher_value(h) == sgc_hash64("", 0));
    for (size_t i = 0; i < sizeof(bytes); i += 125) sgc_hasher_add(h, bytes + i, 125);
    ck_assert(sgc_hasher_value(h) == sgc_hash64(bytes, sizeof(bytes)));
    sgc_hasher_free(h);
}
END_TEST

START_TEST(time_counts_from_the_start_of_the_process)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    double first = sgc_time_since_start_s(); /* the first call: the sleep before it counts all the same */
    ck_assert_double_ge(first, 0.08);        /* the kernel tells the start to 10 ms */
    ck_assert_double_ge(sgc_time_since_start_s(), first);
    char iso[32];
    sgc_time_iso(iso);
    int year, month, day, hour, minute, second, n = 0;
    ck_assert_int_eq(sscanf(iso, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &year, &month, &day, &hour, &minute, &second, &n), 6);
    ck_assert_int_eq(n, 20);
}
END_TEST

START_TEST(the_node_name_has_no_domain)
{
    ck_assert_uint_gt(strlen(sgc_node_name()), 0);
    ck_assert_ptr_null(strchr(sgc_node_name(), '.'));
}
END_TEST

UNIT_MAIN("util", paths_are_joined_with_one_slash, directories_are_made_with_their_parents_and_removed_with_their_content,
          a_file_in_the_way_of_a_directory_is_named, what_is_written_is_read_back, a_file_that_cannot_be_read_is_named,
          a_failed_write_leaves_what_was_there, a_short_file_is_an_error, files_and_directories_are_synced, text_grows_as_needed,
          edit_distance_counts_transpositions_once, bytes_are_written_with_a_unit, the_hash_is_xxh3, a_hash_of_pieces_is_that_of_the_whole,
          time_counts_from_the_start_of_the_process, the_node_name_has_no_domain)
