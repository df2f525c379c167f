/* Damage: a flipped bit, wherever it is, is found by verify and refused by resuming, by the name of the file. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "small_checkpoint.h"
#include "unit.h"

enum { WIDTH = 24, N_SHARDS = 3 };

typedef struct fixture {
    char directory[64], path[SGC_PATH_MAX];
    sgc_group *group;
    sgc_manifest manifest;
} fixture;

static char *read_manifest(const fixture *f, size_t *n)
{
    char file[SGC_PATH_MAX], *text;
    ck_assert_int_eq(sgc_path_join(file, f->path, SGC_MANIFEST_NAME), SGC_OK);
    ck_assert_int_eq(sgc_read_file(file, &text, n), SGC_OK);
    return text;
}

static void set_up(fixture *f)
{
    size_t n;
    *f = (fixture){.directory = "/tmp/stagecoach-damage.XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(f->directory));
    ck_assert_msg(small_checkpoint(f->directory, WIDTH, N_SHARDS, f->path) == SGC_OK, "%s", sgc_err_message());
    ck_assert_int_eq(sgc_group_null(&f->group, 1, 0), SGC_OK);
    char *text = read_manifest(f, &n);
    ck_assert_int_eq(sgc_manifest_parse(&f->manifest, text, n, "M"), SGC_OK);
    free(text);
}

static void tear_down(fixture *f)
{
    bool same;
    ck_assert_int_eq(small_read(f->path, &same), SGC_OK);
    ck_assert(same);
    sgc_manifest_free(&f->manifest);
    sgc_group_free(f->group);
    ck_assert_int_eq(sgc_remove_tree(f->directory), SGC_OK);
}

static void flip(const fixture *f, const char *name, int64_t byte, int bit)
{
    char file[SGC_PATH_MAX], value;
    ck_assert_int_eq(sgc_path_join(file, f->path, name), SGC_OK);
    int fd = open(file, O_RDWR);
    ck_assert(fd >= 0 && pread(fd, &value, 1, (off_t)byte) == 1);
    value = (char)(value ^ (1 << bit));
    ck_assert(pwrite(fd, &value, 1, (off_t)byte) == 1 && close(fd) == 0);
}

static void expect_found(const fixture *f, const char *name, int64_t byte)
{
    sgc_ckpt_report r;
    ck_assert_int_eq(sgc_ckpt_verify(f->path, f->group, &r), SGC_OK);
    ck_assert_msg(r.n_bad == 1 && r.n_damages == 1 && strcmp(r.damages[0].file, name) == 0, "byte %lld of %s: %d damages, of %s", (long long)byte,
                  name, r.n_damages, r.n_damages ? r.damages[0].file : "nothing");
    ck_assert(strcmp(name, SGC_MANIFEST_NAME) == 0 || (r.damages[0].first_byte <= byte && byte <= r.damages[0].last_byte));
    sgc_ckpt_report_free(&r);
}

static void expect_refused(const fixture *f, const char *name)
{
    bool same;
    sgc_status st = small_read(f->path, &same);
    ck_assert_msg(st == SGC_ECKPT && strstr(sgc_err_message(), name), "%s: '%s'", name, sgc_err_message());
    sgc_err_clear();
}

static void try_bit(const fixture *f, const char *name, int64_t byte, int bit)
{
    flip(f, name, byte, bit);
    expect_found(f, name, byte);
    expect_refused(f, name);
    flip(f, name, byte, bit);
}

static bool tries_all(void)
{
    const char *all = getenv("STAGECOACH_TEST_ALL");
    return all && strcmp(all, "1") == 0;
}

/* One bit in each block by default, one in each 64 bytes with STAGECOACH_TEST_ALL. */
START_TEST(a_flipped_bit_in_any_block_of_any_shard_is_found)
{
    fixture f;
    set_up(&f);
    for (int file = SGC_FILE_SHARDS; file < f.manifest.n_files; file++)
        for (int64_t block = 0; block < f.manifest.files[file].n_blocks; block++) {
            char name[64];
            int64_t first = block * f.manifest.block_size, end = first + f.manifest.block_size;
            if (end > f.manifest.files[file].n_bytes) end = f.manifest.files[file].n_bytes;
            sgc_manifest_path(name, file, f.manifest.n_shard_files);
            for (int64_t byte = first + block % 64; byte < end; byte += tries_all() ? 64 : end) try_bit(&f, name, byte, (int)(byte % 8));
        }
    tear_down(&f);
}
END_TEST

