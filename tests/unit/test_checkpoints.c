/* The checkpoints of a directory. */
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt_impl.h"
#include "unit.h"

enum { N_SHARD = SGC_FLAT_BLOCK };

/* A directory, and a model of one tensor to fill its checkpoints. */
typedef struct fixture {
    char directory[64];
    sgc_param_spec tensor;
    sgc_unit unit;
    sgc_model model;
    sgc_group *group;
    sgc_ckpt_info info;
    bool weights_only;        /* what is saved from here on */
} fixture;

static void set_up(fixture *f)
{
    *f = (fixture){.directory = "/tmp/stagecoach-list.XXXXXX", .info = {.run_id = "aaaaaaaaaaaaaaaa", .loss = 1, .dtype = "float32"}};
    f->tensor = (sgc_param_spec){.name = "w", .n_dim = 1, .shape = {N_SHARD}, .n = N_SHARD};
    f->unit = (sgc_unit){.name = "only", .n_params = 1, .params = &f->tensor, .n = N_SHARD};
    ck_assert_ptr_nonnull(mkdtemp(f->directory));
    ck_assert_int_eq(sgc_group_null(&f->group, 1, 0), SGC_OK);
    sgc_log_set_level(SGC_LOG_ERROR);
}

static void tear_down(fixture *f)
{
    sgc_group_free(f->group);
    ck_assert_int_eq(sgc_remove_tree(f->directory), SGC_OK);
}

static void save(fixture *f, int64_t step, const char *run_id)
{
    static float values[N_SHARD];
    char path[SGC_PATH_MAX];
    sgc_run_state state = {.step = step};
    sgc_ckpt_part parts[SGC_N_SLOTS];
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        parts[slot] = (sgc_ckpt_part){.unit = &f->unit, .slot = slot, .flat = sgc_flat_make(N_SHARD, 1), .values = values};
    strcpy(f->info.run_id, run_id);
    sgc_ckpt_job job = {.output_dir = f->directory, .group = f->group, .model = &f->model, .state = &state, .info = &f->info,
                        .config_text = "", .block_size = 4096};
    ck_assert_msg(sgc_ckpt_write_parts(&job, parts, f->weights_only ? 1 : SGC_N_SLOTS, path) == SGC_OK, "%s", sgc_err_message());
}

static void shell(const fixture *f, const char *command)
{
    char line[512];
    snprintf(line, sizeof(line), "cd %s && %s", f->directory, command);
    ck_assert_msg(system(line) == 0, "%s", line);
}

/* "100 complete, 200 damaged, ..." */
static void expect(const fixture *f, const char *wanted)
{
    static const char *const names[] = {"complete", "damaged", "newer", "partial", "old", "part"};
    sgc_str found = {0};
    sgc_ckpt_entry *entries;
    int n;
    sgc_str_printf(&found, "%s", "");
    ck_assert_int_eq(sgc_ckpt_list(f->directory, &entries, &n), SGC_OK);
    for (int i = 0; i < n; i++) sgc_str_printf(&found, "%s%lld %s", i ? ", " : "", (long long)entries[i].step, names[entries[i].status]);
    ck_assert_str_eq(found.text, wanted);
    sgc_str_free(&found);
    free(entries);
}

static void expect_latest(const fixture *f, const char *wanted)
{
    char path[SGC_PATH_MAX];
    ck_assert_int_eq(sgc_ckpt_latest(f->directory, INT64_MAX, false, true, path), SGC_OK);
    const char *name = strrchr(path, '/');
    ck_assert_str_eq(name ? name + 1 : path, wanted);
}

static const char run_a[] = "aaaaaaaaaaaaaaaa", run_b[] = "bbbbbbbbbbbbbbbb";

