/* What nodes hold of a checkpoint: the text that says so, and which checkpoint can be made whole of what they tell. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/recover_impl.h"
#include "small_checkpoint.h"
#include "unit.h"

enum { N_NODES = 2 };
static const char run[] = "0123456789abcdef";

typedef struct fixture { char directory[64]; } fixture;

static void shell(const fixture *f, const char *command)
{
    char line[1024];
    snprintf(line, sizeof(line), "cd %s && %s", f->directory, command);
    ck_assert_msg(system(line) == 0, "%s", line);
}

static sgc_status read_nodes(const fixture *f, sgc_nodes *n) { return sgc_nodes_read(n, f->directory); }

static void write_text(const fixture *f, const char *where, const char *text, bool with_end)
{
    sgc_str all = {0};
    char path[SGC_PATH_MAX];
    sgc_str_printf(&all, "%s", text);
    if (with_end) sgc_manifest_put_end(&all);
    ck_assert_int_eq(sgc_path_join(path, f->directory, where), SGC_OK);
    ck_assert_int_eq(sgc_write_file_atomic(path, all.text, all.n), SGC_OK);
    sgc_str_free(&all);
}

static void write_nodes(const fixture *f, const char *where, int node)
{
    const sgc_world w = {.size = 2, .n_nodes = N_NODES, .node_index = node, .node_size = 1};
    const int64_t sets[] = {1, 2};
    sgc_str text = {0};
    char path[SGC_PATH_MAX];
    sgc_nodes_put(&text, SGC_SPREAD_PARTNER, &w, sets);
    ck_assert_int_eq(sgc_path_join(path, f->directory, where), SGC_OK);
    ck_assert_int_eq(sgc_write_file_atomic(path, text.text, text.n), SGC_OK);
    sgc_str_free(&text);
}

/* x and y: two checkpoints of the same step with two shards. */
static void set_up(fixture *f)
{
    char path[SGC_PATH_MAX];
    *f = (fixture){.directory = "/tmp/stagecoach-parts.XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(f->directory));
    ck_assert_int_eq(small_checkpoint(f->directory, 8, 2, path), SGC_OK);
    shell(f, "mv small x");
    ck_assert_int_eq(small_checkpoint(f->directory, 8, 2, path), SGC_OK);
    shell(f, "mv small y && mkdir disk-0 disk-1");
    sgc_log_set_level(SGC_LOG_ERROR);
}

static void tear_down(fixture *f) { ck_assert_int_eq(sgc_remove_tree(f->directory), SGC_OK); }

/* What both disks tell, and the choice. */
static void choose(const fixture *f, const char *run_id, int64_t newest_step, int64_t before_step, sgc_recovery *p)
{
    sgc_str told = {0};
    for (int node = 0; node < N_NODES; node++) {
        char disk[SGC_PATH_MAX];
        snprintf(disk, sizeof(disk), "%s/disk-%d", f->directory, node);
        sgc_parts_tell(disk, node, run_id, newest_step, before_step, &told);
    }
    ck_assert_int_eq(sgc_recovery_choose(told.text, (int64_t)told.n, p), SGC_OK);
    sgc_str_free(&told);
}

static void id_of(const fixture *f, const char *name, char id[SGC_ID_CHARS + 1])
{
    char path[SGC_PATH_MAX];
    sgc_ckpt *c;
    ck_assert_int_eq(sgc_path_join(path, f->directory, name), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_open_local(&c, path), SGC_OK);
    memcpy(id, sgc_ckpt_get_info(c)->id, SGC_ID_CHARS + 1);
    sgc_ckpt_close(c);
}

START_TEST(what_is_written_of_nodes_is_read_back)
{
    fixture f;
    sgc_nodes n;
    set_up(&f);
    write_nodes(&f, "nodes", 1);
    ck_assert_int_eq(read_nodes(&f, &n), SGC_OK);
    ck_assert(n.n_nodes == 2 && n.node == 1 && n.n_sets == 1 && n.sets[0] == 0 && n.sets[1] == 1 && strcmp(n.redundancy, "partner") == 0);
    sgc_nodes_free(&n);
    tear_down(&f);
}
END_TEST

START_TEST(texts_of_nodes_that_are_none_are_refused)
{
    static const char *const texts[] = {
        "", "stagecoach", "stagecoach node-local checkpoint\nredundancy xor\nnodes 0\nnode 0\n", "stagecoach node-local checkpoint\nredundancy xor\nnodes 3\nnode 3\n",
        "stagecoach node-local checkpoint\nredundancy xor\nnodes 99999999\nnode 0\nset 1\n", "stagecoach node-local checkpoint\nredundancy xor\nnodes 3\nnode 1\nset 0 2\n",
        "stagecoach node-local checkpoint\nredundancy xor\nnodes 2\nnode 1\nset 0 -2\n", "stagecoach node-local checkpoint\nredundancy xor\nnodes 2\nnode 1\nset 0 1 2\n",
        "stagecoach node-local checkpoint\nredundancy xor\nnodes 2\nnode 1\nset 0 99999999999\n", "stagecoach node-local checkpoint\nredundancy xor\nnodes 2\nnode 1\nother\n"};
    fixture f;
    sgc_nodes n;
    set_up(&f);
    ck_assert_int_eq(read_nodes(&f, &n), SGC_EDATA); /* there is none */
    sgc_err_clear();
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_text(&f, "nodes", texts[i], true);
        ck_assert_msg(read_nodes(&f, &n) == SGC_ECKPT, "%s", texts[i]);
        sgc_err_clear();
    }
    write_text(&f, "nodes", "stagecoach node-local checkpoint\nredundancy xor\nnodes 2\nnode 1\n", false);
    ck_assert_int_eq(read_nodes(&f, &n), SGC_ECKPT);
    sgc_err_clear();
    tear_down(&f);
}
END_TEST

