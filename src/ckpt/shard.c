/*
 * A shard file: slices of the flat buffers, one contiguous dataset each. HDF5 only sketches it, in memory; its bytes are then known
 * before the first is written, so they are hashed on their way out, and ranks that share a file write their own parts of it.
 */
#define _GNU_SOURCE 1 /* sync_file_range */
#include "ckpt/shard_impl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "device/device.h"

void sgc_shard_dataset(char path[256], const sgc_ckpt_files *files, const char *id, int shard, const sgc_ckpt_part *part)
{
    if (sgc_files_are_shared(files))
        snprintf(path, 256, "/%s/%d/%s/%s", id, shard, sgc_slot_path[part->slot], part->unit->name);
    else
        snprintf(path, 256, "/%s/%s/%s", id, sgc_slot_path[part->slot], part->unit->name);
}

static int by_offset(const void *a, const void *b)
{
    int64_t x = ((const sgc_shard_piece *)a)->offset, y = ((const sgc_shard_piece *)b)->offset;
    return (x > y) - (x < y);
}

static int n_shards_in(const sgc_ckpt_files *files, int file)
{
    int n = 0;
    for (int shard = 0; shard < files->n_shards; shard++) n += files->file_of[shard] == file;
    return n;
}

/* Every dataset of the file, as pieces with offsets. */
static sgc_status sketch_datasets(sgc_shard_layout *l, hid_t h5, const sgc_ckpt_files *files, const char *id, int rank,
                                  const sgc_ckpt_part *parts, int n_parts)
{
    sgc_status st = SGC_OK;
    char dataset[256];
    for (int shard = 0; shard < files->n_shards; shard++) {
        if (files->file_of[shard] != files->file_of[rank]) continue;
        for (int k = 0; k < n_parts; k++) {
            const hsize_t shape[1] = {(hsize_t)parts[k].flat.n_shard};
            sgc_shard_piece *piece = &l->pieces[l->n_pieces++];
            sgc_shard_dataset(dataset, files, id, shard, &parts[k]);
            SGC_TRY(sgc_h5_write(h5, dataset, H5T_IEEE_F32LE, 1, shape, NULL));
            SGC_TRY(sgc_h5_offset(h5, dataset, &piece->offset, &piece->n_bytes));
            piece->rank = shard;
            if (shard != rank) continue;
            piece->bytes = (const char *)parts[k].values;
            piece->device = parts[k].device;
            if (piece->device) l->device = piece->device;
            l->offset[k] = piece->offset;
        }
    }
done:
    return st;
}

sgc_status sgc_shard_layout_make(sgc_shard_layout *l, const sgc_ckpt_files *files, const char *id, int rank, const sgc_ckpt_part *parts, int n_parts)
{
    sgc_status st = SGC_OK;
    sgc_h5 *f = NULL;
    char name[64];
    int file = files->file_of[rank], n_datasets = n_shards_in(files, file) * n_parts;
    sgc_shard_piece *more = NULL;
    *l = (sgc_shard_layout){.rank = rank, .leader = sgc_files_leader(files, file)};
    sgc_manifest_path(name, SGC_FILE_SHARDS + file, files->n_files);
    l->offset = calloc((size_t)n_parts + 1, sizeof(*l->offset));
    l->pieces = calloc((size_t)n_datasets + 1, sizeof(*l->pieces));
    if (!l->offset || !l->pieces) return sgc_err(SGC_ENOMEM, "no memory for the offsets of a shard");
    SGC_TRY(sgc_h5_create_sketch(&f, name));
    SGC_TRY(sketch_datasets(l, sgc_h5_id(f), files, id, rank, parts, n_parts));
    SGC_TRY(sgc_h5_close_sketch(&f, &l->sketch));
    l->n_bytes = l->sketch.n_bytes;
    more = realloc(l->pieces, (size_t)(l->n_pieces + l->sketch.n_pieces + 1) * sizeof(*more));
    if (!more) {
        st = sgc_err(SGC_ENOMEM, "no memory for the pieces of a shard");
        goto done;
    }
    l->pieces = more;
    for (int i = 0; i < l->sketch.n_pieces; i++) {
        const sgc_h5_piece *p = &l->sketch.pieces[i];
        l->pieces[l->n_pieces++] = (sgc_shard_piece){.offset = p->offset, .n_bytes = p->n_bytes, .bytes = (const char *)p->bytes, .rank = l->leader};
    }
    qsort(l->pieces, (size_t)l->n_pieces, sizeof(*l->pieces), by_offset);
done:
    if (f) SGC_KEEP(sgc_h5_close(&f));
    return st;
}