START_TEST(checkpoints_are_listed_by_step_with_what_is_wrong)
{
    fixture f;
    sgc_ckpt_entry *entries;
    int n;
    set_up(&f);
    expect(&f, "");
    expect_latest(&f, "");
    save(&f, 1000, run_a);
    save(&f, 300, run_a);
    save(&f, 20, run_a);
    save(&f, 4, run_a);
    shell(&f, "mkdir -p .checkpoint-4000.tmp-0123456789abcdef/shards checkpoint- checkpoint-x checkpoint-7x best && "
              "mkdir checkpoint-99999999999999999999 && "
              "cp -r checkpoint-4 checkpoint-4.old-0123456789abcdef && touch checkpoint-5 && rm checkpoint-20/shards/* && "
              "mv checkpoint-1000 checkpoint-1001");
    expect(&f, "4 complete, 4 old, 20 damaged, 300 complete, 1001 damaged, 4000 partial");
    expect_latest(&f, "checkpoint-300");
    ck_assert_int_eq(sgc_ckpt_list(f.directory, &entries, &n), SGC_OK);
    ck_assert_ptr_nonnull(strstr(entries[2].problem, "shard-00000-of-00001.h5"));
    ck_assert_ptr_nonnull(strstr(entries[4].problem, "it holds step 1000"));
    ck_assert(entries[3].bytes > 3 * 1024 && strcmp(entries[3].info.run_id, run_a) == 0);
    free(entries);
    tear_down(&f);
}
END_TEST

START_TEST(latest_is_of_the_run_that_the_directory_belongs_to)
{
    fixture f;
    set_up(&f);
    save(&f, 10, run_a);
    save(&f, 20, run_b); /* copied here by somebody */
    expect_latest(&f, "checkpoint-20");
    shell(&f, "printf '{\"run_id\": \"aaaaaaaaaaaaaaaa\"}' >run.json");
    expect_latest(&f, "checkpoint-10");
    shell(&f, "rm checkpoint-10/shards/*"); /* its own is damaged: still not that of the other */
    char path[SGC_PATH_MAX];
    ck_assert_int_eq(sgc_ckpt_latest(f.directory, INT64_MAX, false, true, path), SGC_ECKPT);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "checkpoint-20 is of run bbbbbbbbbbbbbbbb, checkpoint-10 is damaged"));
    sgc_err_clear();
    shell(&f, "rm -r checkpoint-10");
    ck_assert_int_eq(sgc_ckpt_latest(f.directory, INT64_MAX, false, true, path), SGC_ECKPT);
    sgc_err_clear();
    ck_assert_int_eq(sgc_ckpt_latest(f.directory, 20, false, true, path), SGC_OK);
    ck_assert_str_eq(path, "");
    shell(&f, "echo garbage >run.json");
    expect_latest(&f, "checkpoint-20");
    save(&f, 30, run_a);
    shell(&f, "rm checkpoint-30/shards/*"); /* the newest tells its run, though it is damaged */
    ck_assert_int_eq(sgc_ckpt_latest(f.directory, INT64_MAX, false, true, path), SGC_ECKPT);
    sgc_err_clear();
    tear_down(&f);
}
END_TEST

START_TEST(what_has_no_optimizer_states_is_not_resumed_nor_counted)
{
    fixture f;
    char path[SGC_PATH_MAX];
    bool surplus[4];
    int n;
    sgc_ckpt_entry *entries;
    set_up(&f);
    for (int step = 10; step <= 20; step += 10) save(&f, step, run_a);
    f.weights_only = true;
    save(&f, 30, run_a);
    expect_latest(&f, "checkpoint-20");
    ck_assert_int_eq(sgc_ckpt_latest(f.directory, INT64_MAX, true, true, path), SGC_OK); /* it is no damage */
    ck_assert_ptr_nonnull(strstr(path, "checkpoint-20"));
    ck_assert_int_eq(sgc_ckpt_latest(f.directory, INT64_MAX, false, false, path), SGC_OK); /* to evaluate it will do */
    ck_assert_ptr_nonnull(strstr(path, "checkpoint-30"));
    ck_assert_int_eq(sgc_ckpt_list(f.directory, &entries, &n), SGC_OK);
    sgc_retention_choose(&(sgc_retention){.limit = 1}, run_a, entries, n, surplus);
    ck_assert(n == 3 && surplus[0] && !surplus[1] && !surplus[2]);
    free(entries);
    tear_down(&f);
}
END_TEST

START_TEST(what_commands_left_is_listed_and_stays_at_a_start)
{
    fixture f;
    set_up(&f);
    save(&f, 1, run_a);
    shell(&f, "mkdir -p .weights.tmp-0123456789abcdef/shards .hidden.tmp-0 .tmp-0123456789abcdef .other.tmp-0123456789abcdef/precious && "
              "touch .weights.tmp-0123456789abcdef/config.cfg.tmp .file.tmp-0123456789abcdef && ln -s checkpoint-1 .best.tmp-0123456789abcdef && "
              "ln -s checkpoint-1 .link.tmp-0123456789abcdef");
    expect(&f, "-1 partial, -1 partial, 1 complete");
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 1, NULL), SGC_OK);
    expect(&f, "-1 partial, 1 complete");
    shell(&f, "test -d .weights.tmp-0123456789abcdef -a ! -L .best.tmp-0123456789abcdef -a -f checkpoint-1/manifest");
    ck_assert_int_eq(sgc_ckpt_delete(f.directory, ".weights.tmp-0123456789abcdef"), SGC_OK);
    expect(&f, "1 complete");
    tear_down(&f);
}
END_TEST

