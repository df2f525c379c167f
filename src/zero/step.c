/* One update: units are gathered ahead, run, released behind; gradients leave as soon as they are whole; shards are updated. */
#include "zero/zero_impl.h"

#include <math.h>

#include "base/trace.h"

/*
 * Between the calls of a unit: messages move only while the library of messages is called. About every millisecond they keep up. Where a call
 * is dear, because the library yields the core to another process, calls are made so seldom that they take a tenth of the time.
 */
static void let_messages_move(void *arg)
{
    sgc_zero *z = arg;
    double start_s = sgc_time_s();
    if (start_s < z->next_progress_s) return;
    bool any = z->ops->progress && z->ops->progress(z->group);
    if (z->aside && z->aside(z->aside_arg)) any = true;
    if (!any) return;
    double end_s = sgc_time_s(), pause_s = 9 * (end_s - start_s);
    z->next_progress_s = end_s + (pause_s > 1e-3 ? pause_s : 1e-3);
    sgc_trace_wait("progress", start_s);
}

void sgc_zero_bind_aside(sgc_zero *z, bool (*call)(void *arg), void *arg)
{
    z->aside = call;
    z->aside_arg = arg;
}

static bool needs_progress(const sgc_zero *z) { return (z->ops->progress || z->aside) && sgc_group_size(z->group) > 1; }
static void bind_progress(sgc_zero *z, sgc_graph *g) { sgc_graph_bind_between(g, needs_progress(z) ? let_messages_move : NULL, z); }

/* Stage 3: start the gathers of this time. The own part goes into its place first. */
static sgc_status start_stays(sgc_zero *z, const sgc_pass *p, int time)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < p->n_stays && p->stays[i].start <= time; i++) {
        if (p->stays[i].start != time) continue;
        sgc_zero_unit *u = &z->units[p->stays[i].unit];
        sgc_dtype type = sgc_zero_value_type(z);
        u->values = z->buffer + p->stays[i].offset;
        sgc_device_copy(z->device, sgc_zero_part(z, u, u->values, type), u->value_shard, (size_t)u->flat.n_shard * sgc_dtype_bytes(type));
        SGC_TRY(z->ops->all_gather(z->group, type, u->values, u->flat.n_shard, &u->gather));
    }
done:
    return st;
}

static void end_stays(sgc_zero *z, const sgc_pass *p, int time)
{
    for (int i = 0; i < p->n_stays && p->stays[i].start <= time; i++)
        if (p->stays[i].last == time) z->units[p->stays[i].unit].values = NULL;
}

/* Before unit `index` runs: its parameters, and those that it borrows, are here. */
static sgc_status bind(sgc_zero *z, sgc_graph *g, int index, bool backward)
{
    sgc_status st = SGC_OK;
    const int owners[2] = {index, z->model->units[index].borrows};
    for (int i = 0; i < 2; i++) {
        if (owners[i] < 0) continue;
        sgc_zero_unit *u = &z->units[owners[i]];
        if (sgc_graph_reads(g, backward, index, owners[i])) SGC_TRY(z->ops->wait(&u->gather));
        sgc_graph_bind_unit(g, owners[i], u->values, u->gradients, u->fresh);
    }
done:
    return st;
}

sgc_status sgc_zero_forward(sgc_zero *z, sgc_graph *g)
{
    sgc_status st = SGC_OK;
    const sgc_pass *p = &z->evaluation;
    bind_progress(z, g);
    for (int time = 0; time < p->n_times; time++) {
        SGC_TRY(start_stays(z, p, time));
        SGC_TRY(bind(z, g, time, false));
        sgc_graph_forward(g, time);
        end_stays(z, p, time);
    }
done:
    return st;
}

/* Alignment gaps and padding, which no call writes. */
static void clear_gaps(const sgc_zero *z, const sgc_zero_unit *u)
{
    int64_t end = 0;
    for (int k = 0; k <= u->unit->n_params; k++) {
        int64_t next = k < u->unit->n_params ? u->unit->params[k].offset : u->flat.n_padded;
        sgc_device_clear(z->device, u->gradients + end, (size_t)(next - end) * sizeof(float));
        if (k < u->unit->n_params) end = next + u->unit->params[k].n;
    }
}

