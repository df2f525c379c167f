/* Two small GPT-2 against PyTorch: losses, gradients, 20 updates (tests/golden/gpt2.h5, made by gpt2.py beside it). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/h5.h"
#include "base/mem.h"
#include "optim/optim.h"
#include "unit.h"
#include "zero/zero.h"

enum { N_UPDATES = 20, TRAIN_B = 4, NONE = -100 };

typedef struct golden {
    hid_t file, group;
    sgc_model *model;
    double smoothing;
    int64_t B, T;
} golden;

static void read_dataset(const golden *d, const char *name, hid_t type, int64_t n, void *out)
{
    hid_t dataset = H5Dopen2(d->group, name, H5P_DEFAULT);
    ck_assert_msg(dataset >= 0, "gpt2.h5 lacks %s", name);
    hid_t space = H5Dget_space(dataset);
    ck_assert_msg(H5Sget_simple_extent_npoints(space) == n, "%s has %lld elements, not %lld", name, (long long)H5Sget_simple_extent_npoints(space), (long long)n);
    ck_assert_int_ge(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out), 0);
    H5Sclose(space);
    H5Dclose(dataset);
}

static int64_t int_of(const golden *d, const char *name)
{
    int64_t value;
    ck_assert_msg(sgc_h5_get_int(d->group, name, &value) == SGC_OK, "%s", sgc_err_message());
    return value;
}

static double double_of(hid_t object, const char *name)
{
    double value;
    ck_assert_msg(sgc_h5_get_double(object, name, &value) == SGC_OK, "%s", sgc_err_message());
    return value;
}

static golden open_golden(const char *kind)
{
    golden d;
    char path[4096], activation[32];
    const char *source = getenv("srcdir"); /* set by make check */
    snprintf(path, sizeof(path), "%s/tests/golden/gpt2.h5", source ? source : ".");
    ck_assert_msg(sgc_h5_open(&d.file, path) == SGC_OK, "%s", sgc_err_message());
    d.group = H5Gopen2(d.file, kind, H5P_DEFAULT);
    ck_assert_int_eq(sgc_h5_get_text(d.group, "activation_function", activation, sizeof(activation)), SGC_OK);
    const bool is_untied = H5Aexists(d.group, "tie_word_embeddings") > 0, has_inner = H5Aexists(d.group, "n_inner") > 0;
    const sgc_model_options o = {.n_layer = int_of(&d, "n_layer"), .n_head = int_of(&d, "n_head"), .n_embd = int_of(&d, "n_embd"),
                                 .n_positions = int_of(&d, "n_positions"), .vocab_size = int_of(&d, "vocab_size"), .layer_norm_epsilon = 1e-5,
                                 .tie_word_embeddings = is_untied ? int_of(&d, "tie_word_embeddings") : true, .has_n_inner = has_inner,
                                 .n_inner = has_inner ? int_of(&d, "n_inner") : 0,
                                 .activation_function = strcmp(activation, "gelu_new") == 0 ? SGC_ACT_GELU_NEW : SGC_ACT_GELU};
    ck_assert(o.activation_function == SGC_ACT_GELU_NEW || strcmp(activation, "gelu") == 0);
    ck_assert_int_eq(sgc_model_make(&d.model, &o, 0), SGC_OK);
    d.smoothing = double_of(d.group, "label_smoothing");
    hid_t dataset = H5Dopen2(d.group, "tokens", H5P_DEFAULT), space = H5Dget_space(dataset);
    hsize_t shape[2];
    ck_assert_int_eq(H5Sget_simple_extent_dims(space, shape, NULL), 2);
    d.B = (int64_t)shape[0], d.T = (int64_t)shape[1];
    H5Sclose(space);
    H5Dclose(dataset);

    H5G_info_t tensors;
    int n_params = 0;
    for (int u = 0; u < d.model->n_units; u++)
        n_params += d.model->units[u].n_params;
    ck_assert_int_ge(H5Gget_info_by_name(d.group, "weights", &tensors, H5P_DEFAULT), 0);
    ck_assert_int_eq(n_params, (int)tensors.nlinks);
    return d;
}

static void close_golden(golden *d)
{
    sgc_model_free(d->model);
    H5Gclose(d->group);
    H5Fclose(d->file);
}

/* "weights" or "gradients" of a unit into its flat buffer of floats or doubles. */
static void read_unit(const golden *d, const char *what, const sgc_unit *u, void *flat, size_t element_bytes)
{
    char name[160];
    for (int k = 0; k < u->n_params; k++) {
        const sgc_param_spec *p = &u->params[k];
        snprintf(name, sizeof(name), "%s/%s", what, p->name);
        read_dataset(d, name, element_bytes == 8 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT, p->n, (char *)flat + (size_t)p->offset * element_bytes);
    }
}