START_TEST(on_a_disk_of_nodes_other_runs_are_left_alone)
{
    fixture f;
    set_up(&f);
    for (int step = 1; step <= 2; step++) save(&f, step, run_b);
    for (int step = 3; step <= 6; step++) save(&f, step, run_a);
    shell(&f, "for i in *; do touch $i/nodes; done");
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 5, run_a), SGC_OK);
    expect(&f, "1 complete, 2 complete, 3 complete, 4 complete, 5 complete, 6 old");
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 0, "cccccccccccccccc"), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_prune_local(f.directory, "cccccccccccccccc", 1), SGC_OK);
    expect(&f, "1 complete, 2 complete, 3 complete, 4 complete, 5 complete, 6 old");
    ck_assert_int_eq(sgc_ckpt_prune_local(f.directory, run_a, 2), SGC_OK);
    expect(&f, "1 complete, 2 complete, 4 complete, 5 complete");
    tear_down(&f);
}
END_TEST

START_TEST(what_is_shared_or_of_a_later_version_is_never_cleaned_up_as_node_local)
{
    fixture f;
    char path[SGC_PATH_MAX];
    set_up(&f);
    for (int step = 1; step <= 4; step++) save(&f, step, run_a);
    ck_assert_int_eq(sgc_ckpt_prune_local(f.directory, run_a, 1), SGC_OK);
    expect(&f, "1 complete, 2 complete, 3 complete, 4 complete");
    shell(&f, "for i in *; do touch $i/nodes; done");
    for (int step = 1; step <= 4; step += 3) { /* whose, is not known */
        sgc_str text = {0};
        char file[SGC_PATH_MAX];
        sgc_str_printf(&text, "stagecoach checkpoint manifest\nversion %d\n", SGC_CKPT_VERSION + 1);
        sgc_manifest_put_end(&text);
        snprintf(file, sizeof(file), "%s/checkpoint-%d/manifest", f.directory, step);
        FILE *out = fopen(file, "w");
        ck_assert(out && fputs(text.text, out) >= 0 && fclose(out) == 0);
        sgc_str_free(&text);
    }
    ck_assert_int_eq(sgc_ckpt_prune_local(f.directory, run_a, 1), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 0, run_b), SGC_OK);
    expect(&f, "1 newer, 3 complete, 4 newer");
    ck_assert_int_eq(sgc_ckpt_latest(f.directory, INT64_MAX, true, true, path), SGC_ECKPT);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "checkpoint-4 is of a newer version of stagecoach"));
    ck_assert_ptr_null(strstr(sgc_err_message(), "remove"));
    sgc_err_clear();
    shell(&f, "sed -i 's/^end ./end x/' checkpoint-1/manifest"); /* a version that does not fit its hash means nothing */
    expect(&f, "1 damaged, 3 complete, 4 newer");
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 3, NULL), SGC_OK);
    expect(&f, "1 damaged, 3 complete, 4 old");
    tear_down(&f);
}
END_TEST

START_TEST(a_directory_belongs_to_the_run_of_its_report_or_of_its_newest)
{
    fixture f;
    char run[SGC_ID_CHARS + 1];
    int64_t step;
    set_up(&f);
    ck_assert(sgc_ckpt_newest(f.directory, INT64_MAX, &step, run) == SGC_OK && step == -1 && !run[0]);
    save(&f, 10, run_a);
    save(&f, 20, run_b);
    ck_assert(sgc_ckpt_newest(f.directory, INT64_MAX, &step, run) == SGC_OK && step == 20 && strcmp(run, run_b) == 0);
    ck_assert(sgc_ckpt_newest(f.directory, 20, &step, run) == SGC_OK && step == 10 && strcmp(run, run_a) == 0);
    shell(&f, "printf '{\"run_id\": \"aaaaaaaaaaaaaaaa\"}' >run.json");
    ck_assert(sgc_ckpt_newest(f.directory, INT64_MAX, &step, run) == SGC_OK && step == 10 && strcmp(run, run_a) == 0);
    shell(&f, "mv run.json kept && mkfifo run.json"); /* is not waited for */
    ck_assert(sgc_ckpt_newest(f.directory, INT64_MAX, &step, run) == SGC_OK && step == 20 && strcmp(run, run_b) == 0);
    shell(&f, "mv kept run.json && rm -r checkpoint-10");
    ck_assert(sgc_ckpt_newest(f.directory, INT64_MAX, &step, run) == SGC_OK && step == -1 && strcmp(run, run_a) == 0);
    tear_down(&f);
}
END_TEST

