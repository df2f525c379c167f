/* The engine's memory: what each stage holds whole and what as a shard, and how it starts and ends. */
#include "zero/zero_impl.h"

#include <stdlib.h>
#include <string.h>

const char *const sgc_slot_path[SGC_N_SLOTS] = {"model", "optimizer/exp_avg", "optimizer/exp_avg_sq"};

static bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

static sgc_status check(const sgc_zero *z)
{
    if (!z->spec.full_determinism) return SGC_OK;
    int world = sgc_group_size(z->group);
    if (!is_power_of_two(world))
        return sgc_err(SGC_ECONFIG, "full_determinism needs a power-of-two number of ranks, this job has %d; start it with another number of ranks "
                       "or without --full_determinism", world);
    if (z->spec.reduce_type != SGC_F32)
        return sgc_err(SGC_ECONFIG, "full_determinism needs --comm.reduce_dtype fp32: what is rounded before it travels depends on the number of ranks");
    if (!z->spec.inference && !is_power_of_two(z->spec.n_micro))
        return sgc_err(SGC_ECONFIG, "full_determinism needs a power-of-two number of micro-batches per update, here it is %lld; change "
                       "--gradient_accumulation_steps", (long long)z->spec.n_micro);
    return SGC_OK;
}

static int64_t total_padded(const sgc_zero *z)
{
    int64_t n = 0;
    for (int i = 0; i < z->model->n_units; i++)
        n += z->units[i].flat.n_padded;
    return n;
}

static int64_t total_shard(const sgc_zero *z) { return total_padded(z) / sgc_group_size(z->group); }

/* Bytes of an element of each kind of state; inference has parameters only (and their master weights). */
static size_t value_bytes(const sgc_zero *z) { return sgc_dtype_bytes(sgc_zero_value_type(z)); }
static size_t gradient_bytes(const sgc_zero *z) { return z->spec.inference ? 0 : sgc_dtype_bytes(sgc_zero_gradient_type(z)); }
static size_t states_bytes(const sgc_zero *z) { return sizeof(float) * ((z->spec.inference ? 0 : 2) + (sgc_zero_has_masters(z) ? 1u : 0u)); }

/* Elements of a kind of state on this rank: whole, or a shard. */
static size_t n_held(const sgc_zero *z, bool sharded) { return (size_t)(sharded ? total_shard(z) : total_padded(z)); }

static size_t parameters_held(const sgc_zero *z) { return value_bytes(z) * n_held(z, sgc_zero_shards_parameters(z)); }
static size_t in_place_held(const sgc_zero *z)
{
    size_t n = 0;
    for (int i = 0; i < z->model->n_units && !z->spec.inference; i++) {
        const sgc_flat *f = &z->units[i].flat;
        if (sgc_zero_rounds_in_place(z, &z->units[i])) n += (size_t)(sgc_zero_shards_gradients(z) ? f->n_shard : f->n_padded);
    }
    return n * gradient_bytes(z);
}
static size_t gradients_held(const sgc_zero *z) { return gradient_bytes(z) * n_held(z, sgc_zero_shards_gradients(z)) - in_place_held(z); }
static size_t states_held(const sgc_zero *z) { return states_bytes(z) * n_held(z, sgc_zero_shards_states(z)); }

static size_t buffer_held(const sgc_zero *z)
{
    return z->training.buffer_bytes > z->evaluation.buffer_bytes ? z->training.buffer_bytes : z->evaluation.buffer_bytes;
}
static size_t partial_held(const sgc_zero *z) { return (size_t)(z->n_levels * total_shard(z)) * sizeof(float); }
static size_t sums_held(const sgc_zero_unit *u) { return (size_t)(u->flat.n_shard / SGC_FLAT_BLOCK) * sizeof(double); }

static sgc_status allocate(sgc_zero *z)
{
    sgc_status st = SGC_OK;
    sgc_device *d = z->device;
    z->parameters = sgc_device_alloc(d, SGC_MEM_PARAMETERS, parameters_held(z));
    z->optimizer = sgc_device_alloc(d, SGC_MEM_OPTIMIZER, states_held(z));
    z->buffer = sgc_device_alloc(d, SGC_MEM_COMM, buffer_held(z));
    if (!z->parameters || !z->optimizer || !z->buffer) return SGC_ENOMEM;
    if (z->spec.inference) return SGC_OK;
    z->gradient_memory = sgc_device_alloc(d, SGC_MEM_GRADIENTS, gradients_held(z));
    z->partial_memory = sgc_device_alloc(d, SGC_MEM_COMM, partial_held(z));
    if (!z->gradient_memory || !z->partial_memory) return SGC_ENOMEM;
    for (int i = 0; i < z->model->n_units; i++)
        SGC_TRY(sgc_mirror_make(&z->units[i].block_sums, d, SGC_MEM_COMM, sums_held(&z->units[i])));
done:
    return st;
}

