/* The HDF5 file driver: what it writes is an ordinary HDF5 file; a failed write is reported by the close and harms nothing else. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/h5.h"
#include "base/util.h"
#include "unit.h"

static char directory[] = "/tmp/stagecoach-h5.XXXXXX";

static void make_directory(void)
{
    strcpy(directory + sizeof(directory) - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void) { ck_assert_int_eq(sgc_remove_tree(directory), SGC_OK); }

static const char *in_directory(const char *name)
{
    static char path[SGC_PATH_MAX];
    ck_assert_int_eq(sgc_path_join(path, directory, name), SGC_OK);
    return path;
}

START_TEST(written_data_and_attributes_are_read_back)
{
    make_directory();
    const char *path = in_directory("a.h5");
    float data[2][3] = {{1, 2, 3}, {4, 5, 6}}, back[2][3] = {{0}};
    sgc_h5 *f;
    hid_t file;
    ck_assert_int_eq(sgc_h5_create(&f, path), SGC_OK);
    ck_assert_int_eq(sgc_h5_write(sgc_h5_id(f), "/a/b/c", H5T_NATIVE_FLOAT, 2, (hsize_t[]){2, 3}, data), SGC_OK);
    ck_assert_int_eq(sgc_h5_attr_int(sgc_h5_id(f), "int", INT64_MIN), SGC_OK);
    ck_assert_int_eq(sgc_h5_attr_double(sgc_h5_id(f), "double", 0x1.fffffffffffffp-1022), SGC_OK);
    ck_assert_int_eq(sgc_h5_attr_text(sgc_h5_id(f), "text", "Größe"), SGC_OK);
    ck_assert_int_eq(sgc_h5_attr_text(sgc_h5_id(f), "empty", ""), SGC_OK);
    ck_assert_int_eq(sgc_h5_close(&f), SGC_OK);
    ck_assert_ptr_null(f);

    ck_assert_int_eq(sgc_h5_open(&file, path), SGC_OK);
    int64_t i = 0, offset = 0, n_bytes = 0;
    double d = 0;
    char text[8];
    ck_assert_int_eq(sgc_h5_get_int(file, "int", &i), SGC_OK);
    ck_assert(i == INT64_MIN);
    ck_assert_int_eq(sgc_h5_get_double(file, "double", &d), SGC_OK);
    ck_assert(d == 0x1.fffffffffffffp-1022);
    ck_assert_int_eq(sgc_h5_get_text(file, "text", text, sizeof(text)), SGC_OK);
    ck_assert_str_eq(text, "Größe");
    ck_assert_int_eq(sgc_h5_get_text(file, "empty", text, sizeof(text)), SGC_OK);
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(sgc_h5_offset(file, "/a/b/c", &offset, &n_bytes), SGC_OK);
    ck_assert_int_eq(n_bytes, sizeof(data));
    H5Fclose(file);
    FILE *raw = fopen(path, "rb");
    ck_assert_ptr_nonnull(raw);
    fseek(raw, (long)offset, SEEK_SET);
    ck_assert_uint_eq(fread(back, sizeof(float), 6, raw), 6);
    fclose(raw);
    ck_assert_mem_eq(back, data, sizeof(data));
    remove_directory();
}
END_TEST

START_TEST(attributes_of_another_type_or_size_are_refused)
{
    make_directory();
    const char *path = in_directory("a.h5");
    sgc_h5 *f;
    hid_t file;
    ck_assert_int_eq(sgc_h5_create(&f, path), SGC_OK);
    ck_assert_int_eq(sgc_h5_attr_int(sgc_h5_id(f), "int", 1), SGC_OK);
    ck_assert_int_eq(sgc_h5_attr_text(sgc_h5_id(f), "text", "12345678"), SGC_OK);
    ck_assert_int_eq(sgc_h5_close(&f), SGC_OK);
    ck_assert_int_eq(sgc_h5_open(&file, path), SGC_OK);
    int64_t i;
    double d;
    char text[8];
    ck_assert_int_eq(sgc_h5_get_double(file, "int", &d), SGC_EDATA);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "'int'"));
    sgc_err_clear();
    ck_assert_int_eq(sgc_h5_get_int(file, "absent", &i), SGC_EDATA);
    ck_assert_int_eq(sgc_h5_get_int(file, "text", &i), SGC_EDATA);
    ck_assert_int_eq(sgc_h5_get_text(file, "text", text, sizeof(text)), SGC_EDATA);
    ck_assert_int_eq(sgc_h5_get_text(file, "int", text, sizeof(text)), SGC_EDATA);
    sgc_err_clear();
    H5Fclose(file);
    remove_directory();
}
END_TEST

START_TEST(an_image_in_memory_reads_like_its_file)
{
    make_directory();
    const char *path = in_directory("a.h5");
    sgc_h5 *f;
    hid_t file;
    char *bytes;
    size_t n_bytes;
    int64_t i = 0;
    ck_assert_int_eq(sgc_h5_create(&f, path), SGC_OK);
    ck_assert_int_eq(sgc_h5_attr_int(sgc_h5_id(f), "int", 77), SGC_OK);
    ck_assert_int_eq(sgc_h5_close(&f), SGC_OK);
    ck_assert_int_eq(sgc_read_file(path, &bytes, &n_bytes), SGC_OK);
    remove_directory();
    ck_assert_int_eq(sgc_h5_open_image(&file, bytes, n_bytes), SGC_OK);
    ck_assert_int_eq(sgc_h5_get_int(file, "int", &i), SGC_OK);
    ck_assert_int_eq(i, 77);
    H5Fclose(file);
    memset(bytes, 0, 8);
    ck_assert_int_eq(sgc_h5_open_image(&file, bytes, n_bytes), SGC_EDATA);
    sgc_err_clear();
    free(bytes);
}
END_TEST

/* Groups and datasets with much more metadata than HDF5 keeps in its cache, so that it reads evicted pieces again. */
static sgc_status write_many(sgc_h5 *f)
{
    sgc_status st = SGC_OK;
    float row[64] = {0};
    char path[64];
    for (int i = 0; i < 400; i++) {
        for (int k = 0; k < 20; k++) {
            snprintf(path, sizeof(path), "/group-%d/data-%d", i, k);
            SGC_TRY(sgc_h5_write(sgc_h5_id(f), path, H5T_NATIVE_FLOAT, 1, (hsize_t[]){64}, row));
        }
    }
done:
    return st;
}

