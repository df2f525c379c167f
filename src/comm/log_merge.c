#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "comm/comm_impl.h"

/* A line of one rank. Its k-th occurrence on one rank is merged with the k-th of the others. */
typedef struct entry {
    const char *line; /* level and text, borrowed */
    const char *node; /* borrowed */
    int rank;
    int64_t position; /* in the order of arrival */
    int64_t occurrence;
    int64_t place;    /* of the merged line: the position of its first entry */
} entry;

static int order(int64_t a, int64_t b) { return a < b ? -1 : a > b; }

static int by_line_and_position(const void *x, const void *y)
{
    const entry *a = x, *b = y;
    int c = strcmp(a->line, b->line);
    return c != 0 ? c : order(a->position, b->position);
}

static int by_line_and_occurrence(const void *x, const void *y)
{
    const entry *a = x, *b = y;
    int c = strcmp(a->line, b->line);
    if (c == 0) c = order(a->occurrence, b->occurrence);
    return c != 0 ? c : order(a->position, b->position);
}

static int by_place(const void *x, const void *y)
{
    const entry *a = x, *b = y;
    int c = order(a->place, b->place);
    return c != 0 ? c : order(a->position, b->position);
}

/* "[rank 2 node07] ", "[ranks 1-3,5 node07] ", "[ranks 1-3,5 on 2 nodes] " */
static void write_prefix(sgc_str *s, const entry *e, int64_t n)
{
    sgc_str_printf(s, "[rank%s ", n > 1 ? "s" : "");
    for (int64_t i = 0; i < n;) {
        int64_t last = i;
        while (last + 1 < n && e[last + 1].rank == e[last].rank + 1) last++;
        sgc_str_printf(s, "%s%d", i > 0 ? "," : "", e[i].rank);
        if (last > i) sgc_str_printf(s, "%s%d", last > i + 1 ? "-" : ",", e[last].rank);
        i = last + 1;
    }
    int64_t n_nodes = 1;
    for (int64_t i = 1; i < n; i++) {
        bool is_new = true;
        for (int64_t j = i - 1; j >= 0 && is_new; j--) is_new = strcmp(e[i].node, e[j].node) != 0;
        n_nodes += is_new;
    }
    if (n_nodes == 1) sgc_str_printf(s, " %s] ", e[0].node);
    else sgc_str_printf(s, " on %lld nodes] ", (long long)n_nodes);
}

static void print_merged(entry *e, int64_t n)
{
    qsort(e, (size_t)n, sizeof(*e), by_line_and_position); /* ranks come one after the other, so this orders by rank, too */
    for (int64_t i = 0; i < n; i++) {
        bool is_repeated = i > 0 && e[i].rank == e[i - 1].rank && strcmp(e[i].line, e[i - 1].line) == 0;
        e[i].occurrence = is_repeated ? e[i - 1].occurrence + 1 : 0;
    }
    qsort(e, (size_t)n, sizeof(*e), by_line_and_occurrence);
    for (int64_t i = 0; i < n; i++) {
        bool is_merged = i > 0 && e[i].occurrence == e[i - 1].occurrence && strcmp(e[i].line, e[i - 1].line) == 0;
        e[i].place = is_merged ? e[i - 1].place : e[i].position;
    }
    qsort(e, (size_t)n, sizeof(*e), by_place);
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && e[end].place == e[i].place; end++) {}
        sgc_str prefix = {0};
        write_prefix(&prefix, e + i, end - i);
        sgc_log_print((sgc_log_level)(e[i].line[0] - '0'), prefix.text, e[i].line + 1);
        sgc_str_free(&prefix);
    }
}

/* Of every rank: "rank", "node", then its lines, each with a NUL. */
static sgc_status print_all(const char *all, const int64_t *n_bytes_of, int n_ranks)
{
    int64_t n_strings = 0, n_bytes = 0, n = 0;
    for (int r = 0; r < n_ranks; r++) n_bytes += n_bytes_of[r];
    for (int64_t i = 0; i < n_bytes; i++) n_strings += all[i] == '\0';
    entry *entries = malloc((size_t)(n_strings + 1) * sizeof(*entries));
    if (entries == NULL) return sgc_err(SGC_ENOMEM, "no memory to merge %lld log lines", (long long)n_strings);
    for (int r = 0; r < n_ranks; r++) {
        const char *end = all + n_bytes_of[r], *node = all + strlen(all) + 1;
        int rank = atoi(all);
        for (const char *line = node + strlen(node) + 1; line < end; line += strlen(line) + 1, n++)
            entries[n] = (entry){.line = line, .node = node, .rank = rank, .position = n};
        all = end;
    }
    print_merged(entries, n);
    free(entries);
    return SGC_OK;
}

sgc_status sgc_log_flush(sgc_group *g)
{
    sgc_status st = SGC_OK;
    size_t n_pending;
    const char *pending = sgc_log_pending(&n_pending);
    char *all = NULL;
    int64_t *n_bytes_of = NULL;
    sgc_str message = {0};

    if (g->is_null || g->size == 1) {
        sgc_log_flush_local();
        return SGC_OK;
    }
    int64_t n_all_pending = (int64_t)n_pending;
    SGC_TRY(sgc_sum_int64(g, &n_all_pending, 1));
    if (n_all_pending == 0) goto done;

    n_bytes_of = calloc((size_t)g->size, sizeof(*n_bytes_of));
    if (n_bytes_of == NULL) st = sgc_err(SGC_ENOMEM, "no memory to merge the log lines of %d ranks", g->size);
    SGC_AGREE(g);
    sgc_str_printf(&message, "%d%c%s%c", g->world_rank, 0, sgc_node_name(), 0);
    sgc_str_append(&message, pending, n_pending);
    SGC_TRY(sgc_gather_bytes(g, message.text, (int64_t)message.n, &all, n_bytes_of, 0));
    if (g->rank == 0) st = print_all(all, n_bytes_of, g->size);
    SGC_AGREE(g);
    sgc_log_drop_pending();
done:
    sgc_str_free(&message);
    free(all);
    free(n_bytes_of);
    return st;
}
