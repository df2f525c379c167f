/* Memory that can still be had: of the machine, and within control groups of both versions. */
#include <string.h>
#include <sys/stat.h>

#include "base/available.h"
#include "base/mem.h"
#include "base/util.h"
#include "unit.h"

enum { MIB = 1 << 20 };

/* A file ROOT/PATH with its directories. */
static void put(const char *root, const char *path, const char *text)
{
    char full[SGC_PATH_MAX], directory[SGC_PATH_MAX];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    strcpy(directory, full);
    *strrchr(directory, '/') = '\0';
    ck_assert_int_eq(sgc_make_dirs(directory), SGC_OK);
    FILE *f = fopen(full, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

static void make_root(char root[64])
{
    strcpy(root, "/tmp/stagecoach-available.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    put(root, "proc/meminfo", "MemTotal:  900000 kB\nMemFree:  1000 kB\nMemAvailable:   512000 kB\n");
}

START_TEST(the_kernel_says_what_is_available)
{
    char root[64];
    make_root(root);
    ck_assert_int_eq(sgc_memory_available(root), 512000LL * 1024);
    ck_assert_int_eq(sgc_memory_available("/nonexistent"), INT64_MAX);
    ck_assert_int_gt(sgc_memory_available(""), MIB);
    sgc_remove_tree(root);
}
END_TEST

START_TEST(the_limit_of_a_group_counts_and_caches_do_not)
{
    char root[64];
    make_root(root);
    put(root, "proc/self/cgroup", "0::/job/step\n");
    put(root, "sys/fs/cgroup/job/step/memory.max", "max\n");
    put(root, "sys/fs/cgroup/job/step/memory.current", "1000\n");
    ck_assert_int_eq(sgc_memory_available(root), 512000LL * 1024);
    put(root, "sys/fs/cgroup/job/step/memory.max", "104857600\n");
    put(root, "sys/fs/cgroup/job/step/memory.current", "52428800\n");
    ck_assert_int_eq(sgc_memory_available(root), 50 * MIB);
    put(root, "sys/fs/cgroup/job/step/memory.stat", "anon 5\nfile 6\ninactive_file 10485760\nactive_file 7\n");
    ck_assert_int_eq(sgc_memory_available(root), 60 * MIB);
    sgc_remove_tree(root);
}
END_TEST

START_TEST(the_limit_of_a_group_above_counts)
{
    char root[64];
    make_root(root);
    put(root, "proc/self/cgroup", "0::/job/step\n");
    put(root, "sys/fs/cgroup/job/step/memory.max", "104857600\n");
    put(root, "sys/fs/cgroup/job/step/memory.current", "0\n");
    put(root, "sys/fs/cgroup/job/memory.max", "20971520\n");
    put(root, "sys/fs/cgroup/job/memory.current", "19922944\n");
    ck_assert_int_eq(sgc_memory_available(root), MIB);
    sgc_remove_tree(root);
}
END_TEST

START_TEST(version_1_and_a_container_whose_path_leads_nowhere)
{
    char root[64];
    make_root(root);
    put(root, "proc/self/cgroup", "7:cpu,cpuacct:/a\n4:memory:/docker/0123\n1:name=systemd:/b\n");
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n");
    ck_assert_int_eq(sgc_memory_available(root), 512000LL * 1024);
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "31457280\n");
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "41943040\n");
    put(root, "sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 20971520\n");
    ck_assert_int_eq(sgc_memory_available(root), 10 * MIB);
    sgc_remove_tree(root);
}
END_TEST

START_TEST(memory_that_was_not_touched_is_still_to_come)
{
    const size_t n = (size_t)1 << 30;
    int64_t before = sgc_memory_untouched();
    char *p = sgc_mem_alloc(SGC_MEM_DATA, n);
    ck_assert_ptr_nonnull(p);
    ck_assert_int_gt(sgc_memory_untouched() - before, 700LL * MIB);
    sgc_mem_free(p);
    ck_assert_int_le(sgc_memory_untouched(), before);
}
END_TEST

UNIT_MAIN("available", the_kernel_says_what_is_available, the_limit_of_a_group_counts_and_caches_do_not, the_limit_of_a_group_above_counts,
          version_1_and_a_container_whose_path_leads_nowhere, memory_that_was_not_touched_is_still_to_come)