/* Node 0 holds one shard of one checkpoint, node 1 all of another of the same step, whichever comes first. */
START_TEST(of_two_checkpoints_of_one_step_the_one_that_is_whole_is_found)
{
    for (int turn = 0; turn < 2; turn++) {
        fixture f;
        char id[SGC_ID_CHARS + 1], whole[128];
        bool same;
        sgc_recovery p;
        set_up(&f);
        shell(&f, turn ? "mv x z && mv y x && mv z y" : "true");
        shell(&f, "cp -r x disk-0/checkpoint-7 && rm disk-0/checkpoint-7/shards/shard-00001-of-00002.h5 && cp -r y disk-1/checkpoint-7");
        write_nodes(&f, "disk-0/checkpoint-7/nodes", 0);
        write_nodes(&f, "disk-1/checkpoint-7/nodes", 1);
        choose(&f, run, -1, INT64_MAX, &p);
        id_of(&f, "y", id);
        snprintf(whole, sizeof(whole), "%s/y", f.directory);
        ck_assert(small_read(whole, &same) == SGC_OK && same);
        ck_assert(p.step == 7 && strcmp(p.id, id) == 0 && p.n_missing == 0 && p.from[0] == 1 && p.from[1] == 1);
        sgc_recovery_free(&p);
        tear_down(&f);
    }
}
END_TEST

START_TEST(only_what_is_newer_whole_and_of_the_run_is_chosen)
{
    fixture f;
    sgc_recovery p;
    set_up(&f);
    shell(&f, "for k in 0 1; do cp -r x disk-$k/checkpoint-7 && rm disk-$k/checkpoint-7/shards/shard-0000$((1 - k))-of-00002.h5; done");
    for (int node = 0; node < N_NODES; node++) {
        char where[64];
        snprintf(where, sizeof(where), "disk-%d/checkpoint-7/nodes", node);
        write_nodes(&f, where, node);
    }
    choose(&f, run, 6, INT64_MAX, &p);
    ck_assert(p.step == 7 && p.from[0] == 0 && p.from[1] == 1);
    sgc_recovery_free(&p);
    choose(&f, run, 7, INT64_MAX, &p);
    ck_assert(p.step == -1);
    choose(&f, run, -1, 7, &p);
    ck_assert(p.step == -1);
    choose(&f, "ffffffffffffffff", -1, INT64_MAX, &p);
    ck_assert(p.step == -1);
    shell(&f, "printf x | dd of=disk-1/checkpoint-7/shards/shard-00001-of-00002.h5 bs=1 seek=4100 conv=notrunc status=none");
    choose(&f, run, -1, INT64_MAX, &p);
    ck_assert(p.step == -1);
    shell(&f, "cp x/shards/shard-00001-of-00002.h5 disk-1/checkpoint-7/shards/ && printf x >>disk-0/checkpoint-7/nodes");
    choose(&f, run, -1, INT64_MAX, &p);
    ck_assert(p.step == -1);
    tear_down(&f);
}
END_TEST