/* Targets that count: labels but for the first of each row. */
static int64_t count_targets(const int32_t *labels, int64_t B, int64_t T)
{
    int64_t n = 0;
    for (int64_t i = 0; i < B * T; i++)
        n += i % T > 0 && labels[i] != NONE;
    return n;
}

static double sum(const double *x, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += x[i];
    return s;
}

static const double *losses_of(sgc_graph *g)
{
    const double *losses;
    ck_assert_int_eq(sgc_graph_losses(g, &losses), SGC_OK);
    return losses;
}

static double element(const void *x, int64_t i, size_t element_bytes)
{
    return element_bytes == 8 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void assert_near(const char *what, double got, double expected, double tolerance)
{
    ck_assert_msg(fabs(got - expected) <= tolerance * fabs(expected), "%s is %.9g, PyTorch has %.9g (relative difference %.1e)", what, got, expected,
                  fabs(got - expected) / fabs(expected));
}

static void assert_gradients(const golden *d, const char *where, void *const *gradients, size_t element_bytes, double tolerance)
{
    for (int i = 0; i < d->model->n_units; i++) {
        const sgc_unit *u = &d->model->units[i];
        void *expected = calloc((size_t)u->n, element_bytes);
        read_unit(d, "gradients", u, expected, element_bytes);
        for (int k = 0; k < u->n_params; k++) {
            const sgc_param_spec *p = &u->params[k];
            double difference = 0, norm = 0;
            for (int64_t e = p->offset; e < p->offset + p->n; e++) {
                const double want = element(expected, e, element_bytes), delta = element(gradients[i], e, element_bytes) - want;
                difference += delta * delta;
                norm += want * want;
            }
            ck_assert_msg(norm > 0 && sqrt(difference / norm) <= tolerance, "%s: gradient of %s is off by %.1e of its norm", where, p->name,
                          sqrt(difference / norm));
        }
        free(expected);
    }
}

static void check_model(const char *kind, const char *device_name, bool checkpointing, double loss_tolerance, double gradient_tolerance)
{
    golden d = open_golden(kind);
    const sgc_model *m = d.model;
    const int64_t n = d.B * d.T;
    int32_t *tokens = malloc((size_t)n * sizeof(*tokens)), *labels = malloc((size_t)n * sizeof(*labels));
    int64_t sample[8] = {0};
    char where[128];
    sgc_device device;
    read_dataset(&d, "tokens", H5T_NATIVE_INT32, n, tokens);
    read_dataset(&d, "labels", H5T_NATIVE_INT32, n, labels);
    const int64_t n_targets = count_targets(labels, d.B, d.T);
    ck_assert_int_eq(sgc_device_open(&device, device_name, false), SGC_OK);
    const size_t element_bytes = sgc_dtype_bytes(device.ops->wide);
    void **values = calloc((size_t)m->n_units, sizeof(*values)), **gradients = calloc((size_t)m->n_units, sizeof(*gradients));
    for (int u = 0; u < m->n_units; u++) {
        values[u] = sgc_mem_alloc(SGC_MEM_PARAMETERS, (size_t)m->units[u].n * element_bytes);
        gradients[u] = sgc_mem_alloc(SGC_MEM_GRADIENTS, (size_t)m->units[u].n * element_bytes);
        read_unit(&d, "weights", &m->units[u], values[u], element_bytes);
    }
    for (int mode = SGC_TRAIN; mode <= SGC_EVAL; mode++) {
        sgc_graph *g;
        const sgc_graph_spec spec = {.mode = (sgc_mode)mode, .B = d.B, .T = d.T, .checkpointing = mode == SGC_TRAIN && checkpointing,
                                     .label_smoothing = mode == SGC_TRAIN ? d.smoothing : 0};
        ck_assert_int_eq(sgc_graph_build(&g, m, &device, &spec), SGC_OK);
        void *arena = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sgc_graph_arena_bytes(g));
        sgc_graph_bind_arena(g, arena);
        for (int u = 0; u < m->n_units; u++)
            sgc_graph_bind_unit(g, u, values[u], mode == SGC_TRAIN ? gradients[u] : NULL, false);
        const sgc_batch batch = {.tokens = tokens, .labels = labels, .sample = mode == SGC_TRAIN ? sample : NULL, .scale = 1.0 / (double)n_targets};
        sgc_graph_bind_batch(g, &batch);
        for (int u = 0; u < m->n_units; u++)
            sgc_graph_forward(g, u);
        for (int u = m->n_units - 1; mode == SGC_TRAIN && u >= 0; u--)
            sgc_graph_backward(g, u);
        const char *name = mode == SGC_TRAIN ? "loss" : "eval_loss";
        snprintf(where, sizeof(where), "%s of the %s model on %s%s", name, kind, device_name, checkpointing ? " with recomputation" : "");
        assert_near(where, sum(losses_of(g), n) / (double)n_targets, double_of(d.group, name), loss_tolerance);
        if (mode == SGC_TRAIN) assert_gradients(&d, where, gradients, element_bytes, gradient_tolerance);
        sgc_graph_free(g);
        sgc_mem_free(arena);
    }
    for (int u = 0; u < m->n_units; u++) {
        sgc_mem_free(values[u]);
        sgc_mem_free(gradients[u]);
    }
    free(values);
    free(gradients);
    sgc_device_close(&device);
    free(tokens);
    free(labels);
    close_golden(&d);
}

