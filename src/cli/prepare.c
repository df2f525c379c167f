/* stagecoach prepare: text files to one token file. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "data/data.h"

static const struct option options[] = {
    {"tokenizer", required_argument, NULL, 't'},
    {"output", required_argument, NULL, 'o'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    printf("Usage: stagecoach prepare [--tokenizer NAME] --output FILE.h5 TEXT...\n"
           "Make one token file from text files; each is one document. - is standard input.\n\n"
           "  -o, --output FILE.h5    the token file; replaced when it is there, its directory is made when it is not\n"
           "  -t, --tokenizer NAME    how text becomes tokens (default byte); one of:");
    const sgc_tokenizer *t;
    for (int i = 0; (t = sgc_tokenizer_at(i)); i++)
        printf(" %s (%lld symbols)", t->name, (long long)t->vocab_size);
    printf("\n  -h, --help              this text\n\n"
           "Then: stagecoach train --data.train_file FILE.h5 ...\n");
}

static sgc_status unknown_tokenizer(const char *name)
{
    sgc_str names = {0};
    const sgc_tokenizer *t;
    for (int i = 0; (t = sgc_tokenizer_at(i)); i++)
        sgc_str_printf(&names, "%s%s", i ? ", " : "", t->name);
    sgc_status st = sgc_err(SGC_ECONFIG, "unknown tokenizer '%s'; there is: %s", name, names.text);
    sgc_str_free(&names);
    return st;
}

typedef struct request {
    const sgc_tokenizer *tokenizer;
    const char *output;
    int n_files;
    char **files;
    bool help;
} request;

static sgc_status parse(request *r, int argc, char **argv)
{
    static char standard_input[] = "/dev/stdin";
    int n_standard_input = 0, c;
    r->tokenizer = sgc_tokenizer_find("byte");
    optind = 0; /* main has parsed its own arguments */
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":o:t:h", options, NULL)) != -1) {
        const char letter[] = {'-', (char)optopt, '\0'};
        switch (c) {
        case 't':
            if (!(r->tokenizer = sgc_tokenizer_find(optarg))) return unknown_tokenizer(optarg);
            break;
        case 'o':
            r->output = optarg;
            break;
        case 'h':
            r->help = true;
            return SGC_OK;
        case ':':
            return sgc_err(SGC_ECONFIG, "%s needs a value; see stagecoach prepare --help", argv[optind - 1]);
        default:
            return sgc_cli_unknown_option("prepare", options, optopt && strncmp(argv[optind - 1], "--", 2) != 0 ? letter : argv[optind - 1]);
        }
    }
    r->n_files = argc - optind;
    r->files = argv + optind;
    if (!r->output) return sgc_err(SGC_ECONFIG, "prepare needs --output FILE.h5; see stagecoach prepare --help");
    if (r->n_files == 0) return sgc_err(SGC_ECONFIG, "prepare needs the names of text files, or - for standard input");
    for (int i = 0; i < r->n_files; i++)
        if (strcmp(r->files[i], "-") == 0) {
            if (n_standard_input++) return sgc_err(SGC_ECONFIG, "standard input (-) can be read only once");
            r->files[i] = standard_input;
        }
    return SGC_OK;
}

int sgc_cli_prepare(int argc, char **argv)
{
    sgc_status st = SGC_OK;
    request r = {0};
    sgc_tokens tokens;
    SGC_TRY(parse(&r, argc, argv));
    if (r.help) {
        print_help();
        return SGC_EXIT_OK;
    }
    SGC_TRY(sgc_tokens_prepare(r.output, r.tokenizer, r.n_files, r.files));
    SGC_TRY(sgc_tokens_open(&tokens, r.output));
    printf("%s: %lld tokens of %lld document%s, tokenizer %s, vocabulary %lld, %d bits each\n", r.output, (long long)tokens.n_tokens,
           (long long)tokens.n_documents, tokens.n_documents == 1 ? "" : "s", tokens.tokenizer, (long long)tokens.vocab_size,
           8 * tokens.token_bytes);
    sgc_tokens_close(&tokens);
done:
    if (st == SGC_OK) return SGC_EXIT_OK;
    fprintf(stderr, "stagecoach: error: %s\n", sgc_err_message());
    return st == SGC_ECONFIG ? SGC_EXIT_USAGE : SGC_EXIT_ERROR;
}
