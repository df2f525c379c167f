#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/philox.h"
#include "comm/comm_impl.h"
#include "mpi_check.h"

static const int64_t sizes[] = {0, 1, 7, 512, 5000}; /* elements of a shard */
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* Element i of what rank r holds in round k: of many magnitudes, so that sums depend on their order. */
static float value(int r, int64_t i, int k)
{
    uint32_t w[4];
    sgc_philox((sgc_philox_key){{3, (uint32_t)k}}, (uint32_t[4]){(uint32_t)r, (uint32_t)i, 0, 0}, w);
    return ldexpf(sgc_uniform(w[0]) - 0.5f, (int)(w[1] % 24));
}

static void fill(float *x, int64_t n, int r, int k)
{
    for (int64_t i = 0; i < n; i++) x[i] = value(r, i, k);
}

/* The sum over ranks as the contract of reduce_scatter says it, one element at a time. */
static float tree(int first, int n, int64_t i, int k)
{
    if (n == 1) return value(first, i, k);
    int left = 1;
    while (2 * left < n) left *= 2;
    return tree(first, left, i, k) + tree(first + left, n - left, i, k);
}

static bool is_value(const float *x, int64_t n, int r, int64_t first, int k)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != value(r, first + i, k)) return false;
    return true;
}

static bool is_tree(const float *x, int64_t n, int64_t first, int k)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != tree(0, world.size, first + i, k)) return false;
    return true;
}

static float *buffer(int64_t n)
{
    float *x = calloc((size_t)n + 1, sizeof(*x));
    mpi_assert(x != NULL);
    return x;
}

START_TEST(groups_number_every_rank)
{
    int all = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &all);
    mpi_assert(world.rank == all && sgc_group_rank(world.all) == all);
    mpi_assert(sgc_group_size(world.all) == world.size);
    mpi_assert(sgc_group_size(world.node) == world.node_size && sgc_group_rank(world.node) == world.node_rank);
    mpi_assert(sgc_group_size(world.across) <= world.n_nodes && world.node_index < world.n_nodes);
    int64_t n = 1;
    mpi_assert_ok(sgc_sum_int64(world.node, &n, 1));
    mpi_assert(n == world.node_size);
    n = world.node_rank == 0; /* one first rank per node */
    mpi_assert_ok(sgc_sum_int64(world.all, &n, 1));
    mpi_assert(n == world.n_nodes);
}
END_TEST

START_TEST(all_gather_brings_every_shard)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int s = 0; s < N_SIZES; s++) {
        int64_t n = sizes[s];
        sgc_request *request;
        float *full = buffer(n * world.size);
        fill(full + world.rank * n, n, world.rank, s);
        mpi_assert_ok(ops->all_gather(world.all, SGC_F32, full, n, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert(request == NULL);
        for (int r = 0; r < world.size; r++) mpi_assert(is_value(full + r * n, n, r, 0, s));
        free(full);
    }
}
END_TEST

START_TEST(reduce_scatter_adds_in_the_order_of_the_tree)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int s = 0; s < N_SIZES; s++)
        for (int in_place = 0; in_place < 2; in_place++) {
            int64_t n = sizes[s], first = world.rank * n;
            sgc_request *request;
            float *full = buffer(n * world.size), *scratch = buffer(n * world.size), *other = buffer(n);
            float *shard = in_place ? full + first : other;
            fill(full, n * world.size, world.rank, s);
            mpi_assert_ok(ops->reduce_scatter(world.all, SGC_F32, full, shard, scratch, n, &request));
            mpi_assert_ok(ops->wait(&request));
            mpi_assert(is_tree(shard, n, first, s));
            for (int r = 0; r < world.size; r++)
                if (!in_place || r != world.rank)
                    if (!is_value(full + r * n, n, world.rank, r * n, s)) first = -1;
            mpi_assert(first >= 0); /* the rest of full is as it was */
            free(full);
            free(scratch);
            free(other);
        }
}
END_TEST

