/* Token files: what is written, what is read back, what is refused. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/h5.h"
#include "data/data.h"
#include "unit.h"

static char directory[] = "/tmp/stagecoach-tokens-XXXXXX";
static char text_a[64], text_b[64], output[128];

static void write_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

static void write_text(const char *path, const char *text) { write_bytes(path, text, strlen(text)); }

static void setup(void)
{
    strcpy(directory + sizeof(directory) - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(text_a, sizeof(text_a), "%s/a.txt", directory);
    snprintf(text_b, sizeof(text_b), "%s/b.txt", directory);
    snprintf(output, sizeof(output), "%s/text.h5", directory);
    write_text(text_a, "In the beginning\n");
    write_text(text_b, "\xc3\xa9t\xc3\xa9\n");
}

static void teardown(void) { sgc_remove_tree(directory); }

static sgc_status prepare(int n)
{
    char *files[] = {text_a, text_b};
    return sgc_tokens_prepare(output, sgc_tokenizer_find("byte"), n, files);
}

static bool fit(int n)
{
    char *files[] = {text_a, text_b};
    return sgc_tokens_fit(output, sgc_tokenizer_find("byte"), n, files);
}

static int n_files_in_directory(void)
{
    int n = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void assert_refused(sgc_status got, sgc_status expected, const char *words)
{
    ck_assert_int_eq(got, expected);
    ck_assert_msg(strstr(sgc_err_message(), words) != NULL, "'%s' is not in: %s", words, sgc_err_message());
    sgc_err_clear();
}

static void assert_unusable(const char *words)
{
    sgc_tokens f;
    sgc_status st = sgc_tokens_open(&f, output);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), output));
    assert_refused(st, SGC_EDATA, words);
    ck_assert_ptr_null(f.map);
}

START_TEST(tokens_of_two_texts_are_their_bytes)
{
    sgc_tokens f;
    int32_t ids[23];
    ck_assert_int_eq(prepare(2), SGC_OK);
    ck_assert_int_eq(sgc_tokens_open(&f, output), SGC_OK);
    ck_assert_int_eq(f.n_tokens, 17 + 6);
    ck_assert_int_eq(f.n_documents, 2);
    ck_assert_int_eq(f.token_bytes, 2);
    ck_assert_int_eq(f.vocab_size, 256);
    ck_assert_str_eq(f.tokenizer, "byte");
    ck_assert_int_eq(sgc_tokens_read(&f, 0, 23, ids), SGC_OK);
    for (int i = 0; i < 23; i++)
        ck_assert_int_eq(ids[i], (unsigned char)"In the beginning\n\xc3\xa9t\xc3\xa9\n"[i]);
    ck_assert_int_eq(sgc_tokens_read(&f, 17, 2, ids), SGC_OK);
    ck_assert_int_eq(ids[0], 0xc3);
    sgc_tokens_close(&f);
    ck_assert_int_eq(n_files_in_directory(), 3); /* nothing temporary is left */
}
END_TEST

START_TEST(text_of_several_pieces_comes_back)
{
    const size_t n = ((size_t)5 << 19) + 7;
    char *text = malloc(n);
    int32_t *ids = malloc(n * sizeof(*ids));
    sgc_tokens f;
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(i * 2654435761u >> 13);
    write_bytes(text_a, text, n);
    ck_assert_int_eq(prepare(2), SGC_OK);
    ck_assert_int_eq(sgc_tokens_open(&f, output), SGC_OK);
    ck_assert_int_eq(f.n_tokens, (int64_t)n + 6);
    ck_assert_int_eq(sgc_tokens_read(&f, 0, (int64_t)n, ids), SGC_OK);
    for (size_t i = 0; i < n; i++)
        if (ids[i] != (unsigned char)text[i]) ck_abort_msg("token %zu is %d", i, ids[i]);
    sgc_tokens_close(&f);
    free(ids);
    free(text);
}
END_TEST

START_TEST(text_of_exactly_one_piece_comes_back)
{
    const size_t n = (size_t)1 << 20;
    char *text = calloc(1, n);
    sgc_tokens f;
    write_bytes(text_a, text, n);
    ck_assert_int_eq(prepare(1), SGC_OK);
    ck_assert_int_eq(sgc_tokens_open(&f, output), SGC_OK);
    ck_assert_int_eq(f.n_tokens, (int64_t)n);
    sgc_tokens_close(&f);
    free(text);
}
END_TEST

START_TEST(a_token_file_fits_only_the_text_it_was_made_from)
{
    struct stat before;
    ck_assert(!fit(2));
    ck_assert_str_eq(sgc_err_message(), "");
    ck_assert_int_eq(prepare(2), SGC_OK);
    ck_assert(fit(2));
    ck_assert(!fit(1));
    stat(text_b, &before);
    write_text(text_b, "\xc3\xa9t\xc3\xa8\n"); /* same size and time, one bit other */
    struct timespec times[2] = {before.st_atim, before.st_mtim};
    ck_assert_int_eq(utimensat(AT_FDCWD, text_b, times, 0), 0);
    ck_assert(!fit(2));
    write_text(text_b, "\xc3\xa9t\xc3\xa9\n");
    ck_assert(fit(2));
    write_text(text_a, "In the beginning\n\xc3"); /* the same bytes, cut elsewhere */
    write_text(text_b, "\xa9t\xc3\xa9\n");
    ck_assert(!fit(2));
    unlink(text_b);
    ck_assert(!fit(2));
    ck_assert_str_eq(sgc_err_message(), "");
}
END_TEST