/* Names, HDF5's own bytes, settings, hashes: one bit of each 97 bytes by default, one of each byte with STAGECOACH_TEST_ALL. */
START_TEST(a_flipped_bit_in_the_index_the_settings_or_the_manifest_is_found)
{
    static const char *const names[] = {"checkpoint.h5", "config.cfg", SGC_MANIFEST_NAME};
    fixture f;
    set_up(&f);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char file[SGC_PATH_MAX];
        struct stat s;
        ck_assert(sgc_path_join(file, f.path, names[i]) == SGC_OK && stat(file, &s) == 0 && s.st_size > 1000);
        for (int64_t byte = 0; byte < s.st_size; byte += tries_all() ? 1 : 97) try_bit(&f, names[i], byte, (int)(byte % 7));
        try_bit(&f, names[i], s.st_size - 1, 0);
    }
    tear_down(&f);
}
END_TEST

/* The manifest with `from` replaced by `to` and a hash that fits again. */
static void rewrite_manifest(const fixture *f, const char *from, const char *to)
{
    char file[SGC_PATH_MAX];
    size_t n;
    sgc_str text = {0};
    char *old = read_manifest(f, &n), *at = strstr(old, from);
    ck_assert_ptr_nonnull(at);
    sgc_str_append(&text, old, (size_t)(at - old));
    sgc_str_printf(&text, "%s", to);
    at += strlen(from);
    sgc_str_append(&text, at, n - (size_t)(at - old) - strlen("end 0123456789abcdef\n"));
    sgc_manifest_put_end(&text);
    ck_assert_int_eq(sgc_path_join(file, f->path, SGC_MANIFEST_NAME), SGC_OK);
    ck_assert_int_eq(sgc_write_file_atomic(file, text.text, text.n), SGC_OK);
    sgc_str_free(&text);
    free(old);
}

START_TEST(a_format_from_the_future_is_refused_by_its_number)
{
    fixture f;
    sgc_ckpt *c;
    sgc_ckpt_report r;
    set_up(&f);
    rewrite_manifest(&f, "version 1\n", "version 4711\n");
    ck_assert_int_eq(sgc_ckpt_open(&c, f.path, f.group), SGC_ECKPT);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "has format version 4711, this program reads version 1: use a newer stagecoach"));
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), f.path));
    sgc_err_clear();
    ck_assert_int_eq(sgc_ckpt_verify(f.path, f.group, &r), SGC_OK);
    ck_assert(r.n_bad == 1 && strstr(r.damages[0].problem, "format version 4711"));
    sgc_ckpt_report_free(&r);
    rewrite_manifest(&f, "version 4711\n", "version 1\n");
    tear_down(&f);
}
END_TEST

/* What fits its hashes and is wrong all the same. */
START_TEST(a_manifest_that_lies_is_refused)
{
    static const char *const lies[][2] = {
        {"step 7\n", "step 8\n"}, {" model embedding\n", " model emebdding\n"}, {"block_size 4096\n", "block_size 4095\n"},
        {"block_size 4096\n", "block_size 4096\ndtype bfloat16\n"}, {"world_size 3\n", "world_size 4\n"},
    };
    bool same;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        fixture f;
        set_up(&f);
        size_t n;
        char *saved = read_manifest(&f, &n), file[SGC_PATH_MAX];
        rewrite_manifest(&f, lies[i][0], lies[i][1]);
        sgc_status st = small_read(f.path, &same);
        ck_assert_msg(st == SGC_ECKPT, "%s", lies[i][1]);
        sgc_err_clear();
        ck_assert_int_eq(sgc_path_join(file, f.path, SGC_MANIFEST_NAME), SGC_OK);
        ck_assert_int_eq(sgc_write_file_atomic(file, saved, n), SGC_OK);
        free(saved);
        tear_down(&f);
    }
}
END_TEST

UNIT_MAIN("damage", a_flipped_bit_in_any_block_of_any_shard_is_found, a_flipped_bit_in_the_index_the_settings_or_the_manifest_is_found,
          a_format_from_the_future_is_refused_by_its_number, a_manifest_that_lies_is_refused)
