#include <stdlib.h>

#include "comm/comm_impl.h"
#include "mpi_check.h"

static void *place_alloc(size_t bytes) { return malloc(bytes); }
static void place_free(void *p) { free(p); }
static void place_put(void *to, const void *host, size_t bytes) { memcpy(to, host, bytes); }
static void place_get(void *host, const void *from, size_t bytes) { memcpy(host, from, bytes); }

#include "comm_cases.h"

static void fill(float *x, int64_t n, int r, int k)
{
    for (int64_t i = 0; i < n; i++) x[i] = value(SGC_F32, r, i, k);
}

static bool is_sum(const float *x, int64_t n, int k)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != tree(SGC_F32, 0, world.size, i, k)) return false;
    return true;
}

static float *floats(int64_t n)
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

START_TEST(long_buffers_go_in_pieces)
{
    int64_t usual = sgc_comm_piece;
    for (sgc_comm_piece = 1; sgc_comm_piece < 2000; sgc_comm_piece = sgc_comm_piece * 7 + 3) {
        const sgc_comm_ops *ops = sgc_group_ops(world.all);
        int64_t n = 1000;
        sgc_request *request;
        float *full = floats(n * world.size), *scratch = floats(n * world.size);
        fill(full, n * world.size, world.rank, 9);
        mpi_assert_ok(ops->all_reduce(world.all, full, scratch, n, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert(is_sum(full, n * world.size, 9));
        mpi_assert_ok(ops->broadcast(world.all, SGC_F32, full, n, world.size - 1, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert(is_sum(full, n, 9));
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

START_TEST(tags_begin_anew_while_messages_are_under_way)
{
    enum { N = 6 };
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    buffer full[N];
    sgc_request *request[N];
    int64_t n = 300;
    world.all->next_tag = world.all->n_tags - N / 2;
    for (int k = 0; k < N; k++) full[k] = make(SGC_F32, n * world.size, n * world.rank, n, world.rank, k);
    for (int k = 0; k < N; k++) mpi_assert_ok(ops->all_gather(world.all, SGC_F32, full[k].p, n, &request[k]));
    wait_all(N, request);
    mpi_assert(world.all->active == NULL && world.all->next_tag == N / 2);
    for (int k = 0; k < N; k++) {
        fetch(&full[k]);
        for (int r = 0; r < world.size; r++) mpi_assert(is_value(&full[k], r * n, n, r, k));
        drop(&full[k]);
    }
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
    float *src[MOST], *dst = floats(N);
    for (int i = 0; i < MOST; i++) src[i] = floats(N);
    for (int n_src = 1; n_src <= MOST; n_src++)
        for (int target = -1; target < n_src; target++) {
            bool is_right = true;
            for (int i = 0; i < n_src; i++) fill(src[i], N, i, 4);
            float *out = target < 0 ? dst : src[target];
            sgc_tree_sum(out, src, n_src, N);
            for (int64_t i = 0; i < N; i += 1 + i % 97) is_right = is_right && out[i] == tree(SGC_F32, 0, n_src, i, 4);
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
        double x = (double)value(SGC_F32, 0, i, 1) * 1e200 + value(SGC_F32, 1, i, 1);
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

/* Ranks come to the end in their own time: those with odd numbers have asked before. */
static bool ends(sgc_transfer **t)
{
    bool has_ended = false;
    if (world.rank % 2 == 1 && sgc_transfer_end(t, false, &has_ended) != SGC_OK) return false;
    return (has_ended || (sgc_transfer_end(t, true, &has_ended) == SGC_OK && has_ended)) && *t == NULL;
}

START_TEST(bytes_go_around_a_ring)
{
    for (int n = 0; n <= 33; n += 11) {
        unsigned char sent[33], received[33] = {0};
        bool right = true;
        sgc_transfer *t;
        for (int i = 0; i < n; i++) sent[i] = (unsigned char)(world.rank * 40 + i);
        int next = (world.rank + 1) % world.size, previous = (world.rank + world.size - 1) % world.size;
        mpi_assert_ok(sgc_transfer_exchange(&t, world.all, sent, next, received, previous, n));
        mpi_assert(ends(&t));
        for (int i = 0; i < n; i++) right = right && received[i] == (unsigned char)(previous * 40 + i);
        mpi_assert(right);
    }
}
END_TEST

START_TEST(the_exclusive_or_of_all_but_one_and_that_of_all_give_the_one)
{
    for (int root = 0; root < world.size; root++) {
        unsigned char all[21], others[21];
        bool right = true;
        sgc_transfer *t;
        for (int i = 0; i < 21; i++) {
            all[i] = (unsigned char)(world.rank * 77 + i * 13 + 5);
            others[i] = world.rank == root ? 0 : all[i];
        }
        mpi_assert_ok(sgc_transfer_xor(&t, world.all, all, 21, root));
        mpi_assert(ends(&t));
        mpi_assert_ok(sgc_transfer_xor(&t, world.all, others, 21, root));
        mpi_assert(ends(&t));
        for (int i = 0; i < 21 && world.rank == root; i++) right = right && (all[i] ^ others[i]) == (unsigned char)(root * 77 + i * 13 + 5);
        mpi_assert(right);
    }
}
END_TEST

START_TEST(bytes_of_one_rank_go_to_all)
{
    for (int root = 0; root < world.size; root++) {
        char text[16] = "";
        sgc_transfer *t;
        if (world.rank == root) snprintf(text, sizeof(text), "of %d", root);
        mpi_assert_ok(sgc_transfer_broadcast(&t, world.all, text, sizeof(text), root));
        mpi_assert(ends(&t));
        mpi_assert(text[0] == 'o' && text[3] == (char)('0' + root));
    }
    sgc_transfer *t;
    mpi_assert(sgc_transfer_broadcast(&t, world.all, NULL, (int64_t)1 << 31, 0) == SGC_EARG);
    sgc_err_clear();
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

MPI_UNIT_MAIN("comm", COMM_CASES, groups_number_every_rank, long_buffers_go_in_pieces, tags_begin_anew_while_messages_are_under_way,
              the_broadcast_tree_reaches_every_rank_once_at_any_size, tree_sum_pairs_neighbours_first_for_any_number_of_sources,
              control_sums_extremes_and_exact_sums, bytes_of_different_sizes_are_gathered_on_any_root, a_null_group_acts_as_one_rank_for_control,
              an_error_of_mpi_is_returned_with_its_text, bytes_go_around_a_ring, bytes_of_one_rank_go_to_all,
              the_exclusive_or_of_all_but_one_and_that_of_all_give_the_one, consecutive_ranks_count_as_a_node_when_asked)
