/* Checkpoints of any number of ranks: what is saved is read back by any other number, and what is damaged is not. */
#include "mpi_check.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/h5.h"
#include "ckpt/ckpt_impl.h"

enum { N_PARTS_MAX = 64, STEP = 7, BLOCK = 4096 };
#define ALL (world.all)
#define IS_ROOT (world.rank == 0)

static const char config_text[] = "# what the run was started with\nmodel = { };\n";

/* A run of this test: a model, this rank's slices of its tensors, a directory that all ranks see. */
typedef struct fixture {
    sgc_model *model;
    sgc_ckpt_part parts[N_PARTS_MAX];
    int n_parts;
    sgc_run_state state;
    sgc_ckpt_info info;
    char directory[SGC_PATH_MAX], path[SGC_PATH_MAX]; /* path: of the checkpoint once saved */
} fixture;

/* Element e of a unit's flat buffer: no two are the same. Alignment gaps are 0. */
static float value_at(const sgc_unit *u, int slot, int64_t e)
{
    return sgc_unit_param_at(u, e) ? (float)(e + 1) + (float)(u->index * SGC_N_SLOTS + slot) * 0x1p18f : 0;
}

static void set_up(fixture *f, bool tied)
{
    *f = (fixture){.state = {.step = STEP, .samples = 1LL << 40, .epoch = 3, .epoch_position = 17, .tokens = 5, .seed = -1, .data_seed = 9,
                             .total_flos = 1e300, .train_loss_sum = 0.1, .train_loss_n = 2, .window_loss_sum = -0.0, .window_loss_n = 1,
                             .last_loss = 1.0 / 3, .last_eval_loss = NAN, .best_metric = NAN, .best_step = -1, .plateau_rate = 1e-5,
                             .plateau_best = INFINITY, .plateau_n_bad = 4, .plateau_has_best = 1},
                   .info = {.run_id = "0123456789abcdef", .stage = 2, .global_batch = 24, .dtype = "float32", .isa = "AVX2", .version = "1",
                            .loss = 1.5, .eval_loss = NAN, .n_parameters = 1}};
    sgc_model_options o = {.vocab_size = 29, .n_positions = 12, .n_embd = 24, .n_layer = 2, .n_head = 3, .layer_norm_epsilon = 1e-5,
                           .tie_word_embeddings = tied};
    mpi_assert(sgc_model_make(&f->model, &o, 29) == SGC_OK);
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; u < f->model->n_units; u++) {
            sgc_flat flat = sgc_flat_make(f->model->units[u].n, world.size);
            float *values = malloc((size_t)flat.n_shard * sizeof(float));
            for (int64_t i = 0; i < flat.n_shard; i++) values[i] = value_at(&f->model->units[u], slot, world.rank * flat.n_shard + i);
            f->parts[f->n_parts++] = (sgc_ckpt_part){.unit = &f->model->units[u], .slot = slot, .flat = flat, .values = values};
        }
    if (IS_ROOT) {
        const char *tmp = getenv("TMPDIR");
        snprintf(f->directory, sizeof(f->directory), "%s/stagecoach-ckpt.XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(f->directory)) abort();
    }
    mpi_assert(sgc_bcast_bytes(ALL, f->directory, sizeof(f->directory), 0) == SGC_OK);
}

static sgc_status save(fixture *f)
{
    sgc_ckpt_job job = {.output_dir = f->directory, .group = ALL, .model = f->model, .state = &f->state, .info = &f->info,
                        .config_text = config_text, .block_size = BLOCK};
    return sgc_ckpt_write_parts(&job, f->parts, f->n_parts, f->path);
}

static void tear_down(fixture *f)
{
    mpi_assert(sgc_barrier(ALL) == SGC_OK);
    if (IS_ROOT) sgc_remove_tree(f->directory);
    for (int k = 0; k < f->n_parts; k++) free((void *)f->parts[k].values);
    sgc_model_free(f->model);
    mpi_assert(sgc_barrier(ALL) == SGC_OK);
}