void sgc_shard_layout_free(sgc_shard_layout *l)
{
    free(l->pieces);
    free(l->offset);
    sgc_h5_sketch_free(&l->sketch);
    *l = (sgc_shard_layout){0};
}

/* A block of the file while it is written. */
typedef struct block {
    int64_t first, end;
    int first_piece, end_piece; /* pieces that overlap it */
} block;

/* The part of a piece that lies in the block. */
static int64_t overlap(const sgc_shard_piece *p, const block *b, int64_t *first)
{
    int64_t end = p->offset + p->n_bytes < b->end ? p->offset + p->n_bytes : b->end;
    *first = p->offset > b->first ? p->offset : b->first;
    return end - *first;
}

/* What lies between pieces belongs to the leader. */
static sgc_block_owner owner_of(const sgc_shard_layout *l, const block *b)
{
    int64_t n_covered = 0;
    int owner = -1;
    bool is_mixed = false;
    for (int i = b->first_piece; i < b->end_piece; i++) {
        const sgc_shard_piece *p = &l->pieces[i];
        int64_t first;
        n_covered += overlap(p, b, &first);
        is_mixed = is_mixed || (owner >= 0 && owner != p->rank);
        owner = p->rank;
    }
    if (n_covered < b->end - b->first) {
        is_mixed = is_mixed || (owner >= 0 && owner != l->leader);
        owner = l->leader;
    }
    return is_mixed ? SGC_BLOCK_MIXED : owner == l->rank ? SGC_BLOCK_OWN : SGC_BLOCK_OTHERS;
}

/* Bytes of a piece from its first-th on. */
static sgc_status take(const sgc_shard_piece *p, int64_t first, int64_t n, char *to)
{
    if (p->device) return sgc_device_read(p->device, to, p->bytes + first, (size_t)n);
    memcpy(to, p->bytes + first, (size_t)n);
    return SGC_OK;
}

/* A block that is all own: straight from its piece where it lies in one that the host has, else put together in the buffer. */
static sgc_status put_block(const sgc_shard_layout *l, const block *b, int fd, const char *path, char *buffer, uint64_t *hash)
{
    sgc_status st = SGC_OK;
    const sgc_shard_piece *p = &l->pieces[b->first_piece];
    size_t n = (size_t)(b->end - b->first);
    const char *bytes = buffer;
    if (b->end_piece - b->first_piece == 1 && !p->device && p->offset <= b->first && p->offset + p->n_bytes >= b->end) {
        bytes = p->bytes + (b->first - p->offset);
    } else {
        memset(buffer, 0, n);
        for (int i = b->first_piece; i < b->end_piece; i++) {
            p = &l->pieces[i];
            int64_t first, n_here = overlap(p, b, &first);
            SGC_TRY(take(p, first - p->offset, n_here, buffer + (first - b->first)));
        }
    }
    *hash = sgc_hash64(bytes, n);
    st = sgc_pwrite_all(fd, bytes, n, b->first, path);
done:
    return st;
}

/* This rank's part, if any, of a block of several. */
static sgc_status put_mixed(const sgc_shard_layout *l, const block *b, int fd, const char *path, char *buffer)
{
    sgc_status st = SGC_OK;
    for (int i = b->first_piece; i < b->end_piece; i++) {
        const sgc_shard_piece *p = &l->pieces[i];
        int64_t first, n = overlap(p, b, &first);
        if (p->rank != l->rank) continue;
        if (p->device) SGC_TRY(take(p, first - p->offset, n, buffer));
        const char *bytes = p->device ? buffer : p->bytes + (first - p->offset);
        SGC_TRY(sgc_pwrite_all(fd, bytes, (size_t)n, first, path));
    }
done:
    return st;
}

