/* Signals: handlers only set flags, which the control word reads once per update. */
#ifndef SGC_TRAIN_SIGNALS_IMPL_H
#define SGC_TRAIN_SIGNALS_IMPL_H

/* SIGXFSZ is ignored, so that a file that grows too large is an error of the write. SIGUSR1, SIGTERM, SIGINT: stop after the current update and save. SIGUSR2: save and go on. A second SIGINT ends the process at once. */
void sgc_signals_install(void);
void sgc_signals_restore(void); /* what was there before */

int sgc_signals_stop(void);      /* the first signal that asked for a stop, 0: none */
int sgc_signals_take_save(void); /* 1 if a save was asked for; forgets it           */

#endif
