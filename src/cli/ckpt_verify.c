/* stagecoach ckpt verify: is every byte of a checkpoint as it was written? */
#include <inttypes.h>
#include <stdio.h>

#include "base/util.h"
#include "cli/ckpt_impl.h"

/* "block 3", "blocks 3-5" */
static void print_range(const char *what, int64_t first, int64_t last)
{
    if (first == last)
        printf("%s %" PRId64, what, first);
    else
        printf("%ss %" PRId64 "-%" PRId64, what, first, last);
}

static void print_damage(const sgc_ckpt_damage *d)
{
    printf("  %s", d->file);
    if (d->first_block >= 0) {
        printf(": ");
        print_range("block", d->first_block, d->last_block);
        printf(" (bytes %" PRId64 "-%" PRId64 ")", d->first_byte, d->last_byte);
    }
    printf("%s %s", d->tensors ? "" : ":", d->problem); /* a sentence of its own where no bytes are named */
    if (d->first_rank >= 0) {
        printf("; ");
        print_range("rank", d->first_rank, d->last_rank);
    }
    if (d->tensors && d->tensors[0]) printf("%s %s", d->first_rank >= 0 ? ":" : ";", d->tensors);
    printf("\n");
}

static json_t *damage_json(const sgc_ckpt_damage *d)
{
    json_t *o = json_object();
    json_object_set_new(o, "file", sgc_cli_string(d->file));
    json_object_set_new(o, "problem", sgc_cli_string(d->problem));
    if (d->first_block >= 0) {
        json_object_set_new(o, "blocks", json_pack("[II]", (json_int_t)d->first_block, (json_int_t)d->last_block));
        json_object_set_new(o, "bytes", json_pack("[II]", (json_int_t)d->first_byte, (json_int_t)d->last_byte));
    }
    if (d->first_rank >= 0) json_object_set_new(o, "ranks", json_pack("[ii]", d->first_rank, d->last_rank));
    if (d->tensors && d->tensors[0]) json_object_set_new(o, "tensors", sgc_cli_string(d->tensors));
    return o;
}

static json_t *report_json(const char *path, const sgc_ckpt_report *r)
{
    json_t *o = json_object(), *damages = json_array();
    json_object_set_new(o, "checkpoint", sgc_cli_string(path));
    json_object_set_new(o, "is_whole", r->is_newer ? json_null() : json_boolean(r->n_bad == 0));
    if (r->n_nodes) json_object_set_new(o, "part_of_node", json_pack("[ii]", r->node, r->n_nodes));
    json_object_set_new(o, "files", json_integer(r->n_files));
    json_object_set_new(o, "blocks", json_integer(r->n_blocks));
    json_object_set_new(o, "bytes", json_integer(r->n_bytes));
    for (int i = 0; i < r->n_damages; i++) json_array_append_new(damages, damage_json(&r->damages[i]));
    json_object_set_new(o, "damages", damages);
    return o;
}

static void print_report(const char *path, const sgc_ckpt_report *r)
{
    char size[32];
    if (r->n_bad == 0) {
        if (r->n_nodes) printf("%s: whole as what node %d of %d holds:", path, r->node, r->n_nodes);
        else printf("%s: whole:", path);
        printf(" %" PRId64 " files, %" PRId64 " blocks, %s in %.2f s\n", r->n_files, r->n_blocks, sgc_format_bytes((double)r->n_bytes, size), r->seconds);
        return;
    }
    if (r->is_none) {
        if (sgc_path_exists(path)) printf("%s: is no checkpoint; if it is the output_dir of a run, stagecoach ckpt ls lists those in it\n", path);
        else printf("%s: there is no such checkpoint\n", path);
        return;
    }
    printf("%s: %s\n", path, r->is_newer ? "of a newer format, not checked" : "damaged");
    for (int i = 0; i < r->n_damages; i++) print_damage(&r->damages[i]);
}

sgc_status sgc_cli_ckpt_verify(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs)
{
    sgc_status st = SGC_OK;
    bool is_root = sgc_group_rank(group) == 0;
    sgc_ckpt_report r = {0};
    json_t *list = is_root && a->json ? json_array() : NULL;
    for (int k = 0; k < a->n_paths; k++) {
        SGC_TRY(sgc_ckpt_verify(a->paths[k], group, &r));
        if (list)
            json_array_append_new(list, report_json(a->paths[k], &r));
        else if (is_root)
            print_report(a->paths[k], &r);
        *differs = *differs || r.n_bad > 0;
        sgc_ckpt_report_free(&r);
    }
    if (list) st = sgc_cli_print_json(list);
    list = NULL;
    SGC_AGREE(group);
done:
    json_decref(list);
    sgc_ckpt_report_free(&r);
    return st;
}