static void check_both_models(const char *device, double loss_tolerance, double gradient_tolerance)
{
    for (int checkpointing = 0; checkpointing <= 1; checkpointing++) {
        check_model("tied", device, checkpointing, loss_tolerance, gradient_tolerance);
        check_model("untied", device, checkpointing, loss_tolerance, gradient_tolerance);
    }
}

START_TEST(losses_and_gradients_of_the_cpu_are_those_of_pytorch) { check_both_models("cpu", 1e-5, 1e-4); }
END_TEST

START_TEST(losses_and_gradients_of_the_reference_are_those_of_pytorch) { check_both_models("ref32", 1e-5, 1e-4); }
END_TEST

/* The file keeps gradients to 2^-17. */
START_TEST(losses_and_gradients_in_double_are_those_of_pytorch) { check_both_models("ref64", 1e-12, 6e-6); }
END_TEST

/* L2 norm of a slot of the whole model; only tensors that decay, or all. */
static double norm_of(sgc_zero *z, const sgc_model *m, sgc_slot slot, bool only_decay)
{
    double square = 0;
    for (int i = 0; i < m->n_units; i++)
        for (int k = 0; k < m->units[i].n_params; k++) {
            const sgc_param_spec *p = &m->units[i].params[k];
            const float *x = sgc_zero_shard(z, i, slot) + p->offset; /* one rank: its shard is the whole buffer */
            for (int64_t e = 0; e < p->n && (p->decay || !only_decay); e++)
                square += (double)x[e] * x[e];
        }
    return sqrt(square);
}

