#include "config.h"

#include "base/util.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#ifdef HAVE_XXH3_64BITS_DISPATCH
#include <xxh_x86dispatch.h> /* puts functions that choose among instruction sets in the place of the others; the values are the same */
#endif

static double clock_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double sgc_time_s(void) { return clock_s(CLOCK_MONOTONIC); }

static double start_s; /* when the process was started, on the monotonic clock */

/* exec and the loading of libraries count too, so the kernel is asked when it made the process. */
static void find_start(void)
{
    start_s = sgc_time_s();
    FILE *f = fopen("/proc/self/stat", "r");
    if (f == NULL) return;
    char line[2048];
    size_t n = fread(line, 1, sizeof(line) - 1, f);
    fclose(f);
    line[n] = '\0';
    unsigned long long ticks;
    const char *after_name = strrchr(line, ')'); /* the name may hold spaces and parentheses */
    if (after_name == NULL ||
        sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks) != 1) return;
    double age = clock_s(CLOCK_BOOTTIME) - (double)ticks / (double)sysconf(_SC_CLK_TCK);
    if (age > 0.0 && age < clock_s(CLOCK_BOOTTIME)) start_s -= age;
}

double sgc_time_since_start_s(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_start);
    return sgc_time_s() - start_s;
}

void sgc_time_iso(char out[32])
{
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

uint64_t sgc_hash64(const void *data, size_t bytes) { return XXH3_64bits(data, bytes); }

struct sgc_hasher { XXH3_state_t *state; /* owned */ };

sgc_hasher *sgc_hasher_new(void)
{
    sgc_hasher *h = malloc(sizeof(*h));
    if (h && (h->state = XXH3_createState()) && XXH3_64bits_reset(h->state) == XXH_OK) return h;
    sgc_hasher_free(h);
    sgc_err(SGC_ENOMEM, "no memory for a hash");
    return NULL;
}

void sgc_hasher_add(sgc_hasher *h, const void *data, size_t bytes) { XXH3_64bits_update(h->state, data, bytes); }

uint64_t sgc_hasher_value(const sgc_hasher *h) { return XXH3_64bits_digest(h->state); }

void sgc_hasher_free(sgc_hasher *h)
{
    if (h) XXH3_freeState(h->state);
    free(h);
}

static char node_name[256];

static void find_node_name(void)
{
    if (gethostname(node_name, sizeof(node_name) - 1) != 0 || node_name[0] == '\0') strcpy(node_name, "localhost");
    node_name[strcspn(node_name, ".")] = '\0';
}

const char *sgc_node_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_node_name);
    return node_name;
}

/* Room for `more` bytes and a NUL. */
static void reserve(sgc_str *s, size_t more)
{
    if (more < s->capacity - s->n) return;
    s->capacity = 2 * (s->n + more + 1);
    s->text = realloc(s->text, s->capacity);
    if (s->text == NULL) {
        fputs("stagecoach: out of memory for text\n", stderr);
        abort();
    }
}

void sgc_str_printf(sgc_str *s, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    reserve(s, 0);
    int n = vsnprintf(s->text + s->n, s->capacity - s->n, format, args);
    if (n < 0) abort(); /* a format that the C library does not know */
    if ((size_t)n >= s->capacity - s->n) {
        reserve(s, (size_t)n);
        vsnprintf(s->text + s->n, s->capacity - s->n, format, again);
    }
    s->n += (size_t)n;
    va_end(again);
    va_end(args);
}

void sgc_str_append(sgc_str *s, const void *data, size_t bytes)
{
    reserve(s, bytes);
    if (bytes > 0) memcpy(s->text + s->n, data, bytes);
    s->n += bytes;
    s->text[s->n] = '\0';
}

void sgc_str_free(sgc_str *s)
{
    free(s->text);
    *s = (sgc_str){0};
}

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Optimal string alignment: the names are short, longer texts are compared by their first bytes. */
int sgc_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 127 };
    int n_a = (int)strnlen(a, LONGEST), n_b = (int)strnlen(b, LONGEST);
    int rows[3][LONGEST + 1]; /* of the last three characters of a */
    for (int j = 0; j <= n_b; j++) rows[0][j] = j;
    for (int i = 1; i <= n_a; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= n_b; j++) {
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < row[j]) row[j] = above2[j - 2] + 1;
        }
    }
    return rows[n_a % 3][n_b];
}

const char *sgc_format_bytes(double bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int unit = 0;
    while (fabs(bytes) >= 1024.0 && unit < 5) bytes /= 1024.0, unit++;
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return out;
}
