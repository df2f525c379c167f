/* stagecoach ckpt ls: what checkpoints a run has. Needs no MPI. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "cli/cli.h"

static const char help[] =
    "Usage: stagecoach ckpt ls RUN\n"
    "List the checkpoints in the output directory RUN.\n\n"
    "  complete  manifest and metadata fit each other, every shard is there in its size\n"
    "  damaged   something is missing or changed; it is said what\n"
    "  partial   a save that did not finish; removed when the run goes on\n"
    "  old       set aside by overwrite_output_dir or by resuming from an earlier step; not counted, not deleted\n\n"
    "Bytes of tensors are checked when they are read, not here.\n";

enum { N_COLUMNS = 7, CELL_BYTES = 40 };
typedef char row[N_COLUMNS][CELL_BYTES];

static void fill_row(row r, const sgc_ckpt_entry *e)
{
    const sgc_ckpt_info *i = &e->info;
    char size[32];
    snprintf(r[0], CELL_BYTES, "%" PRId64, e->step);
    snprintf(r[2], CELL_BYTES, "%s", sgc_format_bytes((double)e->bytes, size));
    for (int column = 0; column < N_COLUMNS; column++)
        if (column != 0 && column != 2) strcpy(r[column], "-");
    if (!i->id[0]) return; /* nothing is known of it */
    snprintf(r[1], CELL_BYTES, "%s", i->date);
    snprintf(r[3], CELL_BYTES, "%d", i->world_size);
    snprintf(r[4], CELL_BYTES, "%d", i->stage);
    snprintf(r[5], CELL_BYTES, "%s", i->dtype);
    if (!isnan(i->loss)) snprintf(r[6], CELL_BYTES, "%.6g", i->loss);
}

static void print_state(const sgc_ckpt_entry *e)
{
    switch (e->status) {
    case SGC_CKPT_COMPLETE: printf("complete\n"); break;
    case SGC_CKPT_DAMAGED: printf("damaged: %s\n", e->problem); break;
    case SGC_CKPT_PARTIAL: printf("partial: %s\n", e->name); break;
    case SGC_CKPT_OLD: printf("old: %s\n", e->name); break;
    }
}

static sgc_status list(const char *directory)
{
    static const char *const titles[N_COLUMNS] = {"step", "date", "size", "ranks", "stage", "dtype", "loss"};
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *entries = NULL;
    row *rows = NULL;
    int n, width[N_COLUMNS];
    char manifest[SGC_PATH_MAX];
    SGC_TRY(sgc_ckpt_list(directory, &entries, &n));
    if (n == 0) {
        SGC_TRY(sgc_path_join(manifest, directory, "manifest"));
        st = sgc_path_exists(manifest) ? sgc_err(SGC_EDATA, "%s is itself a checkpoint; give the directory that holds it", directory)
                                       : sgc_err(SGC_EDATA, "no checkpoints in %s; give the output_dir of a run", directory);
        goto done;
    }
    if (!(rows = calloc((size_t)n, sizeof(*rows)))) {
        st = sgc_err(SGC_ENOMEM, "no memory to list %s", directory);
        goto done;
    }
    for (int column = 0; column < N_COLUMNS; column++) width[column] = (int)strlen(titles[column]);
    for (int k = 0; k < n; k++) {
        fill_row(rows[k], &entries[k]);
        for (int column = 0; column < N_COLUMNS; column++) {
            int length = (int)strlen(rows[k][column]);
            if (length > width[column]) width[column] = length;
        }
    }
    for (int column = 0; column < N_COLUMNS; column++) printf("%*s  ", width[column], titles[column]);
    printf("state\n");
    for (int k = 0; k < n; k++) {
        for (int column = 0; column < N_COLUMNS; column++) printf("%*s  ", width[column], rows[k][column]);
        print_state(&entries[k]);
    }
done:
    free(rows);
    free(entries);
    return st;
}

int sgc_cli_ckpt(int argc, char **argv)
{
    sgc_status st = SGC_OK;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return SGC_EXIT_OK;
        }
    if (argc < 2 || strcmp(argv[1], "ls") != 0)
        st = sgc_err(SGC_ECONFIG, "ckpt has one command, ls; write: stagecoach ckpt ls RUN");
    else if (argc != 3)
        st = sgc_err(SGC_ECONFIG, "ckpt ls takes one directory; write: stagecoach ckpt ls RUN");
    else
        st = list(argv[2]);
    if (st == SGC_OK) return SGC_EXIT_OK;
    fprintf(stderr, "stagecoach: error: %s\n", sgc_err_message());
    return st == SGC_ECONFIG ? SGC_EXIT_USAGE : SGC_EXIT_ERROR;
}
