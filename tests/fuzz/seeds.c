/* Makes the first inputs: seeds DIRECTORY writes DIRECTORY/{manifest,nodes,index,shard,tokens}/whole. */
#include <stdio.h>
#include <unistd.h>

#include "ckpt/spread_impl.h"
#include "data/data.h"
#include "small_checkpoint.h"

static sgc_status copy(const char *from, const char *name, const char *directory, const char *target, size_t without)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX], to[SGC_PATH_MAX], *bytes = NULL;
    size_t n;
    SGC_TRY(sgc_path_join(path, from, name));
    SGC_TRY(sgc_read_file(path, &bytes, &n));
    SGC_TRY(sgc_path_join(path, directory, target));
    SGC_TRY(sgc_make_dirs(path));
    SGC_TRY(sgc_path_join(to, path, "whole"));
    SGC_TRY(sgc_write_file_atomic(to, bytes, n - without));
done:
    free(bytes);
    return st;
}

int main(int argc, char **argv)
{
    sgc_status st = SGC_OK;
    char directory[] = "/tmp/stagecoach-seeds.XXXXXX", path[SGC_PATH_MAX] = "", text[SGC_PATH_MAX], tokens[SGC_PATH_MAX];
    char *files[] = {text};
    sgc_str nodes = {0};
    if (argc != 2 || !mkdtemp(directory)) return EXIT_FAILURE;
    SGC_TRY(small_checkpoint(directory, 8, 2, path));
    SGC_TRY(copy(path, SGC_MANIFEST_NAME, argv[1], "manifest", strlen("end 0123456789abcdef\n")));
    SGC_TRY(copy(path, "checkpoint.h5", argv[1], "index", 0));
    SGC_TRY(copy(path, "shards/shard-00001-of-00002.h5", argv[1], "shard", 0));
    sgc_nodes_put(&nodes, SGC_SPREAD_XOR, &(sgc_world){.size = 6, .n_nodes = 3, .node_index = 1}, (int64_t[]){1, 3, 5, 2, 4, 6});
    SGC_TRY(sgc_path_join(tokens, directory, SGC_NODES_NAME));
    SGC_TRY(sgc_write_file_atomic(tokens, nodes.text, nodes.n));
    SGC_TRY(copy(directory, SGC_NODES_NAME, argv[1], "nodes", strlen("end 0123456789abcdef\n")));
    SGC_TRY(sgc_path_join(text, directory, "text"));
    SGC_TRY(sgc_path_join(tokens, directory, "tokens.h5"));
    SGC_TRY(sgc_write_file_atomic(text, "it is short", 11));
    SGC_TRY(sgc_tokens_prepare(tokens, sgc_tokenizer_find("byte"), 1, files));
    SGC_TRY(copy(directory, "tokens.h5", argv[1], "tokens", 0));
done:
    sgc_str_free(&nodes);
    if (st != SGC_OK) fprintf(stderr, "%s\n", sgc_err_message());
    sgc_remove_tree(directory);
    return st == SGC_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
