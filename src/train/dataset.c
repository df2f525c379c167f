#include "train/dataset_impl.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"

static const char *const tokenizer_names[] = {"byte"}; /* in the order of the choices of data.tokenizer */

typedef struct token_source {
    const char *file;              /* as configured: text or .h5                    */
    const sgc_tokenizer *tokenizer;
    char path[SGC_PATH_MAX];       /* the token file                                */
    bool is_prepared;              /* file is a token file itself                   */
    sgc_tokens *tokens;            /* [out]                                         */
} token_source;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool fits(const char *path, const token_source *s)
{
    char *files[] = {(char *)s->file};
    return sgc_path_exists(path) && sgc_tokens_fit(path, s->tokenizer, 1, files);
}

/* Where the token file of a text is kept: data.cache_dir, beside the text, or in output_dir if that place cannot be written. */
static sgc_status choose_path_local(const sgc_config *c, token_source *s)
{
    sgc_status st = SGC_OK;
    if (s->is_prepared) {
        if ((size_t)snprintf(s->path, sizeof(s->path), "%s", s->file) >= sizeof(s->path)) return sgc_err(SGC_EDATA, "the path %s is too long", s->file);
        return SGC_OK;
    }
    const char *slash = strrchr(s->file, '/'), *base = slash ? slash + 1 : s->file;
    sgc_str name = {0}, dir = {0};
    sgc_str_printf(&name, "%s.%s.h5", base, s->tokenizer->name);
    sgc_str_printf(&dir, "%.*s", slash ? (int)(slash - s->file) + 1 : 1, slash ? s->file : ".");
    if (access(s->file, R_OK) != 0) {
        st = sgc_err_errno(SGC_EDATA, "%s cannot be read", s->file);
        goto done;
    }
    if (c->data.cache_dir) {
        SGC_TRY(sgc_make_dirs(c->data.cache_dir));
        SGC_TRY(sgc_path_join(s->path, c->data.cache_dir, name.text));
        goto done;
    }
    SGC_TRY(sgc_path_join(s->path, dir.text, name.text));
    if (access(dir.text, W_OK) != 0 && !fits(s->path, s) && c->training.output_dir) {
        SGC_TRY(sgc_make_dirs(c->training.output_dir));
        SGC_TRY(sgc_path_join(s->path, c->training.output_dir, name.text));
    }
done:
    sgc_str_free(&name);
    sgc_str_free(&dir);
    return st;
}

static sgc_status prepare_and_open(void *arg, bool is_main)
{
    token_source *s = arg;
    sgc_status st = SGC_OK;
    if (is_main && !s->is_prepared) {
        if (fits(s->path, s)) {
            sgc_log_info("token file %s fits %s and is used again", s->path, s->file);
        } else {
            char *files[] = {(char *)s->file};
            sgc_log_info("making token file %s from %s", s->path, s->file);
            SGC_TRY(sgc_tokens_prepare(s->path, s->tokenizer, 1, files));
        }
    }
    SGC_TRY(sgc_tokens_open(s->tokens, s->path));
done:
    return st;
}

/* Collective. */
static sgc_status open_tokens(sgc_world *w, const sgc_config *c, const char *file, sgc_tokens *tokens)
{
    sgc_status st = SGC_OK;
    token_source s = {.file = file, .tokens = tokens, .is_prepared = ends_with(file, ".h5")};
    s.tokenizer = sgc_tokenizer_find(tokenizer_names[c->data.tokenizer]);
    if (w->rank == 0) st = choose_path_local(c, &s);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, s.path, sizeof(s.path), 0));
    sgc_str what = {0};
    sgc_str_printf(&what, "the token file %s", s.path);
    st = sgc_main_process_first(w, false, what.text, c->comm.progress_interval_s, prepare_and_open, &s);
    sgc_str_free(&what);
    if (st != SGC_OK && tokens->map) sgc_tokens_close(tokens);
done:
    return st;
}

static int64_t at_most(int64_t n, int64_t limit) { return limit > 0 && n > limit ? limit : n; }

