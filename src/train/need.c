#include "train/need_impl.h"

#include "base/util.h"

/* The device's own table, but nothing is allocated for a graph: only sizes are asked for. */
static sgc_status arena_bytes(const sgc_need *n, sgc_mode mode, int64_t B, size_t *bytes)
{
    sgc_status st = SGC_OK;
    sgc_graph *g = NULL;
    sgc_device_ops ops = *n->device->ops;
    sgc_device blind = *n->device;
    ops.is_null = true;
    blind.ops = &ops;
    sgc_graph_spec spec = {.mode = mode, .B = B, .T = n->block, .checkpointing = n->checkpointing};
    SGC_TRY(sgc_graph_build(&g, n->model, &blind, &spec));
    *bytes = sgc_graph_arena_bytes(g) + sgc_graph_scratch_bytes(g);
done:
    sgc_graph_free(g);
    return st;
}

sgc_status sgc_need_measure(const sgc_need *n, size_t bytes[SGC_MEM_N_PURPOSES])
{
    sgc_status st = SGC_OK;
    size_t training, evaluation = 0;
    SGC_TRY(sgc_zero_measure(n->model, n->device, n->n_ranks, &n->zero, bytes));
    SGC_TRY(arena_bytes(n, SGC_TRAIN, n->micro_batch, &training));
    if (n->eval_batch > 0) SGC_TRY(arena_bytes(n, SGC_EVAL, n->eval_batch, &evaluation));
    bytes[SGC_MEM_ACTIVATIONS] = training > evaluation ? training : evaluation; /* they take turns */
done:
    return st;
}

static size_t sum(const size_t bytes[SGC_MEM_N_PURPOSES])
{
    size_t all = 0;
    for (int p = 0; p < SGC_MEM_N_PURPOSES; p++) all += bytes[p];
    return all;
}

/* What a change costs in time, roughly; only the order matters. Recomputing is a third of the work again, a smaller micro-batch fills the
 * processor less, each stage sends more, and more ranks are another job. */
static double cost_of(const sgc_need *now, const sgc_need *other)
{
    double cost = other->checkpointing == now->checkpointing ? 1 : 1.33;
    for (int64_t b = other->micro_batch; b < now->micro_batch; b *= 2) cost *= 1.05;
    for (int stage = now->zero.stage; stage < other->zero.stage; stage++) cost *= 1.04;
    for (int ranks = now->n_ranks; ranks < other->n_ranks; ranks *= 2) cost *= 1000;
    return other->eval_batch == now->eval_batch ? cost : 1.01 * cost;
}

typedef struct search {
    const sgc_need *now;
    size_t available;
    sgc_need best;
    double cost;          /* of the best; 0: none yet */
} search;

static sgc_status consider(search *s, const sgc_need *other)
{
    size_t bytes[SGC_MEM_N_PURPOSES];
    const double cost = cost_of(s->now, other);
    if (s->cost > 0 && cost >= s->cost) return SGC_OK;
    sgc_status st = sgc_need_measure(other, bytes);
    if (st == SGC_OK && sum(bytes) <= s->available) {
        s->best = *other;
        s->cost = cost;
    }
    return st;
}

/* At this number of ranks: all stages from the present one, all divisors of the micro-batch, so that the global batch stays. */
static sgc_status consider_ranks(search *s, int n_ranks)
{
    sgc_status st = SGC_OK;
    const sgc_need *now = s->now;
    for (int stage = now->zero.stage; stage <= (n_ranks > 1 ? 3 : now->zero.stage); stage++)
        for (int checkpointing = now->checkpointing; checkpointing <= 1; checkpointing++)
            for (int64_t parts = 1; parts <= now->micro_batch; parts++) {
                if (now->micro_batch % parts != 0 || (now->zero.full_determinism && (parts & (parts - 1)) != 0)) continue;
                sgc_need other = *now;
                other.n_ranks = n_ranks;
                other.zero.stage = stage;
                other.checkpointing = checkpointing;
                other.micro_batch /= parts;
                other.zero.n_micro *= parts;
                SGC_TRY(consider(s, &other));
                if (other.eval_batch > other.micro_batch) {
                    other.eval_batch = other.micro_batch;
                    SGC_TRY(consider(s, &other));
                }
            }
done:
    return st;
}

enum { MOST_RANKS = 1 << 16 };

static sgc_status find_change(search *s)
{
    sgc_status st = SGC_OK;
    for (int n_ranks = s->now->n_ranks; s->cost == 0 && n_ranks <= MOST_RANKS; n_ranks *= 2) SGC_TRY(consider_ranks(s, n_ranks));
done:
    return st;
}

static void print_change(const search *s, sgc_str *out)
{
    const sgc_need *now = s->now, *then = &s->best;
    if (s->cost == 0) {
        sgc_str_printf(out, "no setting makes it fit: write a smaller model or a smaller data.block_size");
        return;
    }
    sgc_str_printf(out, "the smallest change that fits:");
    if (then->n_ranks != now->n_ranks) sgc_str_printf(out, " %d ranks", then->n_ranks);
    if (then->zero.stage != now->zero.stage) sgc_str_printf(out, " --zero.stage %d", then->zero.stage);
    if (then->checkpointing != now->checkpointing) sgc_str_printf(out, " --gradient_checkpointing true");
    if (then->micro_batch != now->micro_batch)
        sgc_str_printf(out, " --per_device_train_batch_size %lld --gradient_accumulation_steps %lld", (long long)then->micro_batch,
                       (long long)then->zero.n_micro);
    if (then->eval_batch != now->eval_batch) sgc_str_printf(out, " --per_device_eval_batch_size %lld", (long long)then->eval_batch);
}

sgc_status sgc_need_check(const sgc_need *n, size_t available)
{
    sgc_status st = SGC_OK;
    search s = {.now = n, .available = available};
    size_t bytes[SGC_MEM_N_PURPOSES];
    char text[32], more[32];
    sgc_str table = {0};
    SGC_TRY(sgc_need_measure(n, bytes));
    if (sum(bytes) <= available) goto done;
    SGC_TRY(find_change(&s));
    for (int p = 0; p < SGC_MEM_N_PURPOSES; p++)
        if (bytes[p] > 0) sgc_str_printf(&table, "\n    %-15s %12s", sgc_mem_name((sgc_mem_purpose)p), sgc_format_bytes((double)bytes[p], text));
    sgc_str_printf(&table, "\n    %-15s %12s", "together", sgc_format_bytes((double)sum(bytes), text));
    sgc_str_printf(&table, "\n    %-15s %12s\n  ", "free", sgc_format_bytes((double)available, text));
    print_change(&s, &table);
    st = sgc_err(SGC_ENOMEM, "the run does not fit into the memory of its device: %s of %s are missing%s",
                 sgc_format_bytes((double)(sum(bytes) - available), text), sgc_format_bytes((double)sum(bytes), more), table.text);
done:
    sgc_str_free(&table);
    return st;
}