static void check_updates(const char *kind, const char *device_name, int stage, int64_t n_micro)
{
    golden d = open_golden(kind);
    const int64_t n = TRAIN_B * d.T, B = TRAIN_B / n_micro;
    int32_t *tokens = malloc((size_t)(N_UPDATES * n) * sizeof(*tokens)), *labels = malloc((size_t)(N_UPDATES * n) * sizeof(*labels));
    double losses[N_UPDATES], norms[N_UPDATES], rates[N_UPDATES];
    char where[160];
    sgc_device device;
    sgc_group *alone;
    sgc_zero *z;
    sgc_graph *g;
    read_dataset(&d, "training/tokens", H5T_NATIVE_INT32, N_UPDATES * n, tokens);
    read_dataset(&d, "training/labels", H5T_NATIVE_INT32, N_UPDATES * n, labels);
    read_dataset(&d, "training/losses", H5T_NATIVE_DOUBLE, N_UPDATES, losses);
    read_dataset(&d, "training/grad_norms", H5T_NATIVE_DOUBLE, N_UPDATES, norms);
    read_dataset(&d, "training/learning_rates", H5T_NATIVE_DOUBLE, N_UPDATES, rates);

    const sgc_training_options training = {.lr_scheduler_type = SGC_SCHEDULE_LINEAR, .learning_rate = 1e-3, .warmup_steps = 5};
    sgc_schedule schedule;
    ck_assert_int_eq(sgc_schedule_make(&schedule, &training, N_UPDATES), SGC_OK);
    ck_assert_int_eq(sgc_device_open(&device, device_name, false), SGC_OK);
    ck_assert_int_eq(sgc_group_null(&alone, 1, 0), SGC_OK);
    const sgc_zero_spec spec = {.stage = stage, .prefetch_units = 1, .n_micro = n_micro};
    ck_assert_int_eq(sgc_zero_make(&z, d.model, &device, alone, &spec), SGC_OK);
    for (int u = 0; u < d.model->n_units; u++)
        read_unit(&d, "weights", &d.model->units[u], sgc_zero_shard(z, u, SGC_SLOT_MODEL), sizeof(float));
    ck_assert_int_eq(sgc_zero_loaded(z), SGC_OK);
    const sgc_graph_spec shape = {.mode = SGC_TRAIN, .B = B, .T = d.T, .label_smoothing = d.smoothing};
    ck_assert_int_eq(sgc_graph_build(&g, d.model, &device, &shape), SGC_OK);
    void *arena = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sgc_graph_arena_bytes(g));
    sgc_graph_bind_arena(g, arena);

    for (int update = 0; update < N_UPDATES; update++) {
        const int64_t n_targets = count_targets(labels + update * n, TRAIN_B, d.T);
        int64_t sample[TRAIN_B] = {0};
        double loss = 0;
        sgc_exact square_sum;
        for (int64_t micro = 0; micro < n_micro; micro++) {
            const int64_t first = update * n + micro * B * d.T;
            const sgc_batch batch = {.tokens = tokens + first, .labels = labels + first, .sample = sample, .step = update, .scale = 1.0 / (double)n_targets};
            sgc_graph_bind_batch(g, &batch);
            ck_assert_int_eq(sgc_zero_train_micro(z, g, micro), SGC_OK);
            loss += sum(losses_of(g), B * d.T) / (double)n_targets;
        }
        ck_assert_int_eq(sgc_zero_finish_gradients(z, &square_sum), SGC_OK);
        const double norm = sqrt(sgc_exact_value(&square_sum));
        const sgc_adamw rule = {.learning_rate = sgc_schedule_at(&schedule, update), .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .t = update + 1,
                                .grad_scale = norm > 1.0 ? 1.0 / (norm + 1e-6) : 1.0};
        ck_assert_int_eq(sgc_zero_update(z, &rule, 0.1), SGC_OK);
        const double got[] = {loss, norm, rule.learning_rate}, expected[] = {losses[update], norms[update], rates[update]};
        for (int i = 0; i < 3; i++) {
            static const char *const names[] = {"loss", "gradient norm", "learning rate"};
            snprintf(where, sizeof(where), "%s of update %d of the %s model on %s, stage %d, %lld micro-batches", names[i], update + 1, kind, device_name,
                     stage, (long long)n_micro);
            assert_near(where, got[i], expected[i], i < 2 ? 1e-4 : 1e-14);
        }
    }
    hid_t end = H5Gopen2(d.group, "training", H5P_DEFAULT);
    assert_near("norm of the decayed weights", norm_of(z, d.model, SGC_SLOT_MODEL, true), double_of(end, "weight_norm"), 1e-6);
    assert_near("norm of exp_avg", norm_of(z, d.model, SGC_SLOT_EXP_AVG, false), double_of(end, "exp_avg_norm"), 1e-4);
    assert_near("norm of exp_avg_sq", norm_of(z, d.model, SGC_SLOT_EXP_AVG_SQ, false), double_of(end, "exp_avg_sq_norm"), 2e-4);
    H5Gclose(end);
    sgc_graph_free(g);
    sgc_mem_free(arena);
    sgc_zero_free(z);
    sgc_group_free(alone);
    sgc_device_close(&device);
    free(tokens);
    free(labels);
    close_golden(&d);
}

START_TEST(twenty_updates_follow_pytorch)
{
    for (int stage = 0; stage <= 3; stage++) {
        check_updates("tied", "cpu", stage, 1);
        check_updates("untied", "cpu", stage, 1);
    }
}
END_TEST

START_TEST(twenty_updates_in_micro_batches_follow_pytorch)
{
    for (int stage = 0; stage <= 3; stage++) {
        check_updates("tied", "cpu", stage, 2);
        check_updates("untied", "cpu", stage, 4); /* labels are spread unevenly over the micro-batches */
    }
}
END_TEST

START_TEST(twenty_updates_of_the_reference_follow_pytorch)
{
    check_updates("tied", "ref32", 0, 1);
    check_updates("untied", "ref32", 3, 2);
}
END_TEST

UNIT_MAIN("golden", losses_and_gradients_of_the_cpu_are_those_of_pytorch, losses_and_gradients_of_the_reference_are_those_of_pytorch,
          losses_and_gradients_in_double_are_those_of_pytorch, twenty_updates_follow_pytorch, twenty_updates_in_micro_batches_follow_pytorch,
          twenty_updates_of_the_reference_follow_pytorch)
