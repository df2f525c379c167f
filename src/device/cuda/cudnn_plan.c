/* A graph becomes something that runs: which engine, and what memory it needs. */
#include "device/cuda/cudnn_impl.h"

#include <stdio.h>
#include <string.h>

enum { MOST_ENGINES = 16, MOST_NOTES = CUDNN_NUMERICAL_NOTE_TYPE_COUNT };

/* The engines that the heuristic proposes, the best first, as descriptors of the graph's. */
static int64_t propose(sgc_cudnn_graph *g, cudnnBackendDescriptor_t engines[MOST_ENGINES])
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t n = 0;
    cudnnBackendDescriptor_t heuristic = sgc_cudnn_make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "the heuristic");
    sgc_cudnn_set(g, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->whole);
    sgc_cudnn_set(g, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (g->target->properties)
        sgc_cudnn_set(g, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->target->properties);
    sgc_cudnn_finalize(g, heuristic);
    for (int i = 0; i < MOST_ENGINES; i++) engines[i] = sgc_cudnn_make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "the heuristic");
    if (g->rc != CUDNN_STATUS_SUCCESS) return 0;
    g->rc = g->target->library->BackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_ENGINES, &n, engines);
    return g->rc == CUDNN_STATUS_SUCCESS ? n : 0;
}

/* Does the engine say that it gives the same bits every time? One that cannot be asked does not. */
static bool repeats_itself(sgc_cudnn_graph *g, cudnnBackendDescriptor_t configuration)
{
    const sgc_cudnn *library = g->target->library;
    cudnnBackendNumericalNote_t notes[MOST_NOTES];
    cudnnBackendDescriptor_t engine = NULL;
    int64_t n = 0;
    if (library->BackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) return false;
    bool repeats = library->BackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) == CUDNN_STATUS_SUCCESS &&
                   library->BackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, MOST_NOTES, &n, notes) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; repeats && i < n && i < MOST_NOTES; i++)
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) repeats = false;
    library->BackendDestroyDescriptor(engine);
    return repeats;
}

/* Engines may find out late that they cannot do it. */
static bool try(sgc_cudnn_plan *p, cudnnBackendDescriptor_t configuration)
{
    sgc_cudnn_graph *g = &p->graph;
    const sgc_cudnn_target *target = g->target;
    int64_t bytes = 0, n = 0;
    cudnnBackendDescriptor_t d = sgc_cudnn_make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "an engine");
    if (target->handle) sgc_cudnn_set(g, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    if (target->properties) sgc_cudnn_set(g, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target->properties);
    sgc_cudnn_set(g, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &configuration);
    sgc_cudnn_finalize(g, d);
    if (g->rc == CUDNN_STATUS_SUCCESS)
        g->rc = target->library->BackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes);
    if (g->rc != CUDNN_STATUS_SUCCESS) return false;
    p->execution = d;
    p->workspace_bytes = (size_t)bytes;
    return true;
}

static void say_why(sgc_cudnn_plan *p)
{
    const sgc_cudnn *library = p->graph.target->library;
    char told[200] = "";
    library->GetLastErrorString(told, sizeof(told));
    told[strcspn(told, "\n")] = '\0';
    snprintf(p->none, sizeof(p->none), "%s: %s%s%.120s", p->graph.what, library->GetErrorString(p->graph.rc), told[0] ? ", " : "", told);
}

void sgc_cudnn_plan_make(sgc_cudnn_plan *p, const sgc_cudnn_target *target, const sgc_cudnn_shape *shape, bool backward)
{
    cudnnBackendDescriptor_t engines[MOST_ENGINES];
    int n_wild = 0;
    memset(p, 0, sizeof(*p));
    if (backward) sgc_cudnn_graph_backward(&p->graph, target, shape);
    else sgc_cudnn_graph_forward(&p->graph, target, shape);
    int64_t n = propose(&p->graph, engines);
    if (p->graph.rc != CUDNN_STATUS_SUCCESS) {
        say_why(p);
        return;
    }
    snprintf(p->none, sizeof(p->none), "no engine of its");
    for (int64_t i = 0; i < n && !p->execution; i++) {
        if (!repeats_itself(&p->graph, engines[i])) {
            n_wild++;
        } else if (!try(p, engines[i])) {
            say_why(p);
            p->graph.rc = CUDNN_STATUS_SUCCESS;
        }
    }
    if (!p->execution && n_wild > 0) snprintf(p->none, sizeof(p->none), "its engines do not give the same bits every time");
}

void sgc_cudnn_plan_free(sgc_cudnn_plan *p)
{
    sgc_cudnn_graph_free(&p->graph);
    p->execution = NULL;
}

cudnnStatus_t sgc_cudnn_plan_run(const sgc_cudnn_plan *p, int n, const int64_t *uids, void *const *pointers, void *workspace)
{
    const sgc_cudnn *library = p->graph.target->library;
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t rc = library->BackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (rc != CUDNN_STATUS_SUCCESS) return rc;
    rc = library->BackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids);
    if (rc == CUDNN_STATUS_SUCCESS) rc = library->BackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers);
    if (rc == CUDNN_STATUS_SUCCESS) rc = library->BackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (rc == CUDNN_STATUS_SUCCESS) rc = library->BackendFinalize(pack);
    if (rc == CUDNN_STATUS_SUCCESS) rc = library->BackendExecute(p->graph.target->handle, p->execution, pack);
    library->BackendDestroyDescriptor(pack);
    return rc;
}