/* Read all tensors in the slices of every rank of a world of n_ranks. */
static sgc_status read_all(sgc_ckpt *c, const sgc_model *m, int n_ranks, bool *same)
{
    sgc_status st = SGC_OK;
    float *out = NULL;
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; u < m->n_units; u++) {
            sgc_flat flat = sgc_flat_make(m->units[u].n, n_ranks);
            out = realloc(out, (size_t)flat.n_shard * sizeof(float));
            for (int rank = 0; rank < n_ranks; rank++) {
                for (int64_t i = 0; i < flat.n_shard; i++) out[i] = -1;
                SGC_TRY(sgc_ckpt_read(c, &m->units[u], slot, rank * flat.n_shard, flat.n_shard, out));
                for (int64_t i = 0; i < flat.n_shard; i++) *same = *same && out[i] == value_at(&m->units[u], slot, rank * flat.n_shard + i);
            }
        }
done:
    free(out);
    return st;
}

START_TEST(any_number_of_ranks_reads_what_was_saved)
{
    fixture f;
    sgc_ckpt *c;
    set_up(&f, true);
    mpi_assert(save(&f) == SGC_OK);
    mpi_assert(sgc_ckpt_open(&c, f.path, ALL) == SGC_OK);
    for (int n_ranks = 1; n_ranks <= 9; n_ranks++) {
        bool same = true;
        mpi_assert(read_all(c, f.model, n_ranks, &same) == SGC_OK);
        mpi_assert(same);
    }
    mpi_assert(sgc_mem_held(SGC_MEM_CHECKPOINT) == BLOCK);
    sgc_ckpt_close(c);
    mpi_assert(sgc_mem_held(SGC_MEM_CHECKPOINT) == 0);
    tear_down(&f);
}
END_TEST

START_TEST(state_and_attributes_come_back_unchanged)
{
    fixture f;
    sgc_ckpt *c;
    set_up(&f, true);
    mpi_assert(save(&f) == SGC_OK);
    mpi_assert(sgc_ckpt_open(&c, f.path, ALL) == SGC_OK);
    mpi_assert(memcmp(sgc_ckpt_get_state(c), &f.state, sizeof(f.state)) == 0);
    const sgc_ckpt_info *i = sgc_ckpt_get_info(c);
    mpi_assert(strcmp(i->run_id, f.info.run_id) == 0 && i->step == STEP && i->world_size == world.size && i->stage == 2);
    mpi_assert(i->global_batch == 24 && i->loss == 1.5 && isnan(i->eval_loss) && i->n_parameters == 1 && i->save_s >= 0);
    mpi_assert(strlen(i->id) == SGC_ID_CHARS && strlen(i->date) == strlen("2026-01-31T12:00:00Z") && i->host[0]);
    mpi_assert(strcmp(i->dtype, "float32") == 0 && strcmp(i->isa, "AVX2") == 0 && strcmp(i->version, "1") == 0);
    sgc_ckpt_close(c);
    tear_down(&f);
}
END_TEST

/* The whole tensor through HDF5's own file driver. */
static bool shows(hid_t file, const char *slot_path, const char *name, const sgc_unit *u, int slot, const sgc_param_spec *p)
{
    char path[256];
    float *out = malloc((size_t)p->n * sizeof(float));
    hsize_t shape[SGC_MAX_DIM];
    snprintf(path, sizeof(path), "/%s/%s", slot_path, name);
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), space = H5Dget_space(dataset);
    bool same = H5Sget_simple_extent_dims(space, shape, NULL) == p->n_dim &&
                H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;
    for (int d = 0; same && d < p->n_dim; d++) same = (int64_t)shape[d] == p->shape[d];
    for (int64_t e = 0; same && e < p->n; e++) same = out[e] == value_at(u, slot, p->offset + e);
    H5Sclose(space);
    H5Dclose(dataset);
    free(out);
    return same;
}

