/* The sub-commands. The only place that prints results and decides how the process ends. */
#ifndef SGC_CLI_CLI_H
#define SGC_CLI_CLI_H

#include "comm/comm.h"
#include "train/train.h"

/* Exit statuses. */
enum { SGC_EXIT_OK = 0, SGC_EXIT_ERROR = 1, SGC_EXIT_USAGE = 2, SGC_EXIT_INTERRUPTED = 75 };

/* Commands without ranks print their own errors. argv[0] is the command's name. @return exit status */
int sgc_cli_prepare(int argc, char **argv);
int sgc_cli_ckpt(int argc, char **argv);

/* Commands that are jobs of all ranks: collective, errors are agreed on and printed by main. */
sgc_status sgc_cli_train(sgc_world *w, int argc, char **argv, sgc_outcome *outcome);
sgc_status sgc_cli_eval(sgc_world *w, int argc, char **argv, sgc_outcome *outcome);
sgc_status sgc_cli_generate(sgc_world *w, int argc, char **argv, sgc_outcome *outcome);

/* Their help. group: what followed --help, or NULL. */
sgc_status sgc_cli_train_help(const char *group);
sgc_status sgc_cli_eval_help(const char *group);
sgc_status sgc_cli_generate_help(const char *group);

/* For commands with a table of getopt_long: SGC_ECONFIG names the option nearest to what was typed. */
struct option;
sgc_status sgc_cli_unknown_option(const char *command, const struct option *options, const char *argument);

#endif