START_TEST(all_reduce_gives_the_bits_of_reduce_scatter_and_all_gather)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int s = 0; s < N_SIZES; s++) {
        int64_t n = sizes[s];
        sgc_request *request;
        float *full = buffer(n * world.size), *scratch = buffer(n * world.size);
        fill(full, n * world.size, world.rank, s);
        mpi_assert_ok(ops->all_reduce(world.all, full, scratch, n, &request));
        for (int i = 0; i < 100; i++) ops->progress(world.all);
        mpi_assert_ok(ops->wait(&request));
        mpi_assert(is_tree(full, n * world.size, 0, s));
        free(full);
        free(scratch);
    }
}
END_TEST

START_TEST(broadcast_reaches_all_from_any_root)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int root = 0; root < world.size; root++)
        for (int s = 0; s < N_SIZES; s++) {
            int64_t n = sizes[s];
            sgc_request *request;
            float *data = buffer(n);
            if (world.rank == root) fill(data, n, root, s);
            mpi_assert_ok(ops->broadcast(world.all, SGC_F32, data, n, root, &request));
            mpi_assert_ok(ops->wait(&request));
            mpi_assert(is_value(data, n, root, 0, s));
            free(data);
        }
}
END_TEST

START_TEST(long_buffers_go_in_pieces)
{
    int64_t usual = sgc_comm_piece;
    for (sgc_comm_piece = 1; sgc_comm_piece < 2000; sgc_comm_piece = sgc_comm_piece * 7 + 3) {
        const sgc_comm_ops *ops = sgc_group_ops(world.all);
        int64_t n = 1000;
        sgc_request *request;
        float *full = buffer(n * world.size), *scratch = buffer(n * world.size);
        fill(full, n * world.size, world.rank, 9);
        mpi_assert_ok(ops->all_reduce(world.all, full, scratch, n, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert(is_tree(full, n * world.size, 0, 9));
        mpi_assert_ok(ops->broadcast(world.all, SGC_F32, full, n, world.size - 1, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert(is_tree(full, n, 0, 9));
        char text[1000] = "";
        if (world.rank == 0) memset(text, 'x', sizeof(text));
        mpi_assert_ok(sgc_bcast_bytes(world.all, text, sizeof(text), 0));
        mpi_assert(memchr(text, '\0', sizeof(text)) == NULL);
        free(full);
        free(scratch);
    }
    sgc_comm_piece = usual;
}
END_TEST

START_TEST(collectives_in_flight_together_do_not_mix)
{
    enum { N = 12 };
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    float *full[N], *scratch[N];
    sgc_request *request[N];
    int64_t n = 300;
    world.all->next_tag = world.all->n_tags - N / 2; /* the tags begin anew on the way */
    for (int k = 0; k < N; k++) {
        full[k] = buffer(n * world.size);
        scratch[k] = buffer(n * world.size);
        if (k % 3 == 1) fill(full[k] + world.rank * n, n, world.rank, k);
        else fill(full[k], n * world.size, world.rank, k);
    }
    for (int k = 0; k < N; k++) {
        if (k % 3 == 0) mpi_assert_ok(ops->reduce_scatter(world.all, SGC_F32, full[k], full[k] + world.rank * n, scratch[k], n, &request[k]));
        if (k % 3 == 1) mpi_assert_ok(ops->all_gather(world.all, SGC_F32, full[k], n, &request[k]));
        if (k % 3 == 2) mpi_assert_ok(ops->broadcast(world.all, SGC_F32, full[k], n, k % world.size, &request[k]));
    }
    for (int i = 0; i < N; i++) {
        int k = (i + N / 2) % N; /* waits need not be in the order of the starts */
        mpi_assert_ok(ops->wait(&request[k]));
        if (k % 3 == 0) mpi_assert(is_tree(full[k] + world.rank * n, n, world.rank * n, k));
        for (int r = 0; k % 3 == 1 && r < world.size; r++) mpi_assert(is_value(full[k] + r * n, n, r, 0, k));
        if (k % 3 == 2) mpi_assert(is_value(full[k], n, k % world.size, 0, k));
        free(full[k]);
        free(scratch[k]);
    }
    mpi_assert(world.all->active == NULL);
}
END_TEST

/* Counters of a group before and after. */
static sgc_traffic since(const sgc_group *g, sgc_collective c, sgc_traffic before)
{
    sgc_traffic t = sgc_group_traffic(g, c);
    return (sgc_traffic){t.n_calls - before.n_calls, t.n_elements - before.n_elements, t.n_bytes - before.n_bytes};
}

START_TEST(elements_sent_are_counted_as_the_null_backend_counts_them)
{
    int64_t n = 1000;
    float *full = buffer(n * world.size), *scratch = buffer(n * world.size);
    sgc_group *paper;
    sgc_traffic before[SGC_N_COLLECTIVES], sent[SGC_N_COLLECTIVES];
    mpi_assert_ok(sgc_group_null(&paper, world.size, world.rank));
    for (int c = 0; c < SGC_N_COLLECTIVES; c++) before[c] = sgc_group_traffic(world.all, (sgc_collective)c);
    for (int round = 0; round < 2; round++) {
        sgc_group *g = round == 0 ? world.all : paper;
        const sgc_comm_ops *ops = sgc_group_ops(g);
        float *f = round == 0 ? full : NULL, *s = round == 0 ? scratch : NULL; /* the null backend touches no buffer */
        sgc_request *request;
        mpi_assert_ok(ops->all_gather(g, SGC_F32, f, n, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert_ok(ops->reduce_scatter(g, SGC_F32, f, s, s, n, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert_ok(ops->all_reduce(g, f, s, n, &request));
        mpi_assert_ok(ops->wait(&request));
        for (int root = 0; root < world.size; root++) {
            mpi_assert_ok(ops->broadcast(g, SGC_F32, f, n, root, &request));
            mpi_assert_ok(ops->wait(&request));
        }
    }
    int64_t peers = world.size - 1;
    for (int c = 0; c < SGC_N_COLLECTIVES; c++) {
        if (c == SGC_CONTROL) continue;
        sent[c] = since(world.all, (sgc_collective)c, before[c]);
        sgc_traffic planned = sgc_group_traffic(paper, (sgc_collective)c);
        mpi_assert(memcmp(&sent[c], &planned, sizeof(planned)) == 0);
        mpi_assert(sent[c].n_bytes == 4 * sent[c].n_elements);
    }
    mpi_assert(sent[SGC_ALL_GATHER].n_elements == peers * n);
    mpi_assert(sent[SGC_REDUCE_SCATTER].n_elements == peers * n);
    mpi_assert(sent[SGC_ALL_REDUCE].n_elements == 2 * peers * n);
    int64_t by_all = sent[SGC_BROADCAST].n_elements;
    mpi_assert_ok(sgc_sum_int64(world.all, &by_all, 1));
    mpi_assert(by_all == world.size * peers * n); /* each rank but the root receives once */
    sgc_group_free(paper);
    free(full);
    free(scratch);
}
END_TEST

START_TEST(the_broadcast_tree_reaches_every_rank_once_at_any_size)
{
    bool is_right = true;
    for (int size = 1; size <= 40; size++)
        for (int root = 0; root < size; root++) {
            int n_parents[40] = {0};
            for (int rank = 0; rank < size; rank++) {
                int parent, children[32], n = sgc_broadcast_tree(rank, size, root, &parent, children);
                is_right = is_right && (parent < 0) == (rank == root);
                for (int i = 0; i < n; i++) {
                    int back, grandchildren[32];
                    n_parents[children[i]]++;
                    sgc_broadcast_tree(children[i], size, root, &back, grandchildren);
                    is_right = is_right && back == rank;
                }
            }
            for (int rank = 0; rank < size; rank++) is_right = is_right && n_parents[rank] == (rank != root);
        }
    mpi_assert(is_right);
}
END_TEST

START_TEST(tree_sum_pairs_neighbours_first_for_any_number_of_sources)
{
    enum { N = 40000, MOST = 9 };
    float *src[MOST], *dst = buffer(N);
    for (int i = 0; i < MOST; i++) src[i] = buffer(N);
    for (int n_src = 1; n_src <= MOST; n_src++)
        for (int target = -1; target < n_src; target++) {
            bool is_right = true;
            for (int i = 0; i < n_src; i++) fill(src[i], N, i, 4);
            float *out = target < 0 ? dst : src[target];
            sgc_tree_sum(out, src, n_src, N);
            for (int64_t i = 0; i < N; i += 1 + i % 97) is_right = is_right && out[i] == tree(0, n_src, i, 4);
            mpi_assert(is_right);
        }
    for (int i = 0; i < MOST; i++) free(src[i]);
    free(dst);
}
END_TEST

START_TEST(control_sums_extremes_and_exact_sums)
{
    int64_t n[2] = {world.rank, (int64_t)1 << 40};
    double high[2] = {world.rank, -1.5 - world.rank}, low[2] = {world.rank, -1.5 - world.rank};
    mpi_assert_ok(sgc_sum_int64(world.all, n, 2));
    mpi_assert_ok(sgc_max_double(world.all, high, 2));
    mpi_assert_ok(sgc_min_double(world.all, low, 2));
    mpi_assert(n[0] == world.size * (world.size - 1) / 2 && n[1] == (int64_t)world.size << 40);
    mpi_assert(high[0] == world.size - 1 && high[1] == -1.5);
    mpi_assert(low[0] == 0 && low[1] == -0.5 - world.size);

    /* 1000 numbers dealt out to the ranks in turn: the sum has the bits that one rank alone gets */
    sgc_exact shared[2], alone;
    sgc_exact_zero(&alone);
    for (int k = 0; k < 2; k++) sgc_exact_zero(&shared[k]);
    for (int i = 0; i < 1000; i++) {
        double x = (double)value(0, i, 1) * 1e200 + value(1, i, 1);
        sgc_exact_add(&alone, x);
        if (i % world.size == world.rank) sgc_exact_add(&shared[0], x);
        if (i % world.size == world.rank) sgc_exact_add(&shared[1], -x);
    }
    mpi_assert_ok(sgc_sum_exact(world.all, shared, 2));
    mpi_assert(sgc_exact_value(&shared[0]) == sgc_exact_value(&alone));
    mpi_assert(sgc_exact_value(&shared[1]) == -sgc_exact_value(&alone));
}
END_TEST

START_TEST(bytes_of_different_sizes_are_gathered_on_any_root)
{
    for (int root = 0; root < world.size; root++) {
        char own[64], *all = NULL;
        int64_t n_bytes_of[64];
        int n = world.rank == 1 ? 0 : snprintf(own, sizeof(own), "%0*d", 3 * world.rank + 1, world.rank); /* rank 1 sends nothing */
        mpi_assert_ok(sgc_gather_bytes(world.all, own, n, &all, n_bytes_of, root));
        mpi_assert((all != NULL) == (world.rank == root));
        bool is_right = true;
        for (int64_t r = 0, at = 0; world.rank == root && r < world.size; at += n_bytes_of[r++]) {
            int64_t want = r == 1 ? 0 : 3 * r + 1;
            is_right = is_right && n_bytes_of[r] == want && (want == 0 || all[at + want - 1] == '0' + (char)r);
        }
        mpi_assert(is_right);
        free(all);
    }
}
END_TEST

START_TEST(a_null_group_acts_as_one_rank_for_control)
{
    sgc_group *g;
    mpi_assert(sgc_group_null(&g, 4, 4) == SGC_EARG);
    sgc_err_clear();
    mpi_assert_ok(sgc_group_null(&g, 1000, 7));
    int64_t n = 5, n_bytes_of[1];
    char *all;
    mpi_assert_ok(sgc_sum_int64(g, &n, 1));
    mpi_assert_ok(sgc_barrier(g));
    mpi_assert_ok(sgc_gather_bytes(g, "abc", 3, &all, n_bytes_of, 0));
    mpi_assert(n == 5 && n_bytes_of[0] == 3 && memcmp(all, "abc", 3) == 0);
    mpi_assert(sgc_group_rank(g) == 7 && sgc_group_size(g) == 1000);
    free(all);
    sgc_group_free(g);
}
END_TEST

START_TEST(an_error_of_mpi_is_returned_with_its_text)
{
    char data[4] = "abc";
    sgc_status st = sgc_bcast_bytes(world.all, data, 4, 999);
    mpi_assert(st == (world.size == 1 ? SGC_OK : SGC_ECOMM)); /* one rank sends nothing */
    mpi_assert(world.size == 1 || strstr(sgc_err_message(), "MPI_ERR_ROOT") != NULL);
    sgc_err_clear();
}
END_TEST

START_TEST(bytes_go_around_a_ring)
{
    int64_t before = sgc_comm_piece;
    sgc_comm_piece = 2; /* 8 bytes at a time */
    for (int n = 0; n <= 33; n += 11) {
        unsigned char sent[33], received[33] = {0};
        bool right = true;
        for (int i = 0; i < n; i++) sent[i] = (unsigned char)(world.rank * 40 + i);
        int next = (world.rank + 1) % world.size, previous = (world.rank + world.size - 1) % world.size;
        mpi_assert(sgc_exchange_bytes(world.all, sent, next, received, previous, n) == SGC_OK);
        for (int i = 0; i < n; i++) right = right && received[i] == (unsigned char)(previous * 40 + i);
        mpi_assert(right);
    }
    sgc_comm_piece = before;
}
END_TEST

START_TEST(the_exclusive_or_of_all_but_one_and_that_of_all_give_the_one)
{
    int64_t before = sgc_comm_piece;
    sgc_comm_piece = 2;
    for (int root = 0; root < world.size; root++) {
        unsigned char all[21], others[21];
        bool right = true;
        for (int i = 0; i < 21; i++) {
            all[i] = (unsigned char)(world.rank * 77 + i * 13 + 5);
            others[i] = world.rank == root ? 0 : all[i];
        }
        mpi_assert(sgc_xor_bytes(world.all, all, 21, root) == SGC_OK && sgc_xor_bytes(world.all, others, 21, root) == SGC_OK);
        for (int i = 0; i < 21 && world.rank == root; i++) right = right && (all[i] ^ others[i]) == (unsigned char)(root * 77 + i * 13 + 5);
        mpi_assert(right);
    }
    sgc_comm_piece = before;
}
END_TEST

START_TEST(consecutive_ranks_count_as_a_node_when_asked)
{
    sgc_world w = world;
    w.node = w.across = NULL; /* those of the world stay */
    mpi_assert(sgc_world_set_nodes(&w, 2) == SGC_OK);
    mpi_assert(w.node_index == w.rank / 2 && w.node_rank == w.rank % 2 && w.n_nodes == (w.size + 1) / 2);
    mpi_assert(w.node_size == (w.rank / 2 * 2 + 1 < w.size ? 2 : 1));
    mpi_assert(sgc_group_rank(w.across) == w.node_index || w.node_rank > 0);
    sgc_group_free(w.node);
    sgc_group_free(w.across);
    w = world;
    mpi_assert(sgc_world_set_nodes(&w, 0) == SGC_OK);
    mpi_assert(w.node == world.node && w.n_nodes == world.n_nodes);
}
END_TEST

MPI_UNIT_MAIN("comm", groups_number_every_rank, all_gather_brings_every_shard, reduce_scatter_adds_in_the_order_of_the_tree,
              all_reduce_gives_the_bits_of_reduce_scatter_and_all_gather, broadcast_reaches_all_from_any_root, long_buffers_go_in_pieces,
              collectives_in_flight_together_do_not_mix, elements_sent_are_counted_as_the_null_backend_counts_them,
              the_broadcast_tree_reaches_every_rank_once_at_any_size, tree_sum_pairs_neighbours_first_for_any_number_of_sources,
              control_sums_extremes_and_exact_sums, bytes_of_different_sizes_are_gathered_on_any_root, a_null_group_acts_as_one_rank_for_control,
              an_error_of_mpi_is_returned_with_its_text, bytes_go_around_a_ring,
              the_exclusive_or_of_all_but_one_and_that_of_all_give_the_one, consecutive_ranks_count_as_a_node_when_asked)