/* The first validation_split_percentage percent of the training tokens are the validation part, in whole samples. */
static sgc_status divide(sgc_dataset *d, const sgc_config *c, bool need_train)
{
    const sgc_data_options *o = &c->data;
    int64_t block = o->block_size, n_validation = 0;
    if (d->has_train && !d->has_validation) {
        n_validation = d->train_tokens.n_tokens * o->validation_split_percentage / 100 / block;
        d->validation = (sgc_samples){&d->train_tokens, 0, at_most(n_validation, o->max_eval_samples), block};
    }
    if (d->has_validation)
        d->validation = (sgc_samples){&d->validation_tokens, 0, at_most(d->validation_tokens.n_tokens / block, o->max_eval_samples), block};
    if (d->has_train) {
        int64_t n = d->train_tokens.n_tokens / block - n_validation;
        if (need_train && n < 1)
            return sgc_err(SGC_EDATA, "data.train_file %s has %lld tokens, fewer than the %lld (data.block_size) of one sample: use more text or "
                           "a smaller data.block_size", o->train_file, (long long)d->train_tokens.n_tokens, (long long)block);
        d->train = (sgc_samples){&d->train_tokens, n_validation, at_most(n, o->max_train_samples), block};
    }
    bool evaluates = !need_train || c->training.evaluation_strategy != SGC_STRATEGY_NO;
    if (evaluates && d->validation.n < 1) {
        if (d->has_validation)
            return sgc_err(SGC_EDATA, "data.validation_file %s has %lld tokens, fewer than the %lld (data.block_size) of one sample", o->validation_file,
                           (long long)d->validation_tokens.n_tokens, (long long)block);
        return sgc_err(SGC_EDATA, "there is nothing to evaluate on: %lld %% (data.validation_split_percentage) of the %lld tokens of %s make no sample of "
                       "%lld tokens (data.block_size); give a validation_file or a larger share", (long long)o->validation_split_percentage,
                       (long long)d->train_tokens.n_tokens, o->train_file, (long long)block);
    }
    return SGC_OK;
}

static sgc_status check_vocabulary(sgc_dataset *d, const sgc_config *c)
{
    const sgc_tokens *train = &d->train_tokens, *validation = &d->validation_tokens, *any = d->has_train ? train : validation;
    if (d->has_train && d->has_validation && (strcmp(train->tokenizer, validation->tokenizer) != 0 || train->vocab_size != validation->vocab_size))
        return sgc_err(SGC_EDATA, "%s was made with tokenizer %s (%lld symbols), %s with %s (%lld symbols): prepare both with the same", train->path,
                       train->tokenizer, (long long)train->vocab_size, validation->path, validation->tokenizer, (long long)validation->vocab_size);
    d->vocab_size = any->vocab_size;
    if (c->model.vocab_size > 0 && c->model.vocab_size < d->vocab_size)
        return sgc_err(SGC_ECONFIG, "model.vocab_size is %lld, but %s has token ids up to %lld: set model.vocab_size to at least %lld, or to 0",
                       (long long)c->model.vocab_size, any->path, (long long)d->vocab_size - 1, (long long)d->vocab_size);
    return SGC_OK;
}

sgc_status sgc_dataset_open(sgc_dataset *d, sgc_world *w, const sgc_config *c, bool need_train)
{
    sgc_status st = SGC_OK;
    const sgc_data_options *o = &c->data;
    *d = (sgc_dataset){0};
    if (!o->train_file && !o->validation_file)
        return sgc_err(SGC_ECONFIG, "neither data.validation_file nor data.train_file is set: name the text to evaluate on");
    if (o->train_file && (need_train || !o->validation_file)) {
        SGC_TRY(open_tokens(w, c, o->train_file, &d->train_tokens));
        d->has_train = true;
    }
    if (o->validation_file) {
        SGC_TRY(open_tokens(w, c, o->validation_file, &d->validation_tokens));
        d->has_validation = true;
    }
    st = check_vocabulary(d, c);
    if (st == SGC_OK) st = divide(d, c, need_train);
    SGC_AGREE(w->all);
done:
    if (st != SGC_OK) sgc_dataset_close(d);
    return st;
}

void sgc_dataset_close(sgc_dataset *d)
{
    if (d->has_train) sgc_tokens_close(&d->train_tokens);
    if (d->has_validation) sgc_tokens_close(&d->validation_tokens);
    d->has_train = d->has_validation = false;
}

sgc_status sgc_sample_read(const sgc_samples *s, int64_t index, int32_t *out)
{
    return sgc_tokens_read(s->tokens, (s->first + index) * s->block, s->block, out);
}
