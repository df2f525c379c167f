/* Arguments that a command does not know. */
#include <getopt.h>
#include <string.h>

#include "cli/cli.h"

sgc_status sgc_cli_unknown_option(const char *command, const struct option *options, const char *argument)
{
    char name[64], full[64];
    const char *nearest = NULL;
    int distance = 4;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(argument, "="), argument);
    for (const struct option *o = options; o->name; o++) {
        snprintf(full, sizeof(full), "--%s", o->name);
        int d = sgc_edit_distance(name, full);
        if (d < distance) distance = d, nearest = o->name;
    }
    if (nearest) return sgc_err(SGC_ECONFIG, "%s has no option %s; did you mean --%s?", command, name, nearest);
    return sgc_err(SGC_ECONFIG, "%s has no option %s; stagecoach %s --help lists them", command, name, command);
}