START_TEST(empty_missing_or_foreign_text_is_refused_and_leaves_nothing)
{
    write_text(text_b, "");
    assert_refused(prepare(2), SGC_EDATA, "b.txt is empty");
    unlink(text_b);
    assert_refused(prepare(2), SGC_EDATA, "b.txt: No such file");
    ck_assert_int_eq(mkdir(text_b, 0777), 0);
    assert_refused(prepare(2), SGC_EDATA, "b.txt is a directory");
    rmdir(text_b);
    ck_assert_int_eq(n_files_in_directory(), 1);
    ck_assert_int_eq(prepare(1), SGC_OK);
    ck_assert_int_eq(rename(output, text_b), 0);
    assert_refused(prepare(2), SGC_EDATA, "b.txt is an HDF5 file");
    ck_assert_int_eq(n_files_in_directory(), 2);
}
END_TEST

START_TEST(output_never_replaces_a_text_or_a_directory)
{
    strcpy(output, text_a);
    assert_refused(prepare(1), SGC_EIO, "both text and output");
    snprintf(output, sizeof(output), "%s/other.txt", directory);
    write_text(output, "a letter to a friend");
    assert_refused(prepare(1), SGC_EIO, "no token file");
    snprintf(output, sizeof(output), "%s", directory);
    assert_refused(prepare(1), SGC_EIO, "is a directory");
    snprintf(output, sizeof(output), "%s/below", text_a);
    assert_refused(prepare(1), SGC_EIO, "a.txt");
    snprintf(output, sizeof(output), "/proc/text.h5");
    assert_refused(prepare(1), SGC_EIO, "/proc/text.h5");
    snprintf(output, sizeof(output), "%s/a/new/one/text.h5", directory);
    ck_assert_int_eq(prepare(1), SGC_OK);
    ck_assert_int_eq(prepare(2), SGC_OK); /* over its older self */
    ck_assert(fit(2));
}
END_TEST

START_TEST(files_of_another_kind_are_refused)
{
    sgc_h5 *h5;
    assert_unusable("No such file");
    ck_assert_int_eq(mkdir(output, 0777), 0);
    assert_unusable("is a directory");
    rmdir(output);
    write_text(output, "");
    assert_unusable("not an HDF5 file; make one with: stagecoach prepare");
    write_text(output, "not tokens");
    assert_unusable("not an HDF5 file; make one with: stagecoach prepare");
    ck_assert_int_eq(sgc_h5_create(&h5, output), SGC_OK);
    ck_assert_int_eq(sgc_h5_close(&h5), SGC_OK);
    assert_unusable("another kind");
}
END_TEST

START_TEST(a_file_cut_short_is_refused_at_any_length)
{
    struct stat s;
    ck_assert_int_eq(prepare(2), SGC_OK);
    ck_assert_int_eq(stat(output, &s), 0);
    for (off_t n = s.st_size - 1; n >= 0; n -= n > 64 ? 61 : 1) {
        sgc_tokens f;
        ck_assert_int_eq(truncate(output, n), 0);
        ck_assert_msg(sgc_tokens_open(&f, output) == SGC_EDATA, "%lld of %lld bytes are taken for a token file", (long long)n, (long long)s.st_size);
        ck_assert(strstr(sgc_err_message(), "cut short") || strstr(sgc_err_message(), "not an HDF5 file"));
        sgc_err_clear();
        ck_assert(!fit(2));
    }
}
END_TEST

/* A token file as somebody else might write it. */
static void write_foreign(int64_t version, const char *skip, hid_t type, int n_dim, const int64_t *documents, hsize_t n_documents)
{
    static const uint32_t tokens[4] = {1, 2, 3, 4};
    const hsize_t shape[2] = {2, 2}, length = 4;
    sgc_h5 *h5;
    ck_assert_int_eq(sgc_h5_create(&h5, output), SGC_OK);
    const hid_t file = sgc_h5_id(h5);
    sgc_h5_attr_text(file, "format", "stagecoach tokens");
    if (strcmp(skip, "format_version") != 0) sgc_h5_attr_int(file, "format_version", version);
    if (strcmp(skip, "tokenizer") != 0) sgc_h5_attr_text(file, "tokenizer", "byte");
    if (strcmp(skip, "vocab_size") != 0) sgc_h5_attr_int(file, "vocab_size", 256);
    if (strcmp(skip, "source_hash") != 0) sgc_h5_attr_text(file, "source_hash", "00000000000000ff");
    if (strcmp(skip, "tokens") != 0) sgc_h5_write(file, "/tokens", type, n_dim, n_dim == 1 ? &length : shape, tokens);
    if (strcmp(skip, "documents") != 0) sgc_h5_write(file, "/documents", H5T_NATIVE_INT64, 1, &n_documents, documents);
    ck_assert_int_eq(sgc_h5_close(&h5), SGC_OK);
}