static bool shows_all(const fixture *f, const char *path)
{
    char name[SGC_PATH_MAX + 16];
    snprintf(name, sizeof(name), "%s/checkpoint.h5", path);
    hid_t file = H5Fopen(name, H5F_ACC_RDONLY, H5P_DEFAULT);
    bool same = file >= 0;
    for (int k = 0; same && k < f->n_parts; k++) {
        const sgc_unit *u = f->parts[k].unit;
        const char *slot_path = sgc_slot_path[f->parts[k].slot];
        for (int i = 0; same && i < u->n_params; i++) {
            same = shows(file, slot_path, u->params[i].name, u, f->parts[k].slot, &u->params[i]);
            if (f->model->options.tie_word_embeddings && strcmp(u->params[i].name, "wte.weight") == 0)
                same = same && shows(file, slot_path, "lm_head.weight", u, f->parts[k].slot, &u->params[i]);
        }
    }
    H5Fclose(file);
    return same;
}

START_TEST(hdf5_shows_every_tensor_whole_also_after_a_move)
{
    for (int tied = 0; tied <= 1; tied++) {
        fixture f;
        char moved[SGC_PATH_MAX];
        set_up(&f, tied);
        mpi_assert(save(&f) == SGC_OK);
        mpi_assert(!IS_ROOT || shows_all(&f, f.path));
        mpi_assert(sgc_path_join(moved, f.directory, "mövéd to/") == SGC_OK);
        mpi_assert(!IS_ROOT || (rename(f.path, moved) == 0 && chdir("/") == 0 && shows_all(&f, moved)));
        tear_down(&f);
    }
}
END_TEST

static bool flip(const char *path, int64_t offset)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    bool done = pread(fd, &byte, 1, (off_t)offset) == 1;
    byte ^= (unsigned char)(1 << (offset % 8));
    done = done && pwrite(fd, &byte, 1, (off_t)offset) == 1;
    return close(fd) == 0 && done;
}

static int64_t file_bytes(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? (int64_t)s.st_size : -1;
}

/* Not opened, or not read: on every rank, with a message that says `name`. */
static bool is_refused(const fixture *f, const char *name)
{
    sgc_ckpt *c = NULL;
    bool same = true;
    sgc_status st = sgc_ckpt_open(&c, f->path, ALL);
    if (st == SGC_OK) st = read_all(c, f->model, world.size, &same);
    sgc_ckpt_close(c);
    bool refused = st == SGC_ECKPT && strstr(sgc_err_message(), name);
    sgc_err_clear();
    return refused;
}

static void refuse_flipped(const fixture *f, const char *name, int64_t offset)
{
    char path[SGC_PATH_MAX];
    mpi_assert(sgc_path_join(path, f->path, name) == SGC_OK);
    mpi_assert(!IS_ROOT || flip(path, offset));
    mpi_assert(is_refused(f, name));
    mpi_assert(!IS_ROOT || flip(path, offset));
    mpi_assert(sgc_barrier(ALL) == SGC_OK);
}

START_TEST(a_flipped_bit_is_found_in_whatever_file)
{
    fixture f;
    sgc_ckpt *c;
    set_up(&f, true);
    mpi_assert(save(&f) == SGC_OK);
    mpi_assert(sgc_ckpt_open(&c, f.path, ALL) == SGC_OK);
    for (int64_t i = 0; i < 10; i++) {
        char path[SGC_PATH_MAX];
        mpi_assert(sgc_path_join(path, f.path, SGC_MANIFEST_NAME) == SGC_OK);
        refuse_flipped(&f, SGC_MANIFEST_NAME, i * file_bytes(path) / 10);
        refuse_flipped(&f, "config.cfg", i * c->manifest.files[SGC_FILE_CONFIG].n_bytes / 10);
        refuse_flipped(&f, "checkpoint.h5", i * c->manifest.files[SGC_FILE_INDEX].n_bytes / 10);
    }
    for (int shard = 0; shard < world.size; shard++) /* first byte of each dataset */
        for (int k = 0; k < c->manifest.files[SGC_FILE_SHARDS].n_data; k++) {
            char name[64];
            const sgc_manifest_data *d = &c->manifest.files[SGC_FILE_SHARDS + shard].data[k];
            sgc_manifest_path(name, SGC_FILE_SHARDS + shard, world.size);
            if (shard * d->n < f.parts[k].unit->n) refuse_flipped(&f, name, d->offset); /* else it is padding and not read */
        }
    sgc_ckpt_close(c);
    mpi_assert(!IS_ROOT || shows_all(&f, f.path));
    tear_down(&f);
}
END_TEST