START_TEST(a_directory_that_is_not_there_has_no_latest_and_no_list)
{
    char path[SGC_PATH_MAX];
    sgc_ckpt_entry *entries;
    int n;
    ck_assert_int_eq(sgc_ckpt_latest("/nonexistent", INT64_MAX, false, true, path), SGC_OK);
    ck_assert_str_eq(path, "");
    ck_assert_int_eq(sgc_ckpt_set_aside("/nonexistent", -1, NULL), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_list("/nonexistent", &entries, &n), SGC_EDATA);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "/nonexistent"));
    sgc_err_clear();
}
END_TEST

static void rotate(const fixture *f, int64_t limit, const char *best)
{
    ck_assert_int_eq(sgc_ckpt_rotate(f->directory, run_a, &(sgc_retention){.limit = limit, .best = best}), SGC_OK);
}

START_TEST(rotation_deletes_the_oldest_of_its_own_run_only)
{
    fixture f;
    set_up(&f);
    for (int step = 1; step <= 3; step++) save(&f, step, run_b);
    for (int step = 4; step <= 7; step++) save(&f, step, run_a);
    shell(&f, "rm checkpoint-5/config.cfg");
    rotate(&f, 3, NULL);
    expect(&f, "1 complete, 2 complete, 3 complete, 4 complete, 5 damaged, 6 complete, 7 complete");
    rotate(&f, 2, "checkpoint-4");
    expect(&f, "1 complete, 2 complete, 3 complete, 4 complete, 5 damaged, 7 complete");
    rotate(&f, 1, "checkpoint-4");
    expect(&f, "1 complete, 2 complete, 3 complete, 4 complete, 5 damaged, 7 complete");
    rotate(&f, 1, NULL);
    expect(&f, "1 complete, 2 complete, 3 complete, 5 damaged, 7 complete");
    tear_down(&f);
}
END_TEST

/* "0110" for steps 10, 20, 30, 40 */
static void expect_surplus(const fixture *f, const sgc_retention *rules, const char *wanted)
{
    sgc_ckpt_entry *entries;
    int n;
    bool surplus[8];
    char found[8] = "";
    ck_assert_int_eq(sgc_ckpt_list(f->directory, &entries, &n), SGC_OK);
    sgc_retention_choose(rules, run_a, entries, n, surplus);
    for (int i = 0; i < n; i++) strcat(found, surplus[i] ? "1" : "0");
    ck_assert_str_eq(found, wanted);
    free(entries);
}

START_TEST(the_best_the_last_and_milestones_are_no_surplus)
{
    fixture f;
    set_up(&f);
    for (int step = 10; step <= 40; step += 10) save(&f, step, run_a);
    expect_surplus(&f, &(sgc_retention){.limit = -1}, "0000");
    expect_surplus(&f, &(sgc_retention){.limit = 5}, "0000");
    expect_surplus(&f, &(sgc_retention){.limit = 3}, "1000");
    expect_surplus(&f, &(sgc_retention){.limit = 1}, "1110");
    expect_surplus(&f, &(sgc_retention){.limit = 1, .best = "checkpoint-20"}, "1010"); /* as the Trainer: two stay then */
    expect_surplus(&f, &(sgc_retention){.limit = 2, .best = "checkpoint-10"}, "0110");
    expect_surplus(&f, &(sgc_retention){.limit = 1, .keep_every = 20}, "1000"); /* 30 is the one that counts */
    expect_surplus(&f, &(sgc_retention){.limit = 1, .keep_every = 30}, "1100");
    expect_surplus(&f, &(sgc_retention){.limit = 1, .best = "checkpoint-40"}, "1110");
    tear_down(&f);
}
END_TEST