START_TEST(incomplete_or_damaged_token_files_are_refused)
{
    const int64_t good[3] = {0, 1, 4}, not_all[2] = {0, 3}, falling[3] = {0, 5, 4}, empty[3] = {0, 0, 4};
    const hid_t u32 = H5T_NATIVE_UINT32;
    sgc_tokens f;
    int32_t ids[2];
    write_foreign(1, "", u32, 1, good, 3);
    ck_assert_int_eq(sgc_tokens_open(&f, output), SGC_OK);
    ck_assert_int_eq(f.token_bytes, 4);
    ck_assert_uint_eq(f.source_hash, 255);
    ck_assert_int_eq(sgc_tokens_read(&f, 2, 2, ids), SGC_OK);
    ck_assert(ids[0] == 3 && ids[1] == 4);
    sgc_tokens_close(&f);

    write_foreign(2, "", u32, 1, good, 3);
    assert_unusable("format version 2");
    write_foreign(1, "format_version", u32, 1, good, 3);
    assert_unusable("format version is missing");
    write_foreign(1, "tokenizer", u32, 1, good, 3);
    assert_unusable("tokenizer");
    write_foreign(1, "vocab_size", u32, 1, good, 3);
    assert_unusable("vocabulary size");
    write_foreign(1, "source_hash", u32, 1, good, 3);
    assert_unusable("hash");
    write_foreign(1, "tokens", u32, 1, good, 3);
    assert_unusable("tokens are missing");
    write_foreign(1, "", u32, 2, good, 3);
    assert_unusable("tokens are missing");
    write_foreign(1, "", H5T_NATIVE_FLOAT, 1, good, 3);
    assert_unusable("16 or 32 bit");
    write_foreign(1, "documents", u32, 1, good, 3);
    assert_unusable("document offsets");
    write_foreign(1, "", u32, 1, not_all, 2);
    assert_unusable("document offsets");
    write_foreign(1, "", u32, 1, falling, 3);
    assert_unusable("document offsets");
    write_foreign(1, "", u32, 1, empty, 3);
    assert_unusable("document offsets");
}
END_TEST

START_TEST(a_token_beyond_the_vocabulary_is_an_error_of_the_reader)
{
    sgc_tokens f;
    int32_t ids[17];
    FILE *raw;
    ck_assert_int_eq(prepare(1), SGC_OK);
    ck_assert_int_eq(sgc_tokens_open(&f, output), SGC_OK);
    const long at = (long)((const char *)f.token - (const char *)f.map) + 2 * 5 + 1;
    ck_assert_ptr_nonnull(raw = fopen(output, "r+"));
    fseek(raw, at, SEEK_SET);
    fputc(0x80, raw); /* one flipped bit */
    fclose(raw);
    ck_assert_int_eq(sgc_tokens_read(&f, 0, 5, ids), SGC_OK);
    assert_refused(sgc_tokens_read(&f, 0, 17, ids), SGC_EDATA, "is damaged");
    sgc_tokens_close(&f);
}
END_TEST

START_TEST(bytes_go_to_ids_and_back)
{
    const sgc_tokenizer *t = sgc_tokenizer_find("byte");
    int32_t *ids;
    int64_t n;
    sgc_str text = {0};
    ck_assert_int_eq(t->encode(t, "a\0\xff", 3, &ids, &n), SGC_OK);
    ck_assert_int_eq(n, 3);
    ck_assert(ids[0] == 'a' && ids[1] == 0 && ids[2] == 255);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(t->decode(t, ids[i], &text), SGC_OK);
    ck_assert_uint_eq(text.n, 3);
    ck_assert(memcmp(text.text, "a\0\xff", 4) == 0);
    assert_refused(t->decode(t, 256, &text), SGC_EARG, "0 to 255");
    ck_assert_ptr_null(sgc_tokenizer_find("word"));
    sgc_str_free(&text);
    free(ids);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {tokens_of_two_texts_are_their_bytes, text_of_several_pieces_comes_back, text_of_exactly_one_piece_comes_back,
                                  a_token_file_fits_only_the_text_it_was_made_from, empty_missing_or_foreign_text_is_refused_and_leaves_nothing,
                                  output_never_replaces_a_text_or_a_directory, files_of_another_kind_are_refused,
                                  a_file_cut_short_is_refused_at_any_length, incomplete_or_damaged_token_files_are_refused,
                                  a_token_beyond_the_vocabulary_is_an_error_of_the_reader, bytes_go_to_ids_and_back};
    Suite *suite = suite_create("tokens");
    TCase *all = tcase_create("tokens");
    tcase_set_timeout(all, 0);
    tcase_add_checked_fixture(all, setup, teardown); /* what UNIT_MAIN lacks */
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