START_TEST(a_full_file_system_is_reported_by_the_close_whenever_it_fills_up)
{
    make_directory();
    const char *path = in_directory("a.h5");
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit < 6000000; limit = limit * 2 + 1000) {
        sgc_h5 *f;
        ck_assert_int_eq(sgc_h5_create(&f, path), SGC_OK);
        struct rlimit unlimited, full;
        getrlimit(RLIMIT_FSIZE, &unlimited);
        full = (struct rlimit){.rlim_cur = limit, .rlim_max = unlimited.rlim_max};
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
        sgc_status written = write_many(f), closed = sgc_h5_close(&f);
        setrlimit(RLIMIT_FSIZE, &unlimited);
        ck_assert_int_eq(written, SGC_OK);
        ck_assert_int_eq(closed, SGC_EIO);
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), path));
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), "File too large"));
        sgc_err_clear();
    }
    sgc_h5 *f; /* the library is as good as new */
    ck_assert_int_eq(sgc_h5_create(&f, path), SGC_OK);
    ck_assert_int_eq(write_many(f), SGC_OK);
    ck_assert_int_eq(sgc_h5_close(&f), SGC_OK);
    ck_assert_int_eq(H5close(), 0);
    remove_directory();
}
END_TEST

START_TEST(files_that_cannot_be_had_are_named)
{
    sgc_h5 *f;
    hid_t file;
    ck_assert_int_eq(sgc_h5_create(&f, "/nonexistent/a.h5"), SGC_EIO);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "/nonexistent/a.h5"));
    sgc_err_clear();
    ck_assert_ptr_null(f);
    ck_assert_int_eq(sgc_h5_open(&file, "/nonexistent/a.h5"), SGC_EDATA);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "/nonexistent/a.h5"));
    sgc_err_clear();
    ck_assert_int_eq(sgc_h5_open(&file, "/etc/passwd"), SGC_EDATA);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "not an HDF5 file"));
    sgc_err_clear();
    ck_assert_int_eq(sgc_h5_close(&f), SGC_OK);
}
END_TEST