/* Before the first call of a pass that adds to a unit's gradients. fresh: of the first micro-batch that they collect. */
static void open_gradients(sgc_zero *z, int time, bool fresh)
{
    for (int i = 0; i < z->model->n_units; i++) {
        sgc_zero_unit *u = &z->units[i];
        const sgc_backflow *b = &z->training.backflows[i];
        if (b->first != time) continue;
        if (sgc_zero_pools_gradients(z)) u->gradients = (float *)(z->buffer + b->gradient_offset);
        u->fresh = fresh;
        if (fresh) clear_gaps(z, u);
    }
}

static sgc_status start_reductions(sgc_zero *z, int time)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < z->model->n_units; i++) {
        sgc_zero_unit *u = &z->units[i];
        const sgc_backflow *b = &z->training.backflows[i];
        if (b->last != time) continue;
        void *travels = u->gradients;
        if (z->spec.reduce_type != SGC_F32) {
            double start_s = sgc_trace_now();
            travels = z->buffer + b->rounded_offset;
            z->device->ops->narrow(z->device, travels, u->gradients, u->flat.n_padded);
            sgc_trace_work("round_gradient", u->unit->name, start_s, 0, 6 * (double)u->flat.n_padded);
        }
        SGC_TRY(z->ops->reduce_scatter(z->group, z->spec.reduce_type, travels, sgc_zero_part(z, u, u->gradients, SGC_F32), z->buffer + b->scratch_offset,
                                       u->flat.n_shard, &u->reduce));
    }
done:
    return st;
}

/*
 * The reduced gradient of one micro-batch joins those before it. In full_determinism they meet along a binary tree: partial[k] holds the
 * sum of 2^k micro-batches, and adding one carries like a binary counter. Else they are added one after the other; stages 0 and 1
 * have already done so in the whole gradient.
 */
static void collect(sgc_zero *z, sgc_zero_unit *u, int64_t micro)
{
    float *part = sgc_zero_part(z, u, u->gradients, SGC_F32);
    int64_t n = u->flat.n_shard;
    size_t bytes = (size_t)n * sizeof(float);
    if (z->spec.full_determinism) {
        int level = 0;
        for (; (micro >> level) & 1; level++)
            z->device->ops->add_into(z->device, part, u->partial[level], n);
        void *sum = micro + 1 == z->spec.n_micro ? u->gradient_shard : (void *)u->partial[level];
        if (sum != part) sgc_device_copy(z->device, sum, part, bytes);
    } else if (sgc_zero_rounds_gradients(z)) {
        z->device->ops->narrow(z->device, u->gradient_shard, part, n);
    } else if (sgc_zero_shards_gradients(z)) {
        if (micro == 0)
            sgc_device_copy(z->device, u->gradient_shard, part, bytes);
        else
            z->device->ops->add_into(z->device, u->gradient_shard, part, n);
    }
}

/* The norm's part of a finished gradient, while it is still in the cache. */
static void sum_squares(sgc_zero *z, sgc_zero_unit *u)
{
    z->device->ops->block_square_sums(z->device, u->block_sums.device, u->gradient_shard, sgc_zero_gradient_type(z), u->flat.n_shard, SGC_FLAT_BLOCK);
    sgc_mirror_pull(&u->block_sums, z->device, 0, u->block_sums.bytes);
}

/* What collect and sum_squares touch: the norm alone reads the shard once; otherwise it is read, and written or added to. */
static double collected_bytes(const sgc_zero *z, const sgc_zero_unit *u)
{
    bool moves = z->spec.full_determinism || sgc_zero_rounds_gradients(z) || sgc_zero_shards_gradients(z);
    return (double)u->flat.n_shard * ((moves ? sizeof(float) : 0) + (double)sgc_dtype_bytes(sgc_zero_gradient_type(z)));
}

