/* The manual page: stagecoach(1), in man(7) macros. */
#ifndef SGC_CLI_MANUAL_H
#define SGC_CLI_MANUAL_H

#include <stdio.h>

void sgc_print_manual(FILE *out);

#endif