/* What collectives read and write: registered once, where that helps. */
static void lend_memory(sgc_zero *z)
{
    if (!z->ops->lend) return;
    z->ops->lend(z->group, z->parameters, parameters_held(z));
    z->ops->lend(z->group, z->buffer, buffer_held(z));
    if (!z->spec.inference) z->ops->lend(z->group, z->gradient_memory, gradients_held(z));
}

static void free_memory(sgc_zero *z, void *p)
{
    if (z->ops->take_back) z->ops->take_back(z->group, p);
    sgc_device_free(z->device, p);
}

static void *take(char **from, int64_t n, size_t element_bytes)
{
    char *p = *from;
    *from += (size_t)n * element_bytes;
    return p;
}

/* A kept state of one unit: whole, with this rank's shard inside, or the shard alone. */
static void point(const sgc_zero *z, const sgc_zero_unit *u, bool sharded, sgc_dtype type, char **from, void **whole, void **shard)
{
    *whole = sharded ? NULL : take(from, u->flat.n_padded, sgc_dtype_bytes(type));
    *shard = sharded ? take(from, u->flat.n_shard, sgc_dtype_bytes(type)) : sgc_zero_part(z, u, *whole, type);
}

static void point_slot(const sgc_zero *z, sgc_zero_unit *u, sgc_slot slot, char **from)
{
    void *whole, *shard;
    point(z, u, sgc_zero_shards_states(z), SGC_F32, from, &whole, &shard);
    u->whole_slots[slot] = whole;
    u->slots[slot] = shard;
}

static void point_units(sgc_zero *z)
{
    char *parameters = z->parameters, *gradients = z->gradient_memory, *optimizer = z->optimizer, *partial = z->partial_memory;
    for (int i = 0; i < z->model->n_units; i++) {
        sgc_zero_unit *u = &z->units[i];
        point(z, u, sgc_zero_shards_parameters(z), sgc_zero_value_type(z), &parameters, &u->values, &u->value_shard);
        if (sgc_zero_has_masters(z)) {
            point_slot(z, u, SGC_SLOT_MODEL, &optimizer);
        } else {
            u->whole_slots[SGC_SLOT_MODEL] = u->values;
            u->slots[SGC_SLOT_MODEL] = u->value_shard;
        }
        if (z->spec.inference) continue;
        for (int slot = SGC_SLOT_EXP_AVG; slot < SGC_N_SLOTS; slot++)
            point_slot(z, u, slot, &optimizer);
        if (sgc_zero_rounds_in_place(z, u)) {
            void *sum = z->buffer + z->training.backflows[i].gradient_offset;
            u->whole_gradients = sgc_zero_shards_gradients(z) ? NULL : sum;
            u->gradient_shard = sgc_zero_part(z, u, sum, sgc_zero_gradient_type(z)); /* at the start of the own sum, or before it */
        } else {
            point(z, u, sgc_zero_shards_gradients(z), sgc_zero_gradient_type(z), &gradients, &u->whole_gradients, &u->gradient_shard);
        }
        if (!sgc_zero_pools_gradients(z)) u->gradients = u->whole_gradients;
        for (int k = 0; k < z->n_levels; k++)
            u->partial[k] = take(&partial, u->flat.n_shard, sizeof(float));
    }
}

/* Units and passes: sizes of everything, and no memory yet. */
static sgc_status lay_out(sgc_zero *z)
{
    sgc_status st = SGC_OK;
    const sgc_model *model = z->model;
    sgc_flat *flats = NULL;
    SGC_TRY(check(z));
    for (int64_t n = 1; z->spec.full_determinism && !z->spec.inference && n < z->spec.n_micro; n *= 2)
        z->n_levels++;
    z->units = calloc((size_t)model->n_units, sizeof(*z->units));
    flats = calloc((size_t)model->n_units, sizeof(*flats));
    int most_params = 0;
    for (int i = 0; i < model->n_units; i++)
        if (model->units[i].n_params > most_params) most_params = model->units[i].n_params;
    z->parts = calloc(2 * (size_t)most_params + 1, sizeof(*z->parts)); /* a tensor, and the gap before it */
    if (!z->units || !flats || !z->parts) {
        st = sgc_err(SGC_ENOMEM, "no memory for the engine's %d units", model->n_units);
        goto done;
    }
    for (int i = 0; i < model->n_units; i++) {
        flats[i] = sgc_flat_make(model->units[i].n, sgc_group_size(z->group));
        z->units[i] = (sgc_zero_unit){.unit = &model->units[i], .flat = flats[i]};
    }
    sgc_pass_spec pass = {.sharded_parameters = sgc_zero_shards_parameters(z), .pooled_gradients = sgc_zero_pools_gradients(z),
                          .prefetch = z->spec.prefetch_units, .value_bytes = value_bytes(z), .reduce_type = z->spec.reduce_type,
                          .reduce_times = sgc_group_size(z->group) > 1};
    SGC_TRY(sgc_pass_make(&z->evaluation, model, flats, &pass));
    if (!z->spec.inference) {
        pass.backward = true;
        SGC_TRY(sgc_pass_make(&z->training, model, flats, &pass));
    }
done:
    free(flats);
    return st;
}