/* Finish the reductions that were started at a time, and let pooled gradients go. */
static sgc_status end_reductions(sgc_zero *z, int time, int64_t micro)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < z->model->n_units; i++) {
        sgc_zero_unit *u = &z->units[i];
        if (z->training.backflows[i].last != time) continue;
        SGC_TRY(z->ops->wait(&u->reduce));
        double start_s = sgc_trace_now();
        collect(z, u, micro);
        if (micro + 1 == z->spec.n_micro) sum_squares(z, u);
        sgc_trace_work("collect_gradient", u->unit->name, start_s, 0, collected_bytes(z, u));
        if (sgc_zero_pools_gradients(z)) u->gradients = NULL;
    }
done:
    return st;
}

sgc_status sgc_zero_train_micro(sgc_zero *z, sgc_graph *g, int64_t micro)
{
    sgc_status st = SGC_OK;
    const sgc_pass *p = &z->training;
    bind_progress(z, g);
    bool reduces = sgc_zero_reduces_each(z) || micro + 1 == z->spec.n_micro;
    bool fresh = sgc_zero_reduces_each(z) || micro == 0;
    for (int time = 0; time < p->n_times; time++) {
        int unit = sgc_pass_unit(p, time);
        bool backward = sgc_pass_is_backward(p, time);
        SGC_TRY(start_stays(z, p, time));
        if (backward) open_gradients(z, time, fresh);
        SGC_TRY(bind(z, g, unit, backward));
        if (backward)
            sgc_graph_backward(g, unit);
        else
            sgc_graph_forward(g, unit);
        end_stays(z, p, time);
        if (z->aside && sgc_group_size(z->group) > 1) let_messages_move(z); /* a unit that a device repeats from a recording makes no calls in between */
        if (!backward || !reduces) continue;
        SGC_TRY(start_reductions(z, time));
        SGC_TRY(end_reductions(z, time - p->reduce_times, micro));
    }
    if (reduces && p->reduce_times > 0) SGC_TRY(end_reductions(z, p->n_times - 1, micro));
done:
    return st;
}

sgc_status sgc_zero_finish_gradients(sgc_zero *z, sgc_exact *square_sum)
{
    sgc_status st = SGC_OK;
    /* Stage 0 updates everything on every rank, from gradients that are whole again. */
    for (int i = 0; i < z->model->n_units && !sgc_zero_shards_states(z); i++) {
        sgc_zero_unit *u = &z->units[i];
        SGC_TRY(z->ops->all_gather(z->group, sgc_zero_gradient_type(z), u->whole_gradients, u->flat.n_shard, &u->reduce));
    }
    sgc_exact_zero(square_sum);
    for (int i = z->model->n_units - 1; i >= 0; i--) { /* as they became ready */
        sgc_zero_unit *u = &z->units[i];
        const double *sums = u->block_sums.host;
        SGC_TRY(sgc_mirror_wait(&u->block_sums, z->device));
        for (int64_t b = 0; b < u->flat.n_shard / SGC_FLAT_BLOCK; b++)
            sgc_exact_add(square_sum, sums[b]);
    }
done:
    return st;
}

enum { PIECE = 1 << 18 }; /* elements that the host looks at at once */

static bool is_finite(sgc_dtype type, const void *x, int64_t i)
{
    float f;
    sgc_dtype_unpack(type, (const char *)x + (size_t)i * sgc_dtype_bytes(type), 1, &f);
    return isfinite(f);
}

sgc_status sgc_zero_nonfinite(sgc_zero *z, const sgc_param_spec **tensor)
{
    sgc_status st = SGC_OK;
    sgc_dtype type = sgc_zero_gradient_type(z);
    size_t element_bytes = sgc_dtype_bytes(type);
    *tensor = NULL;
    char *piece = sgc_mem_alloc(SGC_MEM_DATA, PIECE * element_bytes);
    if (!piece) return SGC_ENOMEM;
    for (int i = 0; i < z->model->n_units && !*tensor; i++) {
        const sgc_zero_unit *u = &z->units[i];
        for (int64_t first = 0, n; first < u->flat.n_shard && !*tensor; first += n) {
            n = u->flat.n_shard - first < PIECE ? u->flat.n_shard - first : PIECE;
            SGC_TRY(sgc_device_read(z->device, piece, (const char *)u->gradient_shard + (size_t)first * element_bytes, (size_t)n * element_bytes));
            int64_t e = 0;
            while (e < n && is_finite(type, piece, e))
                e++;
            if (e < n) *tensor = sgc_unit_param_at(u->unit, sgc_group_rank(z->group) * u->flat.n_shard + first + e);
        }
    }
done:
    sgc_mem_free(piece);
    return st;
}

