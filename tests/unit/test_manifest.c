/* The manifest: what is written is read back; anything else is refused with its place, without a crash. */
#include <string.h>

#include "base/util.h"
#include "ckpt/manifest_impl.h"
#include "unit.h"

enum { WORLD = 2, BLOCK = 100 };
static const char id[] = "00f1e2d3c4b5a697";

static void put_datasets(sgc_str *text)
{
    sgc_manifest_put_data(text, 0, 25, SGC_SLOT_MODEL, "embedding");
    sgc_manifest_put_data(text, 100, 25, SGC_SLOT_EXP_AVG, "h.0");
    sgc_manifest_put_data(text, 200, 25, SGC_SLOT_EXP_AVG_SQ, "h.0");
}

/* A file of n_bytes that are its own. */
static void put_file(sgc_str *text, int file, int n_shard_files, size_t n_bytes)
{
    char bytes[512];
    for (size_t i = 0; i < n_bytes; i++) bytes[i] = (char)(i * 7 + (size_t)file);
    sgc_manifest_put_bytes(text, file, n_shard_files, bytes, n_bytes, BLOCK);
}

/* Of four files, of which config.cfg is empty and shard 0 ends with a whole block. */
static void make_manifest(sgc_str *text)
{
    static const size_t n_bytes[] = {250, 0, 300, 301};
    sgc_manifest_put_head(text, id, 12345678901, WORLD, WORLD, BLOCK);
    for (int file = 0; file < SGC_FILE_SHARDS + WORLD; file++) {
        put_file(text, file, WORLD, n_bytes[file]);
        if (file >= SGC_FILE_SHARDS) put_datasets(text);
    }
    sgc_manifest_put_end(text);
}

/* Of three shards in two files: 0 and 2 share the first. */
static void make_shared(sgc_str *text)
{
    sgc_manifest_put_head(text, id, 7, 3, 2, BLOCK);
    put_file(text, SGC_FILE_INDEX, 2, 250);
    put_file(text, SGC_FILE_CONFIG, 2, 10);
    put_file(text, SGC_FILE_SHARDS, 2, 500);
    for (int shard = 0; shard <= 2; shard += 2) {
        sgc_manifest_put_shard(text, shard);
        put_datasets(text);
    }
    put_file(text, SGC_FILE_SHARDS + 1, 2, 300);
    sgc_manifest_put_shard(text, 1);
    put_datasets(text);
    sgc_manifest_put_end(text);
}

static bool is_refused(const char *text, size_t n_bytes)
{
    /* exactly as many bytes as there are, so that a checker sees a read beyond them */
    char *copy = malloc(n_bytes ? n_bytes : 1);
    memcpy(copy, text, n_bytes);
    sgc_manifest m;
    bool refused = sgc_manifest_parse(&m, copy, n_bytes, "M") == SGC_ECKPT && strstr(sgc_err_message(), "M") == sgc_err_message();
    sgc_manifest_free(&m);
    sgc_err_clear();
    free(copy);
    return refused;
}

START_TEST(what_is_written_is_read_back)
{
    sgc_str text = {0};
    sgc_manifest m;
    make_manifest(&text);
    ck_assert_int_eq(sgc_manifest_parse(&m, text.text, text.n, "M"), SGC_OK);
    ck_assert_str_eq(m.id, id);
    ck_assert(m.step == 12345678901 && m.world_size == WORLD && m.block_size == BLOCK && m.n_files == 4);
    ck_assert(m.files[0].n_bytes == 250 && m.files[0].n_blocks == 3);
    ck_assert(m.files[1].n_bytes == 0 && m.files[1].n_blocks == 0);
    ck_assert(m.files[2].n_bytes == 300 && m.files[2].n_blocks == 3);
    ck_assert(m.files[3].n_bytes == 301 && m.files[3].n_blocks == 4);
    const unsigned char last = (unsigned char)(300 * 7 + 3);
    ck_assert(m.files[3].hash[3] == sgc_hash64(&last, 1));
    const sgc_manifest_data *d = sgc_manifest_find(&m, 1, SGC_SLOT_EXP_AVG_SQ, "h.0");
    ck_assert_ptr_nonnull(d);
    ck_assert(d->offset == 200 && d->n == 25);
    ck_assert_ptr_null(sgc_manifest_find(&m, 1, SGC_SLOT_MODEL, "h.0"));
    sgc_manifest_free(&m);
    sgc_str_free(&text);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    sgc_str text = {0};
    make_manifest(&text);
    for (size_t n = 0; n < text.n; n++) ck_assert_msg(is_refused(text.text, n), "%zu of %zu bytes", n, text.n);
    sgc_str_free(&text);
}
END_TEST

START_TEST(every_flipped_bit_is_refused)
{
    sgc_str text = {0};
    make_manifest(&text);
    for (size_t i = 0; i < text.n; i++)
        for (int bit = 0; bit < 8; bit++) {
            text.text[i] ^= (char)(1 << bit);
            ck_assert_msg(is_refused(text.text, text.n), "bit %d of byte %zu", bit, i);
            text.text[i] ^= (char)(1 << bit);
        }
    sgc_str_free(&text);
}
END_TEST

/* The manifest with `from` replaced by `to`, and a hash that fits. */
static void edit(sgc_str *out, const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from), *end = strstr(text, "\nend ");
    ck_assert_msg(at && at < end, "no '%s' in the manifest", from);
    sgc_str_printf(out, "%.*s%s", (int)(at - text), text, to);
    at += strlen(from);
    sgc_str_printf(out, "%.*s", (int)(end + 1 - at), at);
    sgc_manifest_put_end(out);
}

typedef struct edit_case { const char *from, *to, *message; } edit_case;

