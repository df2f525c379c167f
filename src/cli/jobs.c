/* stagecoach train and stagecoach eval: settings in, a job of all ranks. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"

/* Every node's first rank counts as a main process with log_on_each_node. */
static void set_log_level(const sgc_world *w, const sgc_config *c)
{
    enum { PASSIVE = 5 }; /* the last choice of log_level */
    bool is_main = c->training.log_on_each_node ? w->node_rank == 0 : w->rank == 0;
    int level = is_main ? c->training.log_level : c->training.log_level_replica;
    sgc_log_set_level(level == PASSIVE ? SGC_LOG_INFO : (sgc_log_level)level);
}

/* [FILE.cfg] [--key value ...] [--print_config]. Collective. print: --print_config was there; else trains: what a training needs must be there. */
static sgc_status read_settings(sgc_world *w, int argc, char **argv, bool trains, sgc_config *c, bool *print)
{
    sgc_status st = SGC_OK;
    const char *file = NULL;
    int n = 0;
    char **args = malloc((size_t)argc * sizeof(*args));
    if (!args) st = sgc_err(SGC_ENOMEM, "no memory for the arguments");
    SGC_AGREE(w->all);
    *print = false;
    for (int i = 1; i < argc; i++) {
        if (i == 1 && strncmp(argv[i], "--", 2) != 0)
            file = argv[i];
        else if (strcmp(argv[i], "--print_config") == 0)
            *print = true;
        else
            args[n++] = argv[i];
    }
    SGC_TRY(sgc_read_config(w, c, file, n, args, trains && !*print));
    SGC_TRY(sgc_world_set_nodes(w, c->comm.ranks_per_node));
    set_log_level(w, c);
done:
    free(args);
    return st;
}

static sgc_status print_settings(const sgc_world *w, const sgc_config *c)
{
    sgc_status st = SGC_OK;
    sgc_str text = {0};
    if (w->rank == 0) {
        SGC_TRY(sgc_config_text(c, true, &text));
        if (fputs(text.text, stdout) == EOF || fflush(stdout) != 0) st = sgc_err_errno(SGC_EIO, "the settings cannot be written to standard output");
    }
done:
    sgc_str_free(&text);
    return sgc_agree(w->all, st);
}

sgc_status sgc_cli_train(sgc_world *w, int argc, char **argv, sgc_outcome *outcome)
{
    sgc_status st = SGC_OK;
    sgc_config c = {0};
    bool print;
    SGC_TRY(read_settings(w, argc, argv, true, &c, &print));
    if (print)
        SGC_TRY(print_settings(w, &c));
    else
        SGC_TRY(sgc_train(w, &c, outcome));
done:
    sgc_config_free(&c);
    return st;
}

sgc_status sgc_cli_eval(sgc_world *w, int argc, char **argv, sgc_outcome *outcome)
{
    sgc_status st = SGC_OK;
    sgc_config c = {0};
    bool print;
    *outcome = SGC_COMPLETED;
    SGC_TRY(read_settings(w, argc, argv, false, &c, &print));
    if (print)
        SGC_TRY(print_settings(w, &c));
    else
        SGC_TRY(sgc_evaluate(w, &c));
done:
    sgc_config_free(&c);
    return st;
}

sgc_status sgc_cli_train_help(const char *group)
{
    if (!group)
        printf("Usage: [mpirun -n RANKS] stagecoach train [FILE.cfg] [--key value ...] [--print_config]\n"
               "Train a model. Settings come from their defaults, then the file, then the command line.\n\n"
               "  --print_config    show every setting with where it is from, and do nothing else\n"
               "  --help GROUP      the settings of one group in full\n\n"
               "SIGUSR1, SIGTERM and SIGINT finish the update, save and end with status 75; --resume_from_checkpoint latest goes on from there.\n"
               "SIGUSR2 saves and goes on. A second SIGINT ends at once.\n\n");
    return sgc_config_help(stdout, group);
}

sgc_status sgc_cli_eval_help(const char *group)
{
    if (!group)
        printf("Usage: [mpirun -n RANKS] stagecoach eval [FILE.cfg] --resume_from_checkpoint PATH|latest [--key value ...]\n"
               "Mean loss per token and perplexity over the validation samples: a table on standard output, and OUTPUT_DIR/eval_results.json.\n"
               "The settings are those of train.\n\n");
    return sgc_config_help(stdout, group);
}