/* What a sketch and the data make together is the file that HDF5 would have written. */
START_TEST(a_sketch_with_its_data_is_an_ordinary_file)
{
    make_directory();
    const char *path = in_directory("sketched.h5");
    enum { N = 3000, N_SETS = 40 };
    static float data[N_SETS][N], back[N];
    char name[32];
    int64_t offset[N_SETS], n_bytes, end = 0;
    sgc_h5_sketch sketch;
    sgc_h5 *f;
    hid_t file;
    ck_assert_int_eq(sgc_h5_create_sketch(&f, "sketched.h5"), SGC_OK);
    for (int k = 0; k < N_SETS; k++) {
        for (int i = 0; i < N; i++) data[k][i] = (float)(k * N + i);
        snprintf(name, sizeof(name), "/group-%d/set-%d", k % 7, k);
        ck_assert_int_eq(sgc_h5_write(sgc_h5_id(f), name, H5T_NATIVE_FLOAT, 1, (hsize_t[]){N}, NULL), SGC_OK);
        ck_assert_int_eq(sgc_h5_offset(sgc_h5_id(f), name, &offset[k], &n_bytes), SGC_OK);
        ck_assert_int_eq(n_bytes, sizeof(data[k]));
    }
    ck_assert_int_eq(sgc_h5_attr_text(sgc_h5_id(f), "text", "kept"), SGC_OK);
    ck_assert_int_eq(sgc_h5_write(sgc_h5_id(f), "/small", H5T_NATIVE_FLOAT, 0, NULL, &data[1][1]), SGC_OK);
    ck_assert_int_eq(sgc_h5_close_sketch(&f, &sketch), SGC_OK);
    ck_assert(f == NULL && !sgc_path_exists("sketched.h5"));

    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    for (int i = 0; i < sketch.n_pieces; i++) {
        const sgc_h5_piece *p = &sketch.pieces[i];
        ck_assert_int_gt(p->offset, end - (i == 0)); /* in order, and they do not touch */
        end = p->offset + p->n_bytes;
        for (int k = 0; k < N_SETS; k++) ck_assert(end <= offset[k] || p->offset >= offset[k] + (int64_t)sizeof(data[k]));
        ck_assert(fseek(out, (long)p->offset, SEEK_SET) == 0 && fwrite(p->bytes, (size_t)p->n_bytes, 1, out) == 1);
    }
    for (int k = 0; k < N_SETS; k++) ck_assert(fseek(out, (long)offset[k], SEEK_SET) == 0 && fwrite(data[k], sizeof(data[k]), 1, out) == 1);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_int_eq(truncate(path, (off_t)sketch.n_bytes), 0);
    sgc_h5_sketch_free(&sketch);

    ck_assert_int_eq(sgc_h5_open(&file, path), SGC_OK);
    for (int k = 0; k < N_SETS; k++) {
        snprintf(name, sizeof(name), "/group-%d/set-%d", k % 7, k);
        hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
        ck_assert(H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0 && memcmp(back, data[k], sizeof(back)) == 0);
        H5Dclose(set);
    }
    char text[8];
    ck_assert_int_eq(sgc_h5_get_text(file, "text", text, sizeof(text)), SGC_OK);
    ck_assert_str_eq(text, "kept");
    hid_t small = H5Dopen2(file, "/small", H5P_DEFAULT);
    ck_assert(H5Dread(small, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0 && back[0] == data[1][1]);
    H5Dclose(small);
    H5Fclose(file);
    remove_directory();
}
END_TEST

START_TEST(a_sketch_can_be_given_up)
{
    sgc_h5 *f;
    ck_assert_int_eq(sgc_h5_create_sketch(&f, "nothing.h5"), SGC_OK);
    ck_assert_int_eq(sgc_h5_write(sgc_h5_id(f), "/a", H5T_NATIVE_FLOAT, 1, (hsize_t[]){10}, NULL), SGC_OK);
    ck_assert_int_eq(sgc_h5_close(&f), SGC_OK);
    ck_assert(f == NULL && !sgc_path_exists("nothing.h5"));
}
END_TEST

UNIT_MAIN("h5", written_data_and_attributes_are_read_back, attributes_of_another_type_or_size_are_refused,
          an_image_in_memory_reads_like_its_file, a_full_file_system_is_reported_by_the_close_whenever_it_fills_up,
          files_that_cannot_be_had_are_named,
          a_sketch_with_its_data_is_an_ordinary_file, a_sketch_can_be_given_up)
