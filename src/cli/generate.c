/* stagecoach generate: continue a text. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"

static const struct option options[] = {
    {"prompt", required_argument, NULL, 'p'},
    {"prompt_file", required_argument, NULL, 'f'},
    {"max_new_tokens", required_argument, NULL, 'n'},
    {"temperature", required_argument, NULL, 't'},
    {"top_k", required_argument, NULL, 'k'},
    {"top_p", required_argument, NULL, 'P'},
    {"eos_token_id", required_argument, NULL, 'e'},
    {"seed", required_argument, NULL, 's'},
    {NULL, 0, NULL, 0},
};

sgc_status sgc_cli_generate_help(const char *group)
{
    if (group) return sgc_err(SGC_ECONFIG, "generate has no groups of settings");
    printf("Usage: stagecoach generate CHECKPOINT (--prompt TEXT | --prompt_file FILE | -) [--key value ...]\n"
           "Continue a text with the model of a checkpoint. Standard output carries the text only: the prompt and what follows.\n\n"
           "  --prompt TEXT         the text to continue\n"
           "  --prompt_file FILE    a file that holds it; - is standard input\n"
           "  --max_new_tokens N    length of the continuation (default 100); where it outgrows the\n"
           "                        context (n_positions), the model forgets the older half of it\n"
           "  --temperature X       below 1 likely tokens become likelier; 0 takes the most likely one each time (default 1)\n"
           "  --top_k N             choose among the N most likely tokens; 0: all (default 50)\n"
           "  --top_p X             choose among the most likely tokens that together reach probability X (default 1: all)\n"
           "  --eos_token_id N      end when this token comes\n"
           "  --seed N              the same seed gives the same text (default 42)\n");
    return SGC_OK;
}

static sgc_status parse_int(const char *name, const char *text, int64_t min, int64_t max, int64_t *value)
{
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (end == text || *end || errno || x < min || x > max)
        return sgc_err(SGC_ECONFIG, "--%s %s: write a whole number from %lld to %lld", name, text, (long long)min, (long long)max);
    *value = x;
    return SGC_OK;
}

static sgc_status parse_float(const char *name, const char *text, double min, double max, double *value)
{
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !(x >= min && x <= max)) return sgc_err(SGC_ECONFIG, "--%s %s: write a number from %g to %g", name, text, min, max);
    *value = x;
    return SGC_OK;
}

typedef struct request {
    const char *checkpoint, *prompt, *prompt_file;
    sgc_generate_options o;
} request;

static sgc_status parse(request *r, int argc, char **argv)
{
    sgc_status st = SGC_OK;
    int64_t seed = 42;
    int c, index;
    r->o = (sgc_generate_options){.max_new_tokens = 100, .temperature = 1, .top_k = 50, .top_p = 1, .eos_token_id = -1};
    optind = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", options, &index)) != -1) {
        const char *name = c == ':' || c == '?' ? NULL : options[index].name;
        switch (c) {
        case 'p': r->prompt = optarg; break;
        case 'f': r->prompt_file = optarg; break;
        case 'n': SGC_TRY(parse_int(name, optarg, 1, INT64_MAX / 2, &r->o.max_new_tokens)); break;
        case 't': SGC_TRY(parse_float(name, optarg, 0, 1e6, &r->o.temperature)); break;
        case 'k': SGC_TRY(parse_int(name, optarg, 0, INT32_MAX, &r->o.top_k)); break;
        case 'P': SGC_TRY(parse_float(name, optarg, 0, 1, &r->o.top_p)); break;
        case 'e': SGC_TRY(parse_int(name, optarg, 0, INT32_MAX, &r->o.eos_token_id)); break;
        case 's': SGC_TRY(parse_int(name, optarg, 0, INT64_MAX, &seed)); break;
        case ':': return sgc_err(SGC_ECONFIG, "%s needs a value; see stagecoach generate --help", argv[optind - 1]);
        default: return sgc_cli_unknown_option("generate", options, argv[optind - 1]);
        }
    }
    r->o.seed = (uint64_t)seed;
    if (optind >= argc) return sgc_err(SGC_ECONFIG, "generate needs a checkpoint: stagecoach generate runs/x/checkpoint-500 --prompt TEXT");
    r->checkpoint = argv[optind++];
    if (optind < argc && strcmp(argv[optind], "-") == 0 && !r->prompt_file) r->prompt_file = argv[optind++];
    if (optind < argc) return sgc_err(SGC_ECONFIG, "generate does not know what to do with %s; quote the prompt, or see stagecoach generate --help", argv[optind]);
    if (!r->prompt == !r->prompt_file) return sgc_err(SGC_ECONFIG, "give the prompt by one of --prompt TEXT, --prompt_file FILE, or - for standard input");
done:
    return st;
}

static sgc_status read_stream(FILE *in, const char *name, sgc_str *text)
{
    char buffer[4096];
    size_t n;
    while ((n = fread(buffer, 1, sizeof(buffer), in)) > 0)
        sgc_str_append(text, buffer, n);
    return ferror(in) ? sgc_err_errno(SGC_EDATA, "%s cannot be read", name) : SGC_OK;
}

/* The newline that ends a file is not part of the prompt. */
static sgc_status read_prompt_local(const request *r, sgc_str *text)
{
    sgc_status st = SGC_OK;
    if (r->prompt) {
        sgc_str_append(text, r->prompt, strlen(r->prompt));
        return SGC_OK;
    }
    if (strcmp(r->prompt_file, "-") == 0) {
        SGC_TRY(read_stream(stdin, "standard input", text));
    } else {
        FILE *in = fopen(r->prompt_file, "re");
        if (!in) return sgc_err_errno(SGC_EDATA, "%s cannot be read", r->prompt_file);
        st = read_stream(in, r->prompt_file, text);
        fclose(in);
        if (st != SGC_OK) goto done;
    }
    if (text->n > 0 && text->text[text->n - 1] == '\n') text->text[--text->n] = '\0';
done:
    return st;
}

sgc_status sgc_cli_generate(sgc_world *w, int argc, char **argv, sgc_outcome *outcome)
{
    sgc_status st = SGC_OK;
    request r = {0};
    sgc_str text = {0};
    char *prompt = NULL;
    *outcome = SGC_COMPLETED;
    sgc_log_set_level(SGC_LOG_WARNING); /* an answer is wanted, not a report */
    st = parse(&r, argc, argv);
    SGC_AGREE(w->all);
    if (w->rank == 0) st = read_prompt_local(&r, &text);
    SGC_AGREE(w->all);
    int64_t n = (int64_t)text.n;
    SGC_TRY(sgc_bcast_bytes(w->all, &n, sizeof(n), 0));
    if (!(prompt = calloc((size_t)n + 1, 1))) st = sgc_err(SGC_ENOMEM, "no memory for the prompt");
    SGC_AGREE(w->all);
    if (text.n > 0) memcpy(prompt, text.text, text.n);
    SGC_TRY(sgc_bcast_bytes(w->all, prompt, n, 0));
    r.o.prompt = prompt;
    r.o.prompt_bytes = (size_t)n;
    SGC_TRY(sgc_generate(w, r.checkpoint, &r.o));
done:
    sgc_str_free(&text);
    free(prompt);
    return st;
}