/* As a parity is made of the two files' chunks: for two nodes it is the other file itself. */
START_TEST(a_parity_that_does_not_fit_its_hash_is_of_no_use)
{
    fixture f;
    char path[SGC_PATH_MAX], *bytes;
    unsigned char end[SGC_PARITY_END_BYTES];
    size_t n;
    set_up(&f);
    ck_assert_int_eq(sgc_path_join(path, f.directory, "x/shards/shard-00000-of-00002.h5"), SGC_OK);
    ck_assert_int_eq(sgc_read_file(path, &bytes, &n), SGC_OK);
    sgc_str text = {0};
    sgc_hasher *h = sgc_hasher_new();
    sgc_hasher_add(h, bytes, n);
    sgc_parity_put_end(h, end);
    sgc_str_append(&text, bytes, n);
    sgc_str_append(&text, end, sizeof(end));
    ck_assert_int_eq(sgc_path_join(path, f.directory, "x/shards/parity-00001"), SGC_OK);
    ck_assert_int_eq(sgc_path_join(path, f.directory, "x"), SGC_OK);
    for (size_t at = 0; at <= text.n; at += n / 7) { /* 0: whole */
        char file[SGC_PATH_MAX];
        size_t place = at == 0 ? 0 : at - 1;
        text.text[place] = (char)(text.text[place] ^ (at == 0 ? 0 : 4));
        ck_assert_int_eq(sgc_path_join(file, path, "shards/parity-00001"), SGC_OK);
        ck_assert_int_eq(sgc_write_file_atomic(file, text.text, text.n), SGC_OK);
        ck_assert(sgc_parity_fits(path, 1, (int64_t)n) == (at == 0));
        ck_assert(!sgc_parity_fits(path, 1, (int64_t)n - 1) && !sgc_parity_fits(path, 0, (int64_t)n));
        text.text[place] = (char)(text.text[place] ^ (at == 0 ? 0 : 4));
        sgc_err_clear();
    }
    sgc_hasher_free(h);
    sgc_str_free(&text);
    free(bytes);
    tear_down(&f);
}
END_TEST

/* What verify finds in x: the only file that it names, "" if nothing is wrong. */
static void verify_finds(const fixture *f, const char *expected)
{
    char path[SGC_PATH_MAX];
    sgc_group *group;
    sgc_ckpt_report r;
    ck_assert_int_eq(sgc_path_join(path, f->directory, "x"), SGC_OK);
    ck_assert_int_eq(sgc_group_null(&group, 1, 0), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_verify(path, group, &r), SGC_OK);
    ck_assert_int_eq(r.n_bad, *expected ? 1 : 0);
    if (*expected) ck_assert_str_eq(r.damages[0].file, expected);
    sgc_ckpt_report_free(&r);
    sgc_group_free(group);
}

START_TEST(verify_misses_what_a_node_must_hold)
{
    static const char head[] = "stagecoach node-local checkpoint\nredundancy ";
    const char *shard = "shards/shard-00001-of-00002.h5", *hide = "mv x/shards/shard-00001-of-00002.h5 hidden", *back = "mv hidden x/shards/shard-00001-of-00002.h5";
    fixture f;
    char text[256];
    set_up(&f);
    write_nodes(&f, "x/nodes", 0); /* of two partners each holds all */
    verify_finds(&f, "");
    shell(&f, hide);
    verify_finds(&f, shard);
    shell(&f, "printf X | dd of=x/nodes bs=1 seek=20 conv=notrunc status=none");
    verify_finds(&f, "nodes"); /* and who must hold that shard is not known */
    shell(&f, back);
    verify_finds(&f, "nodes");
    snprintf(text, sizeof(text), "%spartner\nnodes 3\nnode 0\nset 0 1 2\n", head); /* shard 2, of the node before, is not of this checkpoint */
    write_text(&f, "x/nodes", text, true);
    shell(&f, hide);
    verify_finds(&f, "");
    snprintf(text, sizeof(text), "%spartner\nnodes 3\nnode 2\nset 0 1 2\n", head);
    write_text(&f, "x/nodes", text, true);
    verify_finds(&f, shard);
    snprintf(text, sizeof(text), "%sxor\nnodes 3\nnode 0\nset 0 1 2\n", head);
    write_text(&f, "x/nodes", text, true);
    verify_finds(&f, "shards/parity-00000");
    snprintf(text, sizeof(text), "%snone\nnodes 2\nnode 0\n", head);
    write_text(&f, "x/nodes", text, true);
    verify_finds(&f, "");
    shell(&f, "rm x/shards/shard-0*");
    verify_finds(&f, "shards");
    tear_down(&f);
}
END_TEST

UNIT_MAIN("parts", what_is_written_of_nodes_is_read_back, texts_of_nodes_that_are_none_are_refused, of_two_checkpoints_of_one_step_the_one_that_is_whole_is_found,
          only_what_is_newer_whole_and_of_the_run_is_chosen, a_parity_that_does_not_fit_its_hash_is_of_no_use, verify_misses_what_a_node_must_hold)
