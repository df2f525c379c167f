/* What --version prints. */
#ifndef SGC_CLI_VERSION_H
#define SGC_CLI_VERSION_H

#include <stdio.h>

/* Name and version, then a table: each library with the version compiled against and the one loaded. Needs no MPI_Init. */
void sgc_print_version(FILE *out);

#endif
