#include "config.h"

#include "cli/version.h"

#include <hdf5.h>
#include <jansson.h>
#include <libconfig.h>
#include <mpi.h>
#include <string.h>
#include <xxhash.h>
#ifdef HAVE_ONEDNN
#include <dnnl.h>
#endif
#ifdef HAVE_CBLAS
#include <cblas.h>
#endif

#include "device/device.h"

static const char not_told[] = "(the library does not tell)";

static void row(FILE *out, const char *library, const char *compiled, const char *loaded)
{
    fprintf(out, "  %-12s %-32s %s\n", library, compiled, loaded);
}

/* The first line is enough: some MPI libraries print a page. */
static void mpi_loaded(char *text, size_t bytes)
{
    char all[MPI_MAX_LIBRARY_VERSION_STRING];
    int n = 0, major = 0, minor = 0;
    MPI_Get_library_version(all, &n);
    MPI_Get_version(&major, &minor);
    all[strcspn(all, "\n")] = '\0';
    char *comma = strchr(all, ',');
    if (comma) *comma = '\0';
    snprintf(text, bytes, "%.200s (MPI %d.%d)", all, major, minor);
}

void sgc_print_version(FILE *out)
{
    char compiled[256], loaded[256];
    fprintf(out, "stagecoach %s\n\n", PACKAGE_VERSION);
    row(out, "library", "compiled against", "loaded");

#ifdef OMPI_MAJOR_VERSION
    snprintf(compiled, sizeof compiled, "Open MPI %d.%d.%d (MPI %d.%d)", OMPI_MAJOR_VERSION, OMPI_MINOR_VERSION, OMPI_RELEASE_VERSION,
             MPI_VERSION, MPI_SUBVERSION);
#else
    snprintf(compiled, sizeof compiled, "MPI %d.%d", MPI_VERSION, MPI_SUBVERSION);
#endif
    mpi_loaded(loaded, sizeof loaded);
    row(out, "MPI", compiled, loaded);

    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(compiled, sizeof compiled, "%d.%d.%d", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
    snprintf(loaded, sizeof loaded, "%u.%u.%u", major, minor, release);
    row(out, "HDF5", compiled, loaded);

#ifdef HAVE_ONEDNN
    const dnnl_version_t *dnnl = dnnl_version();
    snprintf(compiled, sizeof compiled, "%d.%d.%d", DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH);
    snprintf(loaded, sizeof loaded, "%d.%d.%d", dnnl->major, dnnl->minor, dnnl->patch);
    row(out, "oneDNN", compiled, loaded);
#endif
#ifdef HAVE_CBLAS
#ifdef HAVE_OPENBLAS_GET_CONFIG
    row(out, "CBLAS", OPENBLAS_VERSION, openblas_get_config());
#else
    row(out, "CBLAS", not_told, not_told);
#endif
#endif
#ifdef HAVE_CUDA
    sgc_gpus gpus;
    if (sgc_device_gpus(&gpus) != SGC_OK) snprintf(loaded, sizeof loaded, "%.200s", sgc_err_message());
    else if (gpus.n == 0) snprintf(loaded, sizeof loaded, "no GPU here: %s", gpus.none);
    else snprintf(loaded, sizeof loaded, "%d GPU%s here", gpus.n, gpus.n == 1 ? "" : "s");
    row(out, "CUDA", SGC_CUDA_VERSION, loaded);
    sgc_err_clear();
#ifdef HAVE_NCCL
    row(out, "NCCL", SGC_NCCL_VERSION, "(opened when GPUs are used)");
#endif
#ifdef HAVE_CUDNN
    row(out, "cuDNN", SGC_CUDNN_VERSION, "(opened when GPUs are used)");
#endif
#endif
    snprintf(compiled, sizeof compiled, "%d.%d.%d", LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION);
    row(out, "libconfig", compiled, not_told);
    row(out, "jansson", JANSSON_VERSION, jansson_version_str());
    snprintf(compiled, sizeof compiled, "%d.%d.%d", XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE);
    unsigned xxh = XXH_versionNumber();
    snprintf(loaded, sizeof loaded, "%u.%u.%u", xxh / 10000, xxh / 100 % 100, xxh % 100);
    row(out, "xxHash", compiled, loaded);
    snprintf(compiled, sizeof compiled, "%d", _OPENMP);
    row(out, "OpenMP", compiled, not_told);

#ifdef __clang__
    fprintf(out, "\ncompiler: %s\n", __VERSION__);
#else
    fprintf(out, "\ncompiler: gcc %s\n", __VERSION__);
#endif
    fprintf(out, "instructions of the cpu device here: %s\n", sgc_device_isa());
}
