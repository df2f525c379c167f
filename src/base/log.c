#define _GNU_SOURCE 1 /* vasprintf */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/terminal_impl.h"
#include "base/util.h"

enum { QUEUE_BYTES = 65536, NOTE_BYTES = 64, STATUS_BYTES = 512 };

static const char *const level_names[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"};

static struct {
    pthread_mutex_t lock;
    int rank;
    char node[256];
    bool is_main;
    sgc_log_level level;
    char queue[QUEUE_BYTES + NOTE_BYTES]; /* lines of a replica; the last bytes are kept for the note of dropped ones */
    size_t n_queue_bytes;
    int64_t n_dropped;
    size_t n_pending_bytes;   /* of these, those that sgc_log_pending told, for sgc_log_drop_pending */
    int64_t n_pending_dropped;
    char status[STATUS_BYTES]; /* "" when none is shown */
} self = {.lock = PTHREAD_MUTEX_INITIALIZER, .is_main = true, .level = SGC_LOG_INFO};

/* One write per line, so that lines of several processes on one pipe do not mix. A log that cannot be written is lost. */
static void write_stderr(const char *text, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, text, n);
        if (done < 0 && errno == EINTR) continue;
        /* a terminal may have been left non-blocking by mpirun */
        if (done < 0 && errno == EAGAIN && poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 1000) > 0) continue;
        if (done <= 0) return;
        text += done, n -= (size_t)done;
    }
}

static void print_locked(sgc_log_level level, const char *prefix, const char *line)
{
    char date[32];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &local);
    sgc_str out = {0};
    if (self.status[0] != '\0') sgc_str_printf(&out, "\r\033[K");
    sgc_str_printf(&out, "%s %-8s %s%s\n%s", date, level_names[level], prefix, line, self.status);
    write_stderr(out.text, out.n);
    sgc_str_free(&out);
}

static void push_locked(sgc_log_level level, const char *line)
{
    size_t n = strlen(line) + 2; /* level and NUL */
    if (self.n_dropped > 0 || n > QUEUE_BYTES - self.n_queue_bytes) { /* what is kept has no gaps */
        self.n_dropped++;
        return;
    }
    self.queue[self.n_queue_bytes] = (char)('0' + level);
    memcpy(self.queue + self.n_queue_bytes + 1, line, n - 1);
    self.n_queue_bytes += n;
}

static void log_line(sgc_log_level level, const char *format, va_list args)
{
    if (level < sgc_log_get_level()) return;
    char *line;
    if (vasprintf(&line, format, args) < 0) return;
    pthread_mutex_lock(&self.lock);
    if (self.is_main) print_locked(level, "", line);
    else push_locked(level, line);
    pthread_mutex_unlock(&self.lock);
    free(line);
}

#define LOG_FUNCTION(name, level)               \
    void name(const char *format, ...)          \
    {                                           \
        va_list args;                           \
        va_start(args, format);                 \
        log_line(level, format, args);          \
        va_end(args);                           \
    }

LOG_FUNCTION(sgc_log_debug, SGC_LOG_DEBUG)
LOG_FUNCTION(sgc_log_info, SGC_LOG_INFO)
LOG_FUNCTION(sgc_log_warning, SGC_LOG_WARNING)
LOG_FUNCTION(sgc_log_error, SGC_LOG_ERROR)
LOG_FUNCTION(sgc_log_critical, SGC_LOG_CRITICAL)

void sgc_log_identity(int rank, const char *node, bool is_main)
{
    pthread_mutex_lock(&self.lock);
    self.rank = rank;
    self.is_main = is_main;
    snprintf(self.node, sizeof(self.node), "%s", node);
    pthread_mutex_unlock(&self.lock);
}

void sgc_log_set_level(sgc_log_level level)
{
    pthread_mutex_lock(&self.lock);
    self.level = level;
    pthread_mutex_unlock(&self.lock);
}

sgc_log_level sgc_log_get_level(void)
{
    pthread_mutex_lock(&self.lock);
    sgc_log_level level = self.level;
    pthread_mutex_unlock(&self.lock);
    return level;
}

const char *sgc_log_pending(size_t *bytes)
{
    pthread_mutex_lock(&self.lock);
    *bytes = self.n_pending_bytes = self.n_queue_bytes;
    self.n_pending_dropped = self.n_dropped;
    if (self.n_dropped > 0) {
        int n = snprintf(self.queue + *bytes, NOTE_BYTES, "%c%lld more lines dropped", '0' + SGC_LOG_WARNING, (long long)self.n_dropped);
        *bytes += (size_t)n + 1;
    }
    pthread_mutex_unlock(&self.lock);
    return self.queue;
}

void sgc_log_drop_pending(void)
{
    pthread_mutex_lock(&self.lock);
    self.n_queue_bytes -= self.n_pending_bytes;
    memmove(self.queue, self.queue + self.n_pending_bytes, self.n_queue_bytes);
    self.n_dropped -= self.n_pending_dropped;
    self.n_pending_bytes = 0;
    self.n_pending_dropped = 0;
    pthread_mutex_unlock(&self.lock);
}

void sgc_log_flush_local(void)
{
    size_t n_bytes;
    const char *line = sgc_log_pending(&n_bytes);
    char prefix[sizeof(self.node) + 32];
    snprintf(prefix, sizeof(prefix), "[rank %d %s] ", self.rank, self.node);
    for (const char *end = line + n_bytes; line < end; line += strlen(line) + 1) sgc_log_print((sgc_log_level)(line[0] - '0'), prefix, line + 1);
    sgc_log_drop_pending();
}

void sgc_log_print(sgc_log_level level, const char *prefix, const char *line)
{
    pthread_mutex_lock(&self.lock);
    print_locked(level, prefix, line);
    pthread_mutex_unlock(&self.lock);
}

bool sgc_log_on_terminal(void) { return sgc_terminal_columns() > 0; }

void sgc_log_status_line(const char *text)
{
    int n_columns = sgc_terminal_columns();
    if (n_columns == 0) return;
    if (text == NULL) text = "";
    pthread_mutex_lock(&self.lock);
    if (text[0] != '\0' || self.status[0] != '\0') {
        /* a line that wraps could not be erased by a carriage return */
        size_t n = 0;
        for (int column = 0; text[n] != '\0' && n + 5 < STATUS_BYTES; n++) {
            bool is_start = ((unsigned char)text[n] & 0xc0) != 0x80; /* bytes 10xxxxxx continue a UTF-8 character */
            if (is_start && ++column >= n_columns) break;
        }
        memcpy(self.status, text, n);
        self.status[n] = '\0';
        char out[STATUS_BYTES + 8];
        int length = snprintf(out, sizeof(out), "\r\033[K%s", self.status);
        write_stderr(out, (size_t)length);
    }
    pthread_mutex_unlock(&self.lock);
}
