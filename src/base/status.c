#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Errors are kept per thread and need no memory: they must work when there is none left. */
static _Thread_local struct {
    bool is_set;
    char message[SGC_ERR_BYTES];
    char origin[256];
    char frames[4096];
    size_t n_frames_bytes;
} err;

static void set_message(const char *format, va_list args)
{
    err.is_set = true;
    int n = vsnprintf(err.message, sizeof(err.message), format, args);
    if (n < 0) snprintf(err.message, sizeof(err.message), "%s", format);
    else if ((size_t)n >= sizeof(err.message)) strcpy(err.message + sizeof(err.message) - 4, "...");
}

sgc_status sgc_err(sgc_status st, const char *format, ...)
{
    if (err.is_set) return st;
    va_list args;
    va_start(args, format);
    set_message(format, args);
    va_end(args);
    return st;
}

sgc_status sgc_err_errno(sgc_status st, const char *format, ...)
{
    const char *reason = strerror(errno);
    if (err.is_set) return st;
    va_list args;
    va_start(args, format);
    set_message(format, args);
    va_end(args);
    size_t n = strlen(err.message);
    snprintf(err.message + n, sizeof(err.message) - n, ": %s", reason);
    return st;
}

void sgc_err_frame(const char *file, int line, const char *call)
{
    size_t room = sizeof(err.frames) - err.n_frames_bytes;
    int n = snprintf(err.frames + err.n_frames_bytes, room, "%s:%d: %s\n", file, line, call);
    if (n > 0 && (size_t)n < room) err.n_frames_bytes += (size_t)n;
    else err.frames[err.n_frames_bytes] = '\0'; /* the innermost frames say most: later ones are left out */
}

sgc_status sgc_err_remote(sgc_status st, int rank, const char *node, const char *message)
{
    if (err.is_set) return st;
    err.is_set = true;
    snprintf(err.message, sizeof(err.message), "%s", message);
    snprintf(err.origin, sizeof(err.origin), "rank %d on %s", rank, node);
    return st;
}

const char *sgc_err_message(void) { return err.message; }
const char *sgc_err_origin(void) { return err.origin; }
const char *sgc_err_frames(void) { return err.frames; }

void sgc_err_clear(void)
{
    err.is_set = false;
    err.message[0] = err.origin[0] = err.frames[0] = '\0';
    err.n_frames_bytes = 0;
}
