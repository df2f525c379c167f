/* The text `nodes`: whose part of a checkpoint the directory of a node holds, and which files of other nodes go with it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/spread_impl.h"

enum { END_BYTES = 4 + 16 + 1 }; /* "end ", 16 digits, newline */

void sgc_nodes_put(sgc_str *text, sgc_spread_kind kind, const sgc_world *w, const int64_t *sets)
{
    static const char *const names[] = {"none", "partner", "xor"};
    sgc_str_printf(text, "stagecoach node-local checkpoint\nredundancy %s\nnodes %d\nnode %d\n", names[kind], w->n_nodes, w->node_index);
    for (int set = 0; sets && set < w->size / w->n_nodes; set++) {
        if (!sets[set * w->n_nodes]) continue;
        sgc_str_printf(text, "set");
        for (int k = 0; k < w->n_nodes; k++) sgc_str_printf(text, " %d", (int)sets[set * w->n_nodes + k] - 1);
        sgc_str_printf(text, "\n");
    }
    sgc_manifest_put_end(text);
}

static bool fits(const char *text, size_t n_bytes)
{
    char end[END_BYTES + 1];
    if (n_bytes < END_BYTES) return false;
    snprintf(end, sizeof(end), "end %016" PRIx64 "\n", sgc_hash64(text, n_bytes - END_BYTES));
    return memcmp(text + n_bytes - END_BYTES, end, END_BYTES) == 0;
}

/* " 0 2 4": one shard file of each node. */
static bool take_set(sgc_nodes *n, const char *line)
{
    int *more = realloc(n->sets, (size_t)(n->n_sets + 1) * (size_t)n->n_nodes * sizeof(*more));
    if (!more) return false;
    n->sets = more;
    for (int k = 0; k < n->n_nodes; k++) {
        char *end;
        long file = strtol(line, &end, 10);
        if (end == line || file < 0 || file >= INT32_MAX) return false;
        n->sets[(size_t)n->n_sets * (size_t)n->n_nodes + (size_t)k] = (int)file;
        line = end;
    }
    n->n_sets++;
    return *line == '\0';
}

static bool parse_lines(sgc_nodes *n, char *text)
{
    int n_head = 0;
    char *rest = NULL;
    if (sscanf(text, "stagecoach node-local checkpoint redundancy %15s nodes %d node %d%n", n->redundancy, &n->n_nodes, &n->node, &n_head) != 3 || n_head == 0)
        return false;
    if (n->n_nodes < 1 || n->n_nodes > SGC_N_NODES_MAX || n->node < 0 || n->node >= n->n_nodes) return false;
    for (char *line = strtok_r(text + n_head, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (strncmp(line, "set", 3) != 0 || !take_set(n, line + 3)) return false;
    return true;
}

sgc_status sgc_nodes_parse(sgc_nodes *n, char *text, size_t n_bytes, const char *path)
{
    *n = (sgc_nodes){0};
    if (fits(text, n_bytes)) {
        text[n_bytes - END_BYTES] = '\0';
        if (parse_lines(n, text)) return SGC_OK;
    }
    sgc_nodes_free(n);
    return sgc_err(SGC_ECKPT, "%s is damaged", path);
}

sgc_status sgc_nodes_read(sgc_nodes *n, const char *directory)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX], *text = NULL;
    size_t n_bytes;
    *n = (sgc_nodes){0};
    SGC_TRY(sgc_path_join(path, directory, SGC_NODES_NAME));
    SGC_TRY(sgc_read_plain_file(path, &text, &n_bytes));
    SGC_TRY(sgc_nodes_parse(n, text, n_bytes, path));
done:
    free(text);
    return st;
}

void sgc_nodes_free(sgc_nodes *n)
{
    free(n->sets);
    *n = (sgc_nodes){0};
}
