#include "conf/option_impl.h"

#include <ctype.h>
#include <string.h>

#define ROW(g, k) .group = #g, .key = #k, .name = #g "." #k, .offset = offsetof(sgc_config, g.k)
#define OPT(g, k) ROW(g, k), .optional = true, .has_offset = offsetof(sgc_config, g.has_##k)

#define BOOL(g, k, d, h) {ROW(g, k), .type = SGC_OPTION_BOOL, .initial = {.b = (d)}, .unit = "", .help = (h)},
#define INT(g, k, d, lo, hi, u, h) \
    {ROW(g, k), .type = SGC_OPTION_INT, .initial = {.i = (d)}, .int_min = (lo), .int_max = (hi), .unit = (u), .help = (h)},
#define FLOAT(g, k, d, lo, hi, u, h) \
    {ROW(g, k), .type = SGC_OPTION_FLOAT, .initial = {.f = (d)}, .float_min = (lo), .float_max = (hi), .unit = (u), .help = (h)},
#define STRING(g, k, d, h) \
    {ROW(g, k), .type = SGC_OPTION_STRING, .optional = true, .initial = {.is_none = (d) == NULL, .s = (d)}, .unit = "", .help = (h)},
#define CHOICE(g, k, d, c, h) {ROW(g, k), .type = SGC_OPTION_CHOICE, .initial = {.i = (d)}, .choices = (c), .unit = "", .help = (h)},
#define OPTINT(g, k, lo, hi, u, h) \
    {OPT(g, k), .type = SGC_OPTION_INT, .initial = {.is_none = true}, .int_min = (lo), .int_max = (hi), .unit = (u), .help = (h)},
#define OPTFLOAT(g, k, lo, hi, u, h) \
    {OPT(g, k), .type = SGC_OPTION_FLOAT, .initial = {.is_none = true}, .float_min = (lo), .float_max = (hi), .unit = (u), .help = (h)},
#define OPTFLOAT_DEFAULT(g, k, d, lo, hi, u, h) \
    {OPT(g, k), .type = SGC_OPTION_FLOAT, .initial = {.f = (d)}, .float_min = (lo), .float_max = (hi), .unit = (u), .help = (h)},
#define OPTBOOL(g, k, h) {OPT(g, k), .type = SGC_OPTION_BOOL, .initial = {.is_none = true}, .unit = "", .help = (h)},

const sgc_option sgc_options[SGC_N_OPTIONS] = {
#include "conf/options.def"
};

const sgc_option_group sgc_option_groups[SGC_N_GROUPS] = {
    {"model", "the network; names of the GPT-2 config.json of Hugging Face"},
    {"data", "texts and samples; names of the run_clm example of transformers"},
    {"training", "TrainingArguments of transformers, with their meaning and defaults; given without the group: --learning_rate"},
    {"zero", "sharding of the training states over the ranks"},
    {"checkpoint", "files of a checkpoint"},
    {"comm", "ranks and messages"},
    {"device", "where the numbers are computed"},
};

static const struct { const char *key, *advice; } not_offered[] = {
#define NOT_OFFERED(key, advice) {#key, advice},
#include "conf/not_offered.def"
};

int sgc_option_find(const char *group, const char *key)
{
    for (int row = 0; row < SGC_N_OPTIONS; row++)
        if (strcmp(sgc_options[row].key, key) == 0 && strcmp(sgc_options[row].group, group) == 0) return row;
    return -1;
}

int sgc_option_find_name(const char *name)
{
    for (int row = 0; row < SGC_N_OPTIONS; row++)
        if (strcmp(sgc_options[row].name, name) == 0) return row;
    return -1;
}

bool sgc_option_is_near(const char *name, int distance)
{
    int n = (int)strlen(name);
    return distance <= (n < 6 ? 1 : n / 3);
}

/* Small letters, dashes as underscores: what a guess should not stumble over. */
static void normalize(const char *name, char out[128])
{
    size_t n = 0;
    for (; name[n] != '\0' && n < 127; n++) out[n] = name[n] == '-' ? '_' : (char)tolower((unsigned char)name[n]);
    out[n] = '\0';
}

int sgc_option_nearest(const char *group, const char *key)
{
    char name[128];
    normalize(key, name);
    int best = -1, best_distance = 0;
    /* The right key in another group is nearer than any misspelling; then the group where it stands; then any. */
    for (int row = 0; row < SGC_N_OPTIONS; row++) {
        const sgc_option *o = &sgc_options[row];
        if (strcmp(o->key, name) == 0 || strcmp(o->name, name) == 0) return row;
    }
    for (int pass = group == NULL; pass < 2 && best < 0; pass++) {
        for (int row = 0; row < SGC_N_OPTIONS; row++) {
            const sgc_option *o = &sgc_options[row];
            if (pass == 0 && strcmp(o->group, group) != 0) continue;
            int by_key = sgc_edit_distance(name, o->key), by_name = sgc_edit_distance(name, o->name);
            int distance = by_key < by_name ? by_key : by_name;
            if (sgc_option_is_near(name, distance) && (best < 0 || distance < best_distance)) best = row, best_distance = distance;
        }
    }
    if (best >= 0 && best_distance <= 2) return best;
    for (int row = 0; row < SGC_N_OPTIONS && strlen(name) >= 5; row++)
        if (strstr(sgc_options[row].key, name) != NULL) return row; /* batch_size: per_device_train_batch_size */
    return best;
}

const char *sgc_option_nearest_group(const char *name)
{
    char wanted[128];
    normalize(name, wanted);
    const char *best = NULL;
    int best_distance = 0;
    for (int g = 0; g < SGC_N_GROUPS; g++) {
        int distance = sgc_edit_distance(wanted, sgc_option_groups[g].name);
        if (sgc_option_is_near(wanted, distance) && (best == NULL || distance < best_distance))
            best = sgc_option_groups[g].name, best_distance = distance;
    }
    return best;
}

bool sgc_option_not_offered(const char *key, const char **advice)
{
    for (size_t i = 0; i < sizeof(not_offered) / sizeof(not_offered[0]); i++) {
        if (strcmp(not_offered[i].key, key) != 0) continue;
        *advice = not_offered[i].advice;
        return true;
    }
    return false;
}

bool sgc_option_choice(const sgc_option *o, int64_t n, char out[64])
{
    const char *name = o->choices;
    for (; n > 0; n--) {
        name = strchr(name, '|');
        if (name == NULL) return false;
        name++;
    }
    size_t length = strcspn(name, "|");
    memcpy(out, name, length);
    out[length] = '\0';
    return true;
}

int sgc_config_n_rows(void) { return SGC_N_OPTIONS; }

const char *sgc_config_row_name(int row) { return row < 0 || row >= SGC_N_OPTIONS ? NULL : sgc_options[row].name; }