enum { DISK_BYTES = 8 << 20 }; /* the disk gets them at once */

/* The disk begins with what is written since *sent, rather than idle until fsync; which then tells whether all got there. */
static void send_to_disk(int fd, int64_t *sent, int64_t end)
{
    sync_file_range(fd, *sent, end - *sent, SYNC_FILE_RANGE_WRITE);
    *sent = end;
}

sgc_status sgc_shard_put(const sgc_shard_layout *l, const char *path, int64_t block_size, sgc_shard_hashes *h, int *out)
{
    sgc_status st = SGC_OK;
    char *buffer = NULL;
    int64_t sent = 0;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    *out = -1;
    *h = (sgc_shard_hashes){.n_blocks = (l->n_bytes + block_size - 1) / block_size};
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot open %s", path);
    h->hash = calloc((size_t)h->n_blocks + 1, sizeof(*h->hash));
    h->owner = calloc((size_t)h->n_blocks + 1, 1);
    buffer = l->device ? sgc_device_alloc_staging(l->device, SGC_MEM_CHECKPOINT, (size_t)block_size) : sgc_mem_alloc(SGC_MEM_CHECKPOINT, (size_t)block_size);
    if (!h->hash || !h->owner) st = sgc_err(SGC_ENOMEM, "no memory for the hashes of %s", path);
    if (st != SGC_OK || !buffer) {
        st = SGC_ENOMEM;
        goto done;
    }
    block b = {0};
    for (int64_t k = 0; k < h->n_blocks; k++) {
        b.first = k * block_size;
        b.end = b.first + block_size < l->n_bytes ? b.first + block_size : l->n_bytes;
        while (b.first_piece < l->n_pieces && l->pieces[b.first_piece].offset + l->pieces[b.first_piece].n_bytes <= b.first) b.first_piece++;
        b.end_piece = b.first_piece;
        while (b.end_piece < l->n_pieces && l->pieces[b.end_piece].offset < b.end) b.end_piece++;
        h->owner[k] = (unsigned char)owner_of(l, &b);
        if (h->owner[k] == SGC_BLOCK_OWN) SGC_TRY(put_block(l, &b, fd, path, buffer, &h->hash[k]));
        if (h->owner[k] == SGC_BLOCK_MIXED) SGC_TRY(put_mixed(l, &b, fd, path, buffer));
        if (b.end - sent >= DISK_BYTES || k == h->n_blocks - 1) send_to_disk(fd, &sent, b.end);
    }
    *out = fd;
    fd = -1;
done:
    if (fd >= 0) close(fd);
    if (l->device) sgc_device_free(l->device, buffer);
    else sgc_mem_free(buffer);
    return st;
}

sgc_status sgc_shard_sync(int fd, const char *path)
{
    sgc_status st = SGC_OK;
    if (fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
    if (close(fd) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", path);
    return st;
}

sgc_status sgc_shard_hash_mixed(const sgc_shard_layout *l, const char *path, int64_t block_size, sgc_shard_hashes *h)
{
    sgc_status st = SGC_OK;
    if (l->rank != l->leader) return SGC_OK;
    char *buffer = sgc_mem_alloc(SGC_MEM_CHECKPOINT, (size_t)block_size);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) st = sgc_err_errno(SGC_EIO, "cannot read back %s", path);
    if (!buffer) st = SGC_ENOMEM;
    for (int64_t k = 0; st == SGC_OK && k < h->n_blocks; k++) {
        int64_t first = k * block_size, n = l->n_bytes - first < block_size ? l->n_bytes - first : block_size;
        if (h->owner[k] != SGC_BLOCK_MIXED) continue;
        if ((st = sgc_pread_all(fd, buffer, (size_t)n, first, path)) != SGC_OK) break;
        h->hash[k] = sgc_hash64(buffer, (size_t)n);
        h->owner[k] = SGC_BLOCK_OWN;
    }
    if (fd >= 0) close(fd);
    sgc_mem_free(buffer);
    return st;
}

void sgc_shard_hashes_free(sgc_shard_hashes *h)
{
    free(h->hash);
    free(h->owner);
    *h = (sgc_shard_hashes){0};
}