/* Everything of sgc_zero_make that can fail on one rank alone. */
static sgc_status make_local(sgc_zero *z)
{
    sgc_status st = SGC_OK;
    SGC_TRY(lay_out(z));
    SGC_TRY(allocate(z));
    point_units(z);
done:
    return st;
}

sgc_status sgc_zero_measure(const sgc_model *model, sgc_device *device, int world, const sgc_zero_spec *spec, size_t bytes[SGC_MEM_N_PURPOSES])
{
    sgc_status st = SGC_OK;
    sgc_group *group = NULL;
    sgc_zero *z = calloc(1, sizeof(*z));
    if (!z) return sgc_err(SGC_ENOMEM, "no memory for the engine");
    SGC_TRY(sgc_group_null(&group, world, 0));
    *z = (sgc_zero){.model = model, .device = device, .group = group, .ops = sgc_group_ops(group), .spec = *spec};
    SGC_TRY(lay_out(z));
    memset(bytes, 0, SGC_MEM_N_PURPOSES * sizeof(*bytes));
    bytes[SGC_MEM_PARAMETERS] = parameters_held(z);
    bytes[SGC_MEM_OPTIMIZER] = states_held(z);
    bytes[SGC_MEM_COMM] = buffer_held(z);
    if (spec->inference) goto done;
    bytes[SGC_MEM_GRADIENTS] = gradients_held(z);
    bytes[SGC_MEM_COMM] += partial_held(z);
    for (int i = 0; i < model->n_units; i++)
        bytes[SGC_MEM_COMM] += sums_held(&z->units[i]);
done:
    sgc_zero_free(z);
    sgc_group_free(group);
    return st;
}

sgc_status sgc_zero_make(sgc_zero **out, const sgc_model *model, sgc_device *device, sgc_group *group, const sgc_zero_spec *spec)
{
    sgc_zero *z = calloc(1, sizeof(*z));
    sgc_status st = z ? SGC_OK : sgc_err(SGC_ENOMEM, "no memory for the engine");
    if (z) {
        *z = (sgc_zero){.model = model, .device = device, .group = group, .ops = sgc_group_ops(group), .spec = *spec};
        st = make_local(z);
    }
    SGC_AGREE(group);
    lend_memory(z);
    *out = z;
    z = NULL;
done:
    sgc_zero_free(z);
    return st;
}

void sgc_zero_free(sgc_zero *z)
{
    if (!z) return;
    for (int i = 0; z->units && i < z->model->n_units; i++) {
        z->ops->wait(&z->units[i].gather);
        z->ops->wait(&z->units[i].reduce);
        sgc_mirror_free(&z->units[i].block_sums, z->device);
    }
    sgc_pass_free(&z->training);
    sgc_pass_free(&z->evaluation);
    free_memory(z, z->parameters);
    free_memory(z, z->gradient_memory);
    free_memory(z, z->optimizer);
    free_memory(z, z->partial_memory);
    free_memory(z, z->buffer);
    free(z->units);
    free(z->parts);
    free(z);
}

sgc_flat sgc_zero_flat(const sgc_zero *z, int unit) { return z->units[unit].flat; }
float *sgc_zero_shard(sgc_zero *z, int unit, sgc_slot slot) { return z->units[unit].slots[slot]; }
bool sgc_zero_is_visible(const sgc_zero *z) { return z->device->ops->memory == NULL; }
sgc_device *sgc_zero_device(const sgc_zero *z) { return z->device; }

/* Collective: whole copies of slots 0 .. n_slots - 1 from the shards; all units travel together. */
static sgc_status spread_slots(sgc_zero *z, int n_slots)
{
    sgc_status st = SGC_OK;
    for (int slot = 0; slot < n_slots; slot++) {
        for (int i = 0; i < z->model->n_units; i++) {
            sgc_zero_unit *u = &z->units[i];
            if (u->whole_slots[slot]) SGC_TRY(z->ops->all_gather(z->group, SGC_F32, u->whole_slots[slot], u->flat.n_shard, &u->gather));
        }
        for (int i = 0; i < z->model->n_units; i++)
            SGC_TRY(z->ops->wait(&z->units[i].gather));
    }
done:
    return st;
}