static void refuse_edits(const char *text, const edit_case *edits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sgc_str edited = {0};
        sgc_manifest m;
        edit(&edited, text, edits[i].from, edits[i].to);
        ck_assert_msg(sgc_manifest_parse(&m, edited.text, edited.n, "M") == SGC_ECKPT, "accepted: %s", edits[i].to);
        ck_assert_msg(strstr(sgc_err_message(), edits[i].message) != NULL, "%s: %s", edits[i].to, sgc_err_message());
        sgc_manifest_free(&m);
        sgc_err_clear();
        sgc_str_free(&edited);
    }
}

START_TEST(what_does_not_fit_is_refused_with_its_line)
{
    static const edit_case edits[] = {
        {"stagecoach checkpoint manifest", "another file", "M:1: not the manifest"},
        {"version 1", "version 2", "M has format version 2, this program reads version 1"},
        {"version 1", "version 99999999999999999999", "M:2:"},
        {"id 00f1", "id 00F1", "M:3:"},
        {"step 1", "step -1", "M:4:"},
        {"step 1", "step 01", "M:4:"},
        {"world_size 2", "world_size 0", "M:5:"},
        {"world_size 2", "world_size 2 ", "M:5:"},
        {"world_size 2", "world_size 4294967298", "M:5:"},
        {"world_size 2", "world_size 1", "expected the entry of shards/shard-00000-of-00001.h5"},
        {"world_size 2", "world_size 3", "expected the entry of shards/shard-00000-of-00003.h5"},
        {"block_size 100", "block_size 0", "M:6:"},
        {"block_size 100", "block_size 99", "expected the hash of block 3 of shards/shard-00000-of-00002.h5"},
        {"file 250 checkpoint.h5", "file 250 ../checkpoint.h5", "M:7: expected the entry of checkpoint.h5"},
        {"file 250 checkpoint.h5", "file 450 checkpoint.h5", "expected the hash of block 3 of checkpoint.h5"},
        {"file 250 checkpoint.h5", "file 9223372036854775807 checkpoint.h5", "M:7:"},
        {"file 250 checkpoint.h5", "file 9000000000000000000 checkpoint.h5", "expected the hash of block 3 of checkpoint.h5"},
        {"data 0 25 model embedding", "data 0 76 model embedding", "not a dataset that lies in shards/shard-00000-of-00002.h5"},
        {"data 0 25 model embedding", "data 301 0 model embedding", "not a dataset"},
        {"data 0 25 model embedding", "data 0 0 model embedding", "not a dataset"},
        {"data 0 25 model embedding", "data 0 25 models embedding", "not a dataset"},
        {"data 0 25 model embedding", "data 0 25 model a/b", "not a dataset"},
        {"data 0 25 model embedding", "data 0 25 model ", "not a dataset"},
        {"data 0 25 model embedding",
         "data 0 25 model aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "not a dataset"},
        {"data 0 25 model embedding", "data 0 24 model embedding", "shards 0 and 1 do not hold the same units"},
        {"data 0 25 model embedding", "data 0 25 model head", "shards 0 and 1 do not hold the same units"},
        {"data 0 25 model embedding\n", "", "shards 0 and 1 do not hold the same units"},
        {"data 0 25 model embedding\n", "\n", "expected the entry of shards/shard-00001-of-00002.h5"},
    };
    sgc_str text = {0};
    make_manifest(&text);
    refuse_edits(text.text, edits, sizeof(edits) / sizeof(edits[0]));
    sgc_str_free(&text);
}
END_TEST

START_TEST(shards_that_share_a_file_are_found)
{
    sgc_str text = {0};
    sgc_manifest m;
    make_shared(&text);
    ck_assert_int_eq(sgc_manifest_parse(&m, text.text, text.n, "M"), SGC_OK);
    ck_assert(m.world_size == 3 && m.n_shard_files == 2 && m.n_files == 4);
    for (int shard = 0; shard < 3; shard++) {
        const sgc_manifest_data *d = sgc_manifest_find(&m, shard, SGC_SLOT_EXP_AVG, "h.0");
        ck_assert_ptr_nonnull(d);
        ck_assert(d->shard == shard && d->offset == 100);
        ck_assert_int_eq(m.file_of[shard], SGC_FILE_SHARDS + shard % 2);
    }
    sgc_manifest_free(&m);
    sgc_str_free(&text);
}
END_TEST

START_TEST(shards_that_do_not_fit_their_files_are_refused)
{
    static const edit_case edits[] = {
        {"files 2", "files 3", "M:6:"},
        {"files 2", "files 0", "M:6:"},
        {"files 2", "files 1", "expected the entry of shards/shard-00000-of-00001.h5"},
        {"shard 2\n", "shard 3\n", "not the next shard"},
        {"shard 2\n", "shard 0\n", "not the next shard"},
        {"shard 2\n", "shard 1\n", "shard 1 is there twice"},
        {"shard 2\n", "", "datasets of 2 shards instead of 3"},
        {"shard 0\n", "", "it is not said of which shard this dataset is"},
        {"shard 1\n", "shard 1\nshard 2\n", "expected the end"},
        {"world_size 3", "world_size 4", "datasets of 3 shards instead of 4"},
        {"world_size 3\nfiles 2", "world_size 2", "expected the entry of shards/shard-00001-of-00002.h5"},
    };
    sgc_str text = {0};
    make_shared(&text);
    refuse_edits(text.text, edits, sizeof(edits) / sizeof(edits[0]));
    sgc_str_free(&text);
}
END_TEST

UNIT_MAIN("manifest", what_is_written_is_read_back, every_truncation_is_refused, every_flipped_bit_is_refused,
          what_does_not_fit_is_refused_with_its_line, shards_that_share_a_file_are_found, shards_that_do_not_fit_their_files_are_refused)
