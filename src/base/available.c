#include "base/available.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/util.h"

/* A number after `key` at the start of a line of a file (key "": the file's first word). False: not there, or no number ("max"). */
static bool read_number(const char *path, const char *key, int64_t *value)
{
    char line[512];
    bool found = false;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    while (!found && fgets(line, sizeof(line), f)) {
        char *end;
        if (strncmp(line, key, strlen(key)) != 0) continue;
        *value = strtoll(line + strlen(key), &end, 10);
        found = end != line + strlen(key);
        if (!*key) break;
    }
    fclose(f);
    return found;
}

typedef struct hierarchy { const char *mount, *limit, *usage, *cache; } hierarchy;
static const hierarchy version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "};
static const hierarchy version_2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};

static bool read_group_number(const char *directory, const char *file, const char *key, int64_t *value)
{
    char path[SGC_PATH_MAX];
    return snprintf(path, sizeof(path), "%s/%s", directory, file) < (int)sizeof(path) && read_number(path, key, value);
}

/* What one group's limit leaves. */
static int64_t left_in(const hierarchy *h, const char *directory)
{
    int64_t limit, usage, cache;
    if (!read_group_number(directory, h->limit, "", &limit) || !read_group_number(directory, h->usage, "", &usage)) return INT64_MAX;
    if (!read_group_number(directory, "memory.stat", h->cache, &cache)) cache = 0;
    int64_t left = limit - usage + cache;
    return left < 0 ? 0 : left;
}

/* A group and those above it. In a container the path may lead nowhere; the mount's own directory is always looked at. */
static int64_t left_above(const hierarchy *h, const char *root, const char *group)
{
    char directory[SGC_PATH_MAX];
    int64_t least = INT64_MAX;
    size_t n_mount = strlen(root) + strlen(h->mount);
    if (snprintf(directory, sizeof(directory), "%s%s%s", root, h->mount, group) >= (int)sizeof(directory)) return least;
    for (;;) {
        int64_t left = left_in(h, directory);
        if (left < least) least = left;
        char *slash = strrchr(directory, '/');
        if (strlen(directory) <= n_mount || !slash) return least;
        *slash = '\0';
    }
}

int64_t sgc_memory_available(const char *root)
{
    char path[SGC_PATH_MAX], line[SGC_PATH_MAX];
    int64_t least = INT64_MAX, kib;
    if (snprintf(path, sizeof(path), "%s/proc/meminfo", root) < (int)sizeof(path) && read_number(path, "MemAvailable:", &kib)) least = kib * 1024;
    if (snprintf(path, sizeof(path), "%s/proc/self/cgroup", root) >= (int)sizeof(path)) return least;
    FILE *f = fopen(path, "re"); /* lines NUMBER:CONTROLLERS:PATH */
    while (f && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        const hierarchy *h = controllers[1] == '\0' ? &version_2 : strstr(controllers + 1, "memory") ? &version_1 : NULL;
        if (!h) continue;
        int64_t left = left_above(h, root, strcmp(group, "/") == 0 ? "" : group);
        if (left < least) least = left;
    }
    if (f) fclose(f);
    return least;
}

int64_t sgc_memory_untouched(void)
{
    int64_t held = 0;
    for (sgc_mem_purpose p = 0; p < SGC_MEM_N_PURPOSES; p++) held += (int64_t)sgc_mem_held(p);
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return held;
    long long n_pages = 0; /* resident */
    if (fscanf(f, "%*d %lld", &n_pages) != 1) n_pages = 0;
    fclose(f);
    int64_t n_resident = n_pages * (int64_t)sysconf(_SC_PAGESIZE);
    return held > n_resident ? held - n_resident : 0;
}
