/* stagecoach ckpt: commands for checkpoints. They need no mpirun; under one, verify and convert share their work. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/ckpt_impl.h"

enum { JSON = 1, YES = 2, FORCE = 4, SHARDS = 8, WEIGHTS_ONLY = 16, DTYPE = 32, TENSORS_ONLY = 64, LIMIT = 128, KEEP_EVERY = 256 };

static const struct option options[] = {
    {"json", no_argument, NULL, JSON},
    {"yes", no_argument, NULL, YES},
    {"force", no_argument, NULL, FORCE},
    {"shards", required_argument, NULL, SHARDS},
    {"weights_only", no_argument, NULL, WEIGHTS_ONLY},
    {"dtype", required_argument, NULL, DTYPE},
    {"tensors_only", no_argument, NULL, TENSORS_ONLY},
    {"save_total_limit", required_argument, NULL, LIMIT},
    {"keep_every", required_argument, NULL, KEEP_EVERY},
    {NULL, 0, NULL, 0},
};

static const struct command {
    const char *name, *usage, *help;
    sgc_status (*run)(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);
    int min_paths, max_paths, options;
    bool is_shared;           /* by all ranks; else rank 0 does it */
} commands[] = {
    {"ls", "RUN", "the checkpoints in the output directory RUN\n"
     "  complete      manifest and metadata fit each other, every shard is there in its size\n"
     "  best          the same, and RUN/best points to it\n"
     "  damaged       something is missing or changed; it is said what\n"
     "  newer format  written by a later version, which this one cannot read\n"
     "  partial       a save or a command that did not finish; the run removes its saves when it goes on, prune removes all\n"
     "  part          what one node holds of a node-local checkpoint\n"
     "  old           set aside by overwrite_output_dir or by resuming from an earlier step; not counted, not deleted\n"
     "Bytes of tensors are not read: see verify.\n",
     sgc_cli_ckpt_ls, 1, 1, JSON, false},
    {"show", "CHECKPOINT [NAME...]", "what a checkpoint holds\n"
     "Attributes, state, settings, and the tensors with shape, element type and bytes. With NAME, of that tensor: smallest and largest\n"
     "element, mean, norm, how many are NaN or infinite, and a histogram. NAME is h.0.ln_1.weight, or optimizer/exp_avg/h.0.ln_1.weight.\n"
     "With NAMEs the JSON is a list.\n",
     sgc_cli_ckpt_show, 1, 1000, JSON, false},
    {"verify", "CHECKPOINT...", "check every block of every file against its hash\n"
     "What is damaged is named by file, block, ranks and tensors; the exit status is then 1. Under mpirun the ranks share the blocks.\n",
     sgc_cli_ckpt_verify, 1, 1000000, JSON, true},
    {"diff", "A B", "in what two checkpoints differ\n"
     "Tensors that only one has, shapes, the largest absolute and relative difference of elements, settings and state. The exit status is\n"
     "1 if there is any difference. World size and ZeRO stage are no difference between tensors.\n\n"
     "  --tensors_only            leave out settings and state\n",
     sgc_cli_ckpt_diff, 2, 2, JSON | TENSORS_ONLY, false},
    {"convert", "FROM TO", "make another checkpoint of one\n"
     "TO must not exist. Each block of FROM is checked on the way; memory stays bounded by a few blocks. Under mpirun the ranks share the shards.\n\n"
     "  --shards N                cut into N shard files (default: as they are)\n"
     "  --weights_only            leave out the optimizer states: for model.init_from, eval and generate\n"
     "  --dtype fp32|bf16|fp16    element type of the weights (default: as it is)\n",
     sgc_cli_ckpt_convert, 2, 2, JSON | SHARDS | WEIGHTS_ONLY | DTYPE, true},
    {"rm", "CHECKPOINT", "delete a checkpoint\n"
     "Without --yes it is only said what would be deleted. The best and the last whole one of a run need --force; before\n"
     "an older one goes, every block of the newest is checked.\n\n"
     "  --yes                     delete\n"
     "  --force                   also the best or the last one\n",
     sgc_cli_ckpt_rm, 1, 1, JSON | YES | FORCE, false},
    {"prune", "RUN", "delete what the rules of retention do not keep, and what did not finish\n"
     "Without --yes it is only said what would be deleted. The best and the newest are always kept, those set aside (.old) too. If there is\n"
     "no limit, only what did not finish goes: of saves, and of convert and rm, if none of them is at work. Before\n"
     "older ones go, every block of the newest that stays is checked; if it is damaged, nothing is deleted.\n\n"
     "  --yes                     delete\n"
     "  --save_total_limit N      how many stay (default: as in the newest checkpoint's settings)\n"
     "  --keep_every N            those whose step is a multiple of N stay beside them; 0: none (default: as in those settings)\n",
     sgc_cli_ckpt_prune, 1, 1, JSON | YES | LIMIT | KEEP_EVERY, false},
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(const struct command *c)
{
    if (c) {
        printf("Usage: stagecoach ckpt %s %s\n%c%s\n  --json                    print JSON\n", c->name, c->usage, toupper((unsigned char)c->help[0]), c->help + 1);
        return;
    }
    printf("Usage: stagecoach ckpt COMMAND ...\nLook into checkpoints and handle them. None of this needs mpirun; verify and convert share their work under it.\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        printf("  %-8s %-22s %.*s\n", commands[i].name, commands[i].usage, (int)strcspn(commands[i].help, "\n"), commands[i].help);
    printf("\n  stagecoach ckpt COMMAND --help    its options\n\n"
           "Exit status: 0 done; 1 damage (verify), a difference (diff), or an error; 2 wrong arguments.\n");
}

static sgc_status unknown_command(const char *name)
{
    const char *nearest = NULL;
    int distance = 3;
    for (int i = 0; i < N_COMMANDS; i++) {
        int d = sgc_edit_distance(name, commands[i].name);
        if (d < distance) distance = d, nearest = commands[i].name;
    }
    if (nearest) return sgc_err(SGC_ECONFIG, "ckpt has no command %s; did you mean %s?", name, nearest);
    return sgc_err(SGC_ECONFIG, "ckpt has no command %s; stagecoach ckpt --help lists them", name);
}

static sgc_status unknown_option(const struct command *c, const char *argument)
{
    char name[64];
    const char *nearest = NULL;
    int distance = 4;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(argument, "="), argument);
    for (const struct option *o = options; o->name; o++) {
        char full[64];
        if (!(c->options & o->val)) continue;
        snprintf(full, sizeof(full), "--%s", o->name);
        if (strcmp(name, full) == 0 && argument[strlen(full)] == '=') return sgc_err(SGC_ECONFIG, "ckpt %s: %s takes no value", c->name, full);
        int d = sgc_edit_distance(name, full);
        if (d < distance) distance = d, nearest = o->name;
    }
    if (nearest) return sgc_err(SGC_ECONFIG, "ckpt %s has no option %s; did you mean --%s?", c->name, name, nearest);
    return sgc_err(SGC_ECONFIG, "ckpt %s has no option %s; stagecoach ckpt %s --help lists them", c->name, name, c->name);
}

static sgc_status parse_count(const char *name, const char *text, int64_t min, int64_t max, int64_t *value)
{
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (end == text || *end || errno || x < min || x > max)
        return sgc_err(SGC_ECONFIG, "--%s %s: write a whole number from %lld to %lld", name, text, (long long)min, (long long)max);
    *value = x;
    return SGC_OK;
}

static sgc_status parse(const struct command *c, int argc, char **argv, sgc_ckpt_arguments *a)
{
    sgc_status st = SGC_OK;
    int option, index;
    *a = (sgc_ckpt_arguments){.save_total_limit = -1, .keep_every = -1};
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, &index)) != -1) {
        if (option == ':') return sgc_err(SGC_ECONFIG, "%s needs a value; see stagecoach ckpt %s --help", argv[optind - 1], c->name);
        if (option == '?' || !(c->options & option)) return unknown_option(c, argv[optind - 1 - (option != '?' && optarg && optarg == argv[optind - 1])]);
        const char *name = options[index].name;
        switch (option) {
        case JSON: a->json = true; break;
        case YES: a->yes = true; break;
        case FORCE: a->force = true; break;
        case WEIGHTS_ONLY: a->weights_only = true; break;
        case TENSORS_ONLY: a->tensors_only = true; break;
        case SHARDS: SGC_TRY(parse_count(name, optarg, 1, 1000000, &a->shards)); break;
        case LIMIT: SGC_TRY(parse_count(name, optarg, 1, INT32_MAX, &a->save_total_limit)); break;
        case KEEP_EVERY: SGC_TRY(parse_count(name, optarg, 0, INT64_MAX, &a->keep_every)); break;
        default: /* DTYPE */
            if (!sgc_dtype_find(optarg, &a->dtype)) return sgc_err(SGC_ECONFIG, "--dtype %s: write fp32, bf16 or fp16", optarg);
            a->has_dtype = true;
        }
    }
    a->n_paths = argc - optind;
    a->paths = argv + optind;
    if (a->n_paths < c->min_paths || a->n_paths > c->max_paths)
        st = sgc_err(SGC_ECONFIG, "write: stagecoach ckpt %s %s", c->name, c->usage);
    for (int i = 0; i < a->n_paths && st == SGC_OK; i++)
        if (!a->paths[i][0]) st = sgc_err(SGC_ECONFIG, "ckpt %s: path %d is empty; write: stagecoach ckpt %s %s", c->name, i + 1, c->name, c->usage);
