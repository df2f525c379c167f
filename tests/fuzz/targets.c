#include "targets.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/spread_impl.h"
#include "data/data.h"
#include "small_checkpoint.h"

/* The outcome is one or the other, and a message goes with the one. */
static void expect_message(sgc_status st)
{
    if ((st == SGC_OK) != (sgc_err_message()[0] == '\0')) abort();
    sgc_err_clear();
}

int fuzz_manifest(const uint8_t *data, size_t size)
{
    sgc_str text = {0};
    sgc_manifest m;
    sgc_str_append(&text, data, size);
    expect_message(sgc_manifest_parse(&m, text.text, text.n, "M")); /* as it is */
    sgc_manifest_free(&m);
    sgc_manifest_put_end(&text);
    sgc_status st = sgc_manifest_parse(&m, text.text, text.n, "M");
    for (int shard = 0; st == SGC_OK && shard < m.world_size && shard < 100; shard++)
        for (int slot = 0; slot < SGC_N_SLOTS; slot++) {
            const sgc_manifest_data *d = sgc_manifest_find(&m, shard, slot, "embedding");
            const sgc_manifest_file *f = d ? &m.files[m.file_of[shard]] : NULL;
            if (d && (d->shard != shard || d->n > (f->n_bytes - d->offset) / (int64_t)sgc_dtype_bytes(m.dtype))) abort();
        }
    expect_message(st);
    sgc_manifest_free(&m);
    sgc_str_free(&text);
    return 0;
}

int fuzz_nodes(const uint8_t *data, size_t size)
{
    sgc_nodes n;
    sgc_str text = {0};
    sgc_str_append(&text, data, size);
    sgc_manifest_put_end(&text);
    sgc_status st = sgc_nodes_parse(&n, text.text, text.n, "N");
    for (int k = 0; st == SGC_OK && k < n.n_sets * n.n_nodes; k++)
        if (n.sets[k] < 0) abort();
    if (st == SGC_OK && (n.node < 0 || n.node >= n.n_nodes)) abort();
    expect_message(st);
    sgc_nodes_free(&n);
    sgc_str_free(&text);
    return 0;
}

int fuzz_index(const uint8_t *data, size_t size)
{
    sgc_ckpt_info info;
    sgc_run_state state;
    char *copy = malloc(size + 1);
    if (!copy) abort();
    memcpy(copy, data, size);
    expect_message(sgc_index_read(copy, size, "checkpoint.h5", &info, &state));
    free(copy);
    return 0;
}

static char directory[] = "/tmp/stagecoach-fuzz.XXXXXX", checkpoint[SGC_PATH_MAX];

static void remove_directory(void) { sgc_remove_tree(directory); }

/* Once: a checkpoint to take the place of one of its files. */
static void make_checkpoint(void)
{
    if (checkpoint[0]) return;
    if (!mkdtemp(directory) || small_checkpoint(directory, 8, 2, checkpoint) != SGC_OK) {
        fprintf(stderr, "no checkpoint to work with: %s\n", sgc_err_message());
        abort();
    }
    atexit(remove_directory);
}

static void write_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f) != 0) abort();
}

/* The manifest with the entry of shard 1 made of other bytes. Its lines of data stay. */
static void write_manifest(const char *old, const uint8_t *data, size_t size)
{
    char path[SGC_PATH_MAX];
    sgc_str text = {0};
    const char *entry = strstr(old, "file ");
    for (int file = 0; file < SGC_FILE_SHARDS + 1; file++) entry = strstr(entry + 1, "file ");
    const char *lines = strstr(entry, "data "), *end = strstr(entry, "end ");
    sgc_str_append(&text, old, (size_t)(entry - old));
    sgc_manifest_put_bytes(&text, SGC_FILE_SHARDS + 1, 2, data, size, 4096);
    sgc_str_append(&text, lines, (size_t)(end - lines));
    sgc_manifest_put_end(&text);
    if (sgc_path_join(path, checkpoint, SGC_MANIFEST_NAME) != SGC_OK) abort();
    write_bytes(path, text.text, text.n);
    sgc_str_free(&text);
}

int fuzz_shard(const uint8_t *data, size_t size)
{
    static char *manifest; /* of the checkpoint as it was made */
    static sgc_group *group;
    char path[SGC_PATH_MAX];
    size_t n;
    bool same;
    sgc_ckpt_report r;
    make_checkpoint();
    if (sgc_path_join(path, checkpoint, SGC_MANIFEST_NAME) != SGC_OK || (!manifest && sgc_read_file(path, &manifest, &n) != SGC_OK)) abort();
    if (!group && sgc_group_null(&group, 1, 0) != SGC_OK) abort();
    if (sgc_path_join(path, checkpoint, "shards/shard-00001-of-00002.h5") != SGC_OK) abort();
    write_bytes(path, data, size);
    expect_message(small_read(checkpoint, &same)); /* hashes of other bytes, after the first time */
    write_manifest(manifest, data, size);
    sgc_status st = small_read(checkpoint, &same);
    expect_message(st);
    if (sgc_ckpt_verify(checkpoint, group, &r) != SGC_OK || (r.n_bad == 0) != (st == SGC_OK)) abort();
    sgc_ckpt_report_free(&r);
    return 0;
}

int fuzz_tokens(const uint8_t *data, size_t size)
{
    char path[SGC_PATH_MAX];
    sgc_tokens t;
    int32_t some[64];
    make_checkpoint();
    if (sgc_path_join(path, directory, "tokens.h5") != SGC_OK) abort();
    write_bytes(path, data, size);
    sgc_status st = sgc_tokens_open(&t, path);
    for (int64_t first = 0; st == SGC_OK && first < t.n_tokens && first < 4096; first += 64)
        st = sgc_tokens_read(&t, first, t.n_tokens - first < 64 ? t.n_tokens - first : 64, some);
    expect_message(st);
    sgc_tokens_close(&t);
    return 0;
}