START_TEST(a_deleted_checkpoint_is_gone_and_one_half_deleted_is_partial)
{
    fixture f;
    set_up(&f);
    save(&f, 1, run_a);
    save(&f, 2, run_a);
    ck_assert_int_eq(sgc_ckpt_delete(f.directory, "checkpoint-1"), SGC_OK);
    expect(&f, "2 complete");
    ck_assert_int_eq(sgc_ckpt_delete(f.directory, "checkpoint-1"), SGC_EIO);
    sgc_err_clear();
    shell(&f, "mkdir -p .checkpoint-3.tmp-0123456789abcdef/shards && cp -r checkpoint-2 checkpoint-2.old-0123456789abcdef");
    ck_assert_int_eq(sgc_ckpt_delete(f.directory, ".checkpoint-3.tmp-0123456789abcdef"), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_delete(f.directory, "checkpoint-2.old-0123456789abcdef"), SGC_OK);
    shell(&f, "test \"$(ls -A)\" = checkpoint-2");
    tear_down(&f);
}
END_TEST

static void expect_best(const fixture *f, const char *wanted)
{
    char name[SGC_NAME_MAX];
    ck_assert_int_eq(sgc_ckpt_best(f->directory, name), SGC_OK);
    ck_assert_str_eq(name, wanted);
}

START_TEST(the_link_to_the_best_moves_along_and_never_leads_nowhere)
{
    fixture f;
    set_up(&f);
    ck_assert_int_eq(sgc_ckpt_repair_best(f.directory, 4), SGC_OK);
    expect_best(&f, "");
    for (int step = 1; step <= 4; step++) save(&f, step, run_a);
    ck_assert_int_eq(sgc_ckpt_set_best(f.directory, "checkpoint-1"), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_set_best(f.directory, "checkpoint-3"), SGC_OK);
    expect_best(&f, "checkpoint-3");
    shell(&f, "mkdir moved && mv best checkpoint-3 moved && cd / && test -f $OLDPWD/moved/best/manifest && cd $OLDPWD && mv moved/* . && rmdir moved");
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 2, NULL), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_repair_best(f.directory, 2), SGC_OK);
    expect_best(&f, "checkpoint-2");
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 0, NULL), SGC_OK);
    ck_assert_int_eq(sgc_ckpt_repair_best(f.directory, 2), SGC_OK);
    expect_best(&f, "");
    shell(&f, "mkdir best");
    expect_best(&f, "");
    ck_assert_int_eq(sgc_ckpt_set_best(f.directory, "checkpoint-2"), SGC_EIO);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "is not a link"));
    sgc_err_clear();
    tear_down(&f);
}
END_TEST

START_TEST(later_checkpoints_are_set_aside_and_leftovers_swept)
{
    fixture f;
    set_up(&f);
    for (int step = 1; step <= 3; step++) save(&f, step, run_a);
    shell(&f, "rm checkpoint-3/config.cfg && mkdir -p .checkpoint-4.tmp-0123456789abcdef/shards .checkpoint-4.tmp-mine/precious");
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, 1, NULL), SGC_OK);
    expect(&f, "1 complete, 2 old, 3 old");
    shell(&f, "test -d .checkpoint-4.tmp-mine/precious -a ! -e .checkpoint-4.tmp-0123456789abcdef");
    expect_latest(&f, "checkpoint-1");
    save(&f, 2, run_a);
    ck_assert_int_eq(sgc_ckpt_set_aside(f.directory, -1, NULL), SGC_OK);
    expect(&f, "1 old, 2 old, 2 old, 3 old");
    expect_latest(&f, "");
    tear_down(&f);
}
END_TEST

UNIT_MAIN("checkpoints", checkpoints_are_listed_by_step_with_what_is_wrong, latest_is_of_the_run_that_the_directory_belongs_to, what_has_no_optimizer_states_is_not_resumed_nor_counted,
          what_commands_left_is_listed_and_stays_at_a_start, on_a_disk_of_nodes_other_runs_are_left_alone,
          what_is_shared_or_of_a_later_version_is_never_cleaned_up_as_node_local,
          a_directory_belongs_to_the_run_of_its_report_or_of_its_newest, a_directory_that_is_not_there_has_no_latest_and_no_list,
          rotation_deletes_the_oldest_of_its_own_run_only, the_best_the_last_and_milestones_are_no_surplus,
          a_deleted_checkpoint_is_gone_and_one_half_deleted_is_partial, the_link_to_the_best_moves_along_and_never_leads_nowhere, later_checkpoints_are_set_aside_and_leftovers_swept)