done:
    return st;
}

/* Started by mpirun or srun? Set by Open MPI, by MPICH and its kin, by PMIx. */
static bool is_under_mpirun(void) { return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE") || getenv("PMIX_RANK"); }

static sgc_status run(const struct command *c, int argc, char **argv, sgc_group *group, bool *differs)
{
    sgc_ckpt_arguments a;
    sgc_status st = parse(c, argc, argv, &a); /* the same on all ranks */
    if (st == SGC_OK && c->is_shared) return c->run(&a, group, differs);
    if (st == SGC_OK && sgc_group_rank(group) == 0) st = c->run(&a, group, differs);
    SGC_AGREE(group);
    SGC_TRY(sgc_bcast_bytes(group, differs, sizeof(*differs), 0));
done:
    return st;
}

static int finish(sgc_status st, bool differs, bool is_main)
{
    if (st == SGC_OK && is_main && fflush(stdout) != 0) st = sgc_err_errno(SGC_EIO, "standard output cannot be written");
    if (st == SGC_OK) return differs ? SGC_EXIT_ERROR : SGC_EXIT_OK;
    const char *origin = sgc_err_origin();
    if (is_main) fprintf(stderr, "stagecoach: error: %s%s%s\n", origin, origin[0] ? ": " : "", sgc_err_message());
    return st == SGC_ECONFIG ? SGC_EXIT_USAGE : SGC_EXIT_ERROR;
}

static int run_under_mpirun(const struct command *c, int argc, char **argv)
{
    sgc_world w;
    bool differs = false;
    sgc_status st = sgc_world_start(&w, &argc, &argv);
    if (st == SGC_OK) st = run(c, argc, argv, w.all, &differs);
    int status = finish(st, differs, w.rank == 0 || st == SGC_ECOMM);
    if (st == SGC_ECOMM) sgc_world_abort(&w, SGC_EXIT_ERROR);
    if (sgc_log_flush(w.all) != SGC_OK) sgc_log_flush_local();
    int rank = w.rank;
    sgc_world_stop(&w);
    return rank == 0 ? status : SGC_EXIT_OK; /* mpirun kills all when one fails, and rank 0 has something to say */
}

int sgc_cli_ckpt(int argc, char **argv)
{
    const struct command *c = NULL;
    sgc_group *alone;
    bool differs = false;
    for (int i = 0; i < N_COMMANDS && argc > 1; i++)
        if (strcmp(argv[1], commands[i].name) == 0) c = &commands[i];
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(c);
            return SGC_EXIT_OK;
        }
    signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is an error of the write */
    if (argc < 2) return finish(sgc_err(SGC_ECONFIG, "ckpt needs a command; stagecoach ckpt --help lists them"), false, true);
    if (!c) return finish(unknown_command(argv[1]), false, true);
    if (is_under_mpirun()) return run_under_mpirun(c, argc - 1, argv + 1);
    sgc_status st = sgc_group_null(&alone, 1, 0);
    if (st == SGC_OK) {
        st = run(c, argc - 1, argv + 1, alone, &differs);
        sgc_group_free(alone);
    }
    return finish(st, differs, true);
}