START_TEST(a_missing_a_short_and_a_foreign_file_are_refused_by_name)
{
    fixture f, other;
    set_up(&f, true);
    set_up(&other, true);
    for (int k = 0; k < other.n_parts; k++) ((float *)other.parts[k].values)[0] += 1;
    mpi_assert(save(&f) == SGC_OK && save(&other) == SGC_OK);
    for (int file = SGC_FILE_INDEX; file < SGC_FILE_SHARDS + world.size; file++) {
        char name[64], path[SGC_PATH_MAX], aside[SGC_PATH_MAX], foreign[SGC_PATH_MAX];
        sgc_manifest_path(name, file, world.size);
        mpi_assert(sgc_path_join(path, f.path, name) == SGC_OK && sgc_path_join(aside, f.directory, "aside") == SGC_OK);
        mpi_assert(sgc_path_join(foreign, other.path, name) == SGC_OK);
        mpi_assert(!IS_ROOT || rename(path, aside) == 0);
        mpi_assert(is_refused(&f, name));
        if (file != SGC_FILE_CONFIG) { /* that one is the same in both */
            mpi_assert(!IS_ROOT || (link(foreign, path) == 0 && !shows_all(&f, f.path)));
            mpi_assert(is_refused(&f, name));
            mpi_assert(!IS_ROOT || unlink(path) == 0);
        }
        int64_t n_bytes = 0;
        mpi_assert(!IS_ROOT || (rename(aside, path) == 0 && (n_bytes = file_bytes(path)) > 0 && truncate(path, (off_t)n_bytes - 1) == 0));
        mpi_assert(is_refused(&f, name));
        mpi_assert(!IS_ROOT || (unlink(path) == 0 && mkdir(path, 0777) == 0)); /* damaged for good */
        mpi_assert(is_refused(&f, name));
        tear_down(&f);
        set_up(&f, true);
        mpi_assert(save(&f) == SGC_OK);
    }
    mpi_assert(!IS_ROOT || (chdir(f.path) == 0 && unlink("manifest") == 0 && chdir("/") == 0));
    mpi_assert(is_refused(&f, "it has no manifest"));
    tear_down(&f);
    mpi_assert(is_refused(&f, "there is no checkpoint"));
    tear_down(&other);
}
END_TEST

START_TEST(a_checkpoint_of_another_model_is_refused)
{
    fixture f;
    sgc_ckpt *c;
    float out[4];
    set_up(&f, true);
    mpi_assert(save(&f) == SGC_OK);
    mpi_assert(sgc_ckpt_open(&c, f.path, ALL) == SGC_OK);
    sgc_unit other = f.model->units[1];
    strcpy(other.name, "h.77");
    mpi_assert(sgc_ckpt_read(c, &other, SGC_SLOT_MODEL, 0, 4, out) == SGC_ECKPT && strstr(sgc_err_message(), "h.77"));
    sgc_err_clear();
    other = f.model->units[1];
    other.n += world.size * SGC_FLAT_BLOCK;
    mpi_assert(sgc_ckpt_read(c, &other, SGC_SLOT_MODEL, 0, 4, out) == SGC_ECKPT && strstr(sgc_err_message(), other.name));
    sgc_err_clear();
    sgc_ckpt_close(c);
    tear_down(&f);
}
END_TEST

static int n_entries(const char *directory)
{
    sgc_ckpt_entry *entries;
    int n;
    if (sgc_ckpt_list(directory, &entries, &n) != SGC_OK) return -1;
    free(entries);
    return n;
}

