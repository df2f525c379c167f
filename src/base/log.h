/* Log lines on stderr by rank. The main process obeys log_level, all others log_level_replica. */
#ifndef SGC_BASE_LOG_H
#define SGC_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum sgc_log_level { SGC_LOG_DEBUG, SGC_LOG_INFO, SGC_LOG_WARNING, SGC_LOG_ERROR, SGC_LOG_CRITICAL } sgc_log_level;

/**
 * Say who this process is. Before this call a process logs as the only rank at level info.
 * @param is_main  this rank's own lines are printed at once, without a prefix; the lines of any other rank are
 *                 queued and printed, merged, by sgc_log_flush of comm/ (or alone, with rank and node, by sgc_log_flush_local).
 */
void sgc_log_identity(int rank, const char *node, bool is_main);
void sgc_log_set_level(sgc_log_level level);
sgc_log_level sgc_log_get_level(void);

void sgc_log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sgc_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sgc_log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sgc_log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sgc_log_critical(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The queue of a replica: NUL-separated lines, the level as first character ('0' + level). Borrowed until taken. */
const char *sgc_log_pending(size_t *bytes);
void sgc_log_drop_pending(void); /* those that were told last; what another thread has added since stays */
/* Print the queue now with rank and node, for a process that is about to end without its peers. */
void sgc_log_flush_local(void);

/* Print one finished line of the given level with a prefix such as "[ranks 1-3] "; used by the merge. */
void sgc_log_print(sgc_log_level level, const char *prefix, const char *line);

/**
 * A line that is redrawn in place on a terminal (progress bar); log lines go above it. NULL removes it.
 * Does nothing when stderr is no terminal (sgc_log_on_terminal).
 */
void sgc_log_status_line(const char *text);
/* Whether status lines are seen: stderr is a terminal, or a pipe to an mpirun whose stderr is one. */
bool sgc_log_on_terminal(void);

#endif