/* Collective: parameters that are copies of master weights are rounded anew. */
static sgc_status round_values(sgc_zero *z)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < z->model->n_units && sgc_zero_has_masters(z); i++) {
        sgc_zero_unit *u = &z->units[i];
        z->device->ops->narrow(z->device, u->value_shard, u->slots[SGC_SLOT_MODEL], u->flat.n_shard);
        if (!sgc_zero_shards_parameters(z))
            SGC_TRY(z->ops->all_gather(z->group, sgc_zero_value_type(z), u->values, u->flat.n_shard, &u->gather));
    }
    for (int i = 0; i < z->model->n_units; i++)
        SGC_TRY(z->ops->wait(&z->units[i].gather));
done:
    return st;
}

enum { PIECE = 1 << 20 }; /* elements of a shard that go through the host's memory at once */

/* Initial weights of this rank's shard of a unit; piece: where the host makes them, NULL if it sees the shard. */
static sgc_status init_shard(sgc_zero *z, const sgc_zero_unit *u, uint64_t seed, float *piece)
{
    sgc_status st = SGC_OK;
    int64_t start = sgc_group_rank(z->group) * u->flat.n_shard, n;
    float *shard = u->slots[SGC_SLOT_MODEL];
    if (!piece) {
        sgc_unit_init_slice(u->unit, seed, start, u->flat.n_shard, shard);
        return SGC_OK;
    }
    for (int64_t i = 0; i < u->flat.n_shard; i += n) {
        n = u->flat.n_shard - i < PIECE ? u->flat.n_shard - i : PIECE;
        sgc_unit_init_slice(u->unit, seed, start + i, n, piece);
        SGC_TRY(sgc_device_write(z->device, shard + i, piece, (size_t)n * sizeof(*piece)));
    }
done:
    return st;
}

static sgc_status init_shards(sgc_zero *z, uint64_t seed)
{
    sgc_status st = SGC_OK;
    float *piece = NULL;
    if (!sgc_zero_is_visible(z) && !(piece = sgc_mem_alloc(SGC_MEM_DATA, PIECE * sizeof(*piece)))) return SGC_ENOMEM;
    for (int i = 0; i < z->model->n_units; i++)
        SGC_TRY(init_shard(z, &z->units[i], seed, piece));
done:
    sgc_mem_free(piece);
    return st;
}

sgc_status sgc_zero_init_weights(sgc_zero *z, uint64_t seed)
{
    sgc_status st = init_shards(z, seed);
    SGC_AGREE(z->group);
    SGC_TRY(spread_slots(z, SGC_SLOT_MODEL + 1)); /* the moments are zero everywhere */
    SGC_TRY(round_values(z));
done:
    return st;
}

sgc_status sgc_zero_loaded(sgc_zero *z)
{
    sgc_status st = SGC_OK;
    SGC_TRY(spread_slots(z, SGC_N_SLOTS));
    SGC_TRY(round_values(z));
done:
    return st;
}

sgc_zero_cost sgc_zero_formula(const sgc_zero *z)
{
    double P = (double)z->model->n_parameters, N = sgc_group_size(z->group), G = (double)z->spec.n_micro;
    struct { size_t bytes; bool is_sharded; } kinds[] = {
        {value_bytes(z), sgc_zero_shards_parameters(z)}, {gradient_bytes(z), sgc_zero_shards_gradients(z)}, {states_bytes(z), sgc_zero_shards_states(z)}};
    sgc_zero_cost cost = {0};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        *(kinds[i].is_sharded ? &cost.sharded_bytes : &cost.whole_bytes) += (double)kinds[i].bytes;
    cost.state_bytes = cost.whole_bytes * P + cost.sharded_bytes * P / N;
    double travels = sgc_zero_shards_parameters(z) ? 3 * G : sgc_zero_reduces_each(z) ? G + 1 : 2;
    cost.elements_per_update = travels * P * (N - 1) / N;
    return cost;
}

sgc_zero_cost sgc_zero_expected(const sgc_zero *z)
{
    double sent_by_stays = 0, N = sgc_group_size(z->group), G = (double)z->spec.n_micro, all = (double)total_padded(z);
    for (int i = 0; i < z->training.n_stays; i++)
        sent_by_stays += (double)z->units[z->training.stays[i].unit].flat.n_padded;
    double reduced = (sgc_zero_reduces_each(z) ? G : 1) * all;
    double gathered = sgc_zero_shards_parameters(z) ? G * sent_by_stays : all;
    return (sgc_zero_cost){.state_bytes = (double)(parameters_held(z) + gradients_held(z) + states_held(z)),
                           .in_place_bytes = (double)in_place_held(z),
                           .elements_per_update = (reduced + gathered) * (N - 1) / N};
}