START_TEST(a_write_that_fails_on_one_rank_fails_on_all_and_leaves_nothing)
{
    fixture f;
    set_up(&f, true);
    signal(SIGXFSZ, SIG_IGN);
    mpi_assert(save(&f) == SGC_OK);
    f.state.step++;
    for (int rank = 0; rank < world.size; rank++)
        for (rlim_t limit = 0; limit < 100000; limit = 2 * limit + 700) {
            struct rlimit unlimited, full;
            bool fails = rank == world.rank;
            getrlimit(RLIMIT_FSIZE, &unlimited);
            full = (struct rlimit){.rlim_cur = limit, .rlim_max = unlimited.rlim_max};
            if (fails) setrlimit(RLIMIT_FSIZE, &full);
            sgc_status st = save(&f);
            setrlimit(RLIMIT_FSIZE, &unlimited);
            mpi_assert(st == SGC_EIO);
            mpi_assert(strstr(sgc_err_message(), "File too large") && strstr(sgc_err_message(), f.directory));
            char origin[32];
            snprintf(origin, sizeof(origin), "rank %d on ", rank);
            mpi_assert(fails || strncmp(sgc_err_origin(), origin, strlen(origin)) == 0);
            sgc_err_clear();
            mpi_assert(!IS_ROOT || n_entries(f.directory) == 1);
            if (limit > 0 && world.size > 2) break; /* the rest is the same as on two ranks */
        }
    mpi_assert(save(&f) == SGC_OK);
    mpi_assert(!IS_ROOT || (n_entries(f.directory) == 2 && shows_all(&f, f.path)));
    tear_down(&f);
}
END_TEST

START_TEST(a_directory_that_cannot_be_written_is_named_on_all_ranks)
{
    fixture f;
    set_up(&f, true);
    char directory[SGC_PATH_MAX];
    strcpy(directory, f.directory);
    strcpy(f.directory, "/proc/stagecoach");
    mpi_assert(save(&f) == SGC_EIO && strstr(sgc_err_message(), "/proc/stagecoach"));
    sgc_err_clear();
    strcpy(f.directory, directory);
    tear_down(&f);
}
END_TEST

START_TEST(saving_a_step_again_keeps_the_former_checkpoint_aside)
{
    fixture f;
    set_up(&f, true);
    mpi_assert(save(&f) == SGC_OK);
    mpi_assert(save(&f) == SGC_OK);
    mpi_assert(!IS_ROOT || shows_all(&f, f.path));
    if (IS_ROOT) {
        sgc_ckpt_entry *entries = NULL;
        int n = 0;
        bool right = sgc_ckpt_list(f.directory, &entries, &n) == SGC_OK && n == 2 && entries[0].status == SGC_CKPT_COMPLETE &&
                     entries[1].status == SGC_CKPT_OLD && strcmp(entries[0].info.id, entries[1].info.id) != 0;
        free(entries);
        mpi_assert(right);
    } else {
        mpi_assert(true);
    }
    tear_down(&f);
}
END_TEST

START_TEST(an_engine_of_any_stage_loads_what_another_saved)
{
    for (int stage = 0; stage <= 3; stage++)
        for (int inference = 0; inference <= 1; inference++) {
            fixture f;
            sgc_device device;
            sgc_zero *from, *to;
            sgc_ckpt *c;
            bool same = true;
            set_up(&f, stage % 2);
            mpi_assert(sgc_device_open(&device, "ref32", false) == SGC_OK);
            mpi_assert(sgc_zero_make(&from, f.model, &device, ALL, &(sgc_zero_spec){.stage = stage, .n_micro = 1}) == SGC_OK);
            for (int k = 0; k < f.n_parts; k++)
                memcpy(sgc_zero_shard(from, f.parts[k].unit->index, f.parts[k].slot), f.parts[k].values,
                       (size_t)f.parts[k].flat.n_shard * sizeof(float));
            mpi_assert(sgc_zero_loaded(from) == SGC_OK);
            sgc_ckpt_job job = {.output_dir = f.directory, .group = ALL, .engine = from, .model = f.model, .state = &f.state, .info = &f.info,
                                .config_text = config_text, .block_size = BLOCK};
            mpi_assert(sgc_ckpt_write(&job, f.path) == SGC_OK);
            mpi_assert(!IS_ROOT || shows_all(&f, f.path));
            sgc_zero_free(from);

            sgc_zero_spec spec = {.stage = 3 - stage, .n_micro = 1, .inference = inference};
            mpi_assert(sgc_zero_make(&to, f.model, &device, ALL, &spec) == SGC_OK);
            mpi_assert(sgc_ckpt_open(&c, f.path, ALL) == SGC_OK);
            mpi_assert(sgc_ckpt_load(c, to, f.model, inference, ALL) == SGC_OK);
            for (int k = 0; k < f.n_parts; k++)
                if (!inference || f.parts[k].slot == SGC_SLOT_MODEL)
                    same = same && memcmp(sgc_zero_shard(to, f.parts[k].unit->index, f.parts[k].slot), f.parts[k].values,
                                          (size_t)f.parts[k].flat.n_shard * sizeof(float)) == 0;
            mpi_assert(same);
            sgc_ckpt_close(c);
            sgc_zero_free(to);
            sgc_device_close(&device);
            tear_down(&f);
        }
}
END_TEST

