/* The terminal on which the log is seen. */
#ifndef SGC_BASE_TERMINAL_IMPL_H
#define SGC_BASE_TERMINAL_IMPL_H

/* Columns of the terminal that shows stderr; 0 when there is none. mpirun gives its processes pipes and copies what comes
 * out of them, so the terminal of an mpirun that started this process counts as ours. */
int sgc_terminal_columns(void);

#endif