sgc_status sgc_zero_drop_gradients(sgc_zero *z)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < z->model->n_units; i++)
        SGC_TRY(z->ops->wait(&z->units[i].reduce));
done:
    return st;
}

/* What an update of one range of a unit works on; pointers are to the first element of the range. */
typedef struct range {
    int64_t first, n;         /* in the flat buffer                                    */
    void *values;             /* NULL: the states are the parameters                    */
    float *p, *m, *v;
    const void *gradients;
} range;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* The parts of a range of a unit: tensors that follow each other and have the same kind of update, and the gaps between them. */
static int parts_of(const sgc_unit *u, const range *r, sgc_update_part *parts)
{
    int n = 0;
    int64_t end = 0; /* of the parts so far, from the beginning of the range */
    for (int k = 0; k < u->n_params; k++) {
        const sgc_param_spec *t = &u->params[k];
        const int64_t from = t->offset > r->first ? t->offset - r->first : 0, to = smaller(t->offset + t->n - r->first, r->n);
        const sgc_update kind = t->decay ? SGC_UPDATE_WITH_DECAY : SGC_UPDATE;
        if (from >= to) continue;
        if (from > end) parts[n++] = (sgc_update_part){end, SGC_UPDATE_NONE};
        if (n == 0 || parts[n - 1].kind != kind) parts[n++] = (sgc_update_part){from, kind};
        end = to;
    }
    if (end < r->n) parts[n++] = (sgc_update_part){end, SGC_UPDATE_NONE};
    return n;
}

sgc_status sgc_zero_update(sgc_zero *z, const sgc_adamw *rule, double weight_decay)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < z->model->n_units; i++) {
        sgc_zero_unit *u = &z->units[i];
        float *const *s = sgc_zero_shards_states(z) ? u->slots : u->whole_slots;
        range r = {.p = s[SGC_SLOT_MODEL], .m = s[SGC_SLOT_EXP_AVG], .v = s[SGC_SLOT_EXP_AVG_SQ]};
        if (sgc_zero_shards_states(z)) {
            r.first = sgc_group_rank(z->group) * u->flat.n_shard;
            r.n = u->flat.n_shard;
            r.gradients = u->gradient_shard;
            if (sgc_zero_has_masters(z)) r.values = u->value_shard;
        } else {
            SGC_TRY(z->ops->wait(&u->reduce));
            r.n = u->flat.n_padded;
            r.gradients = u->whole_gradients;
            if (sgc_zero_has_masters(z)) r.values = u->values;
        }
        double start_s = sgc_trace_now(), n_bytes = 6 * sizeof(float) + (double)sgc_dtype_bytes(sgc_zero_gradient_type(z));
        if (r.values) n_bytes += (double)sgc_dtype_bytes(sgc_zero_value_type(z));
        z->device->ops->adamw(z->device, r.values, r.p, r.m, r.v, r.gradients, sgc_zero_gradient_type(z), r.n, z->parts, parts_of(u->unit, &r, z->parts), weight_decay,
                              rule);
        sgc_trace_work("adamw", u->unit->name, start_s, 0, n_bytes * (double)r.n);
        if (needs_progress(z)) let_messages_move(z);
        /* Where whole parameters are kept, the next pass waits for them unit by unit. */
        if (sgc_zero_shards_states(z) && !sgc_zero_shards_parameters(z))
            SGC_TRY(z->ops->all_gather(z->group, sgc_zero_value_type(z), u->values, u->flat.n_shard, &u->gather));
    }
done:
    return st;
}