/* Copied, then changed at once: what is saved is what was copied, in as many files as asked for. */
START_TEST(what_changes_after_the_copy_is_not_saved)
{
    for (int writers = 0; writers <= 2; writers++) {
        fixture f;
        sgc_device device;
        sgc_zero *engine;
        sgc_ckpt_files *files;
        sgc_save *s;
        sgc_ckpt *c;
        int64_t index_bytes = 0;
        bool same = true;
        set_up(&f, true);
        mpi_assert(sgc_device_open(&device, "ref32", false) == SGC_OK);
        mpi_assert(sgc_zero_make(&engine, f.model, &device, ALL, &(sgc_zero_spec){.stage = 2, .n_micro = 1}) == SGC_OK);
        mpi_assert(sgc_files_make(&files, &world, writers) == SGC_OK);
        mpi_assert(sgc_files_count(files) == (writers == 0 || writers > world.size ? world.size : writers));
        for (int k = 0; k < f.n_parts; k++)
            memcpy(sgc_zero_shard(engine, f.parts[k].unit->index, f.parts[k].slot), f.parts[k].values, (size_t)f.parts[k].flat.n_shard * sizeof(float));
        void *buffer = malloc(sgc_save_buffer_bytes(engine, f.model));
        sgc_ckpt_job job = {.output_dir = f.directory, .group = ALL, .engine = engine, .model = f.model, .state = &f.state, .info = &f.info,
                            .config_text = config_text, .block_size = BLOCK, .files = files, .index_bytes = &index_bytes};
        for (int turn = 0; turn < 2; turn++) { /* the second knows the size of the index */
            f.state.step = STEP + turn;
            mpi_assert(sgc_ckpt_begin(&s, &job, buffer) == SGC_OK);
            for (int k = 0; k < f.n_parts; k++) sgc_zero_shard(engine, f.parts[k].unit->index, f.parts[k].slot)[0] += 1;
            mpi_assert(sgc_save_finish(s) == SGC_OK && sgc_save_is_over(s));
            strcpy(f.path, sgc_save_path(s));
            sgc_save_free(s);
            mpi_assert(!IS_ROOT || index_bytes > 0);
            if (turn > 0) break;
            mpi_assert(!IS_ROOT || shows_all(&f, f.path));
            mpi_assert(sgc_ckpt_open(&c, f.path, ALL) == SGC_OK);
            mpi_assert(read_all(c, f.model, world.size + 1, &same) == SGC_OK);
            mpi_assert(same && sgc_ckpt_get_state(c)->step == STEP);
            sgc_ckpt_close(c);
        }
        sgc_files_free(files);
        free(buffer);
        sgc_zero_free(engine);
        sgc_device_close(&device);
        tear_down(&f);
    }
}
END_TEST

MPI_UNIT_MAIN("ckpt", any_number_of_ranks_reads_what_was_saved, state_and_attributes_come_back_unchanged,
              hdf5_shows_every_tensor_whole_also_after_a_move, a_flipped_bit_is_found_in_whatever_file,
              a_missing_a_short_and_a_foreign_file_are_refused_by_name, a_checkpoint_of_another_model_is_refused,
              a_write_that_fails_on_one_rank_fails_on_all_and_leaves_nothing, a_directory_that_cannot_be_written_is_named_on_all_ranks,
              saving_a_step_again_keeps_the_former_checkpoint_aside, an_engine_of_any_stage_loads_what_another_saved,
              what_changes_after_the_copy_is_not_saved)
