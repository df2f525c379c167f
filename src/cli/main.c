/* stagecoach COMMAND ... */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/manual.h"
#include "cli/version.h"

static const struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);                                                      /* without ranks   */
    sgc_status (*job)(sgc_world *w, int argc, char **argv, sgc_outcome *outcome);           /* or: needs MPI   */
    sgc_status (*job_help)(const char *group);
} commands[] = {
    {"train", "train a model, or go on from a checkpoint", NULL, sgc_cli_train, sgc_cli_train_help},
    {"eval", "loss and perplexity of a checkpoint on validation text", NULL, sgc_cli_eval, sgc_cli_eval_help},
    {"generate", "continue a text with the model of a checkpoint", NULL, sgc_cli_generate, sgc_cli_generate_help},
    {"prepare", "turn text files into a token file", sgc_cli_prepare, NULL, NULL},
    {"ckpt", "look into checkpoints, verify, compare, convert and delete them", sgc_cli_ckpt, NULL, NULL},
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
    fprintf(out, "Usage: stagecoach COMMAND ...\n"
                 "Train transformer models on many ranks, their states sharded by ZeRO: mpirun -n RANKS stagecoach train FILE.cfg\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\n  COMMAND --help [GROUP]    its arguments, the settings of a group\n"
                 "  --version                 the program and its libraries\n"
                 "  --man                     the manual page (stagecoach --man | man -l -)\n\n"
                 "Exit status: 0 done; 1 an error; 2 wrong settings or arguments; 75 stopped by a signal and saved.\n");
}

/* own: where this process is, "" where that does not matter. */
static void print_error(const char *own)
{
    const char *origin = sgc_err_origin();
    if (!origin[0]) origin = own;
    fprintf(stderr, "stagecoach: error: %s%s%s\n", origin, origin[0] ? ": " : "", sgc_err_message());
    if (sgc_log_get_level() == SGC_LOG_DEBUG) fprintf(stderr, "%s", sgc_err_frames());
}

static int exit_status(sgc_status st, sgc_outcome outcome)
{
    if (st == SGC_OK) return outcome == SGC_INTERRUPTED ? SGC_EXIT_INTERRUPTED : SGC_EXIT_OK;
    return st == SGC_ECONFIG ? SGC_EXIT_USAGE : SGC_EXIT_ERROR;
}

static int run_job(const struct command *c, int argc, char **argv)
{
    sgc_world w;
    char own[300] = "";
    sgc_outcome outcome = SGC_COMPLETED;
    sgc_status st = sgc_world_start(&w, &argc, &argv);
    if (st != SGC_OK) {
        print_error("");
        sgc_world_abort(&w, SGC_EXIT_ERROR);
    }
    st = c->job(&w, argc, argv, &outcome);
    if (st == SGC_ECOMM) { /* ranks that cannot talk cannot agree */
        print_error("");
        sgc_world_abort(&w, SGC_EXIT_ERROR);
    }
    if (st != SGC_OK) {
        if (sgc_log_flush(w.all) != SGC_OK) sgc_log_flush_local();
        sgc_log_status_line(NULL);
        /* which of many GPUs it is, matters */
        if (st == SGC_EDEVICE && w.size > 1) snprintf(own, sizeof(own), "rank %d on %s", w.rank, sgc_node_name());
        if (w.rank == 0) print_error(own);
    }
    sgc_world_stop(&w);
    return exit_status(st, outcome);
}

static int unknown_command(const char *name)
{
    const char *nearest = NULL;
    int distance = 4;
    for (int i = 0; i < N_COMMANDS; i++) {
        int d = sgc_edit_distance(name, commands[i].name);
        if (d < distance) distance = d, nearest = commands[i].name;
    }
    fprintf(stderr, "stagecoach: error: there is no command %s%s%s; stagecoach --help lists them\n", name, nearest ? "; did you mean " : "",
            nearest ? nearest : "");
    return SGC_EXIT_USAGE;
}

/* --help [GROUP] among the arguments of a job is answered without starting MPI. */
static const char *const *find_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return (const char *const *)&argv[i];
    return NULL;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return SGC_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return SGC_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0) {
        sgc_print_version(stdout);
        return SGC_EXIT_OK;
    }
    if (strcmp(name, "--man") == 0) {
        sgc_print_manual(stdout);
        return SGC_EXIT_OK;
    }
    for (int i = 0; i < N_COMMANDS; i++) {
        const struct command *c = &commands[i];
        if (strcmp(name, c->name) != 0) continue;
        if (c->run) return c->run(argc - 1, argv + 1);
        const char *const *help = find_help(argc - 1, argv + 1);
        if (!help) return run_job(c, argc - 1, argv + 1);
        sgc_status st = c->job_help(help[1]); /* NULL after the last argument */
        if (st != SGC_OK) print_error("");
        return exit_status(st, SGC_COMPLETED);
    }
    return unknown_command(name);
}

int main(int argc, char **argv)
{
    sgc_time_since_start_s(); /* the first call fixes the start where /proc does not tell it */
    int status = run(argc, argv);
    /* A table that did not reach its file is no success. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == SGC_EXIT_OK) {
        fprintf(stderr, "stagecoach: error: standard output cannot be written: %s\n", strerror(errno));
        status = SGC_EXIT_ERROR;
    }
    return status;
}
