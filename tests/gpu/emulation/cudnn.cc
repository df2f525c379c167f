/*
 * cuDNN's descriptors: what may be set in each, what must be, and that nothing is used before it is finalized, as the library has it. Of engines there are
 * three for each of the two graphs of attention: one that says of itself that its bits differ from time to time, one that turns out not to work,
 * and one that does.
 */
#include <algorithm>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn_work.h"
#include "emulation.h"

using namespace emulated;

/* The product's, where it is linked in. */
extern "C" size_t sgc_cudnn_slice_bytes __attribute__((weak));

struct cudnnContext {
    cudaStream_t stream = NULL;
};

struct attribute {
    cudnnBackendAttributeType_t type;
    std::vector<char> bytes;
    int64_t n = 0;
};

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool is_final = false;
    std::map<int, attribute> attributes;
    std::shared_ptr<const cudnn_program> program; /* of a graph, an engine and a plan */
    int engine = -1;
    size_t workspace_bytes = 0;
};

static std::set<descriptor *> living;
static int n_handles;
static std::string last_error;

enum { WILD_ENGINE, BROKEN_ENGINE, GOOD_ENGINE, N_ENGINES };

struct rule {
    int descriptor, attribute, type;
    int64_t least, most;
    bool is_needed;
};

/* What each descriptor takes. */
static const rule rules[] = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, 4, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, 4, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, 1, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, 1, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, 1, false},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, 1, false},
    {CUDNN_BACKEND_MATMUL_DESCRIPTOR, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, 1, true},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, 1, true},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, 1, false},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, false},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, false},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, 1, true},
    {CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, 1, true},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 64, true},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, 1, true},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, 1, true},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 1, 64, true},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1, 64, true},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, 1, true},
};

static size_t size_of(int type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_INT64: return sizeof(int64_t);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return sizeof(void *);
    default: return sizeof(int);
    }
}

static cudnnStatus_t told(cudnnStatus_t rc, const std::string &why)
{
    last_error = why;
    return rc;
}

static bool has(const descriptor *d, int name) { return d->attributes.count(name) > 0; }

template <typename T> static std::vector<T> list(const descriptor *d, int name)
{
    if (!has(d, name)) return {};
    const attribute &a = d->attributes.at(name);
    std::vector<T> out((size_t)a.n);
    memcpy((void *)out.data(), a.bytes.data(), a.bytes.size());
    return out;
}
template <> std::vector<bool> list<bool>(const descriptor *d, int name)
{
    std::vector<bool> out;
    if (has(d, name)) out.push_back(d->attributes.at(name).bytes[0] != 0);
    return out;
}
template <typename T> static T one(const descriptor *d, int name, T otherwise) { return has(d, name) ? list<T>(d, name)[0] : otherwise; }

/* The tensor of an operation, noted in the program; 0: there is none. */
static int64_t tensor_of(const descriptor *d, int name, cudnn_program &p, std::map<int64_t, descriptor *> &seen)
{
    if (!has(d, name)) return 0;
    descriptor *t = list<descriptor *>(d, name)[0];
    cudnn_tensor tensor;
    tensor.uid = one<int64_t>(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    tensor.alignment = one<int64_t>(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0);
    tensor.type = (cudnnDataType_t)one<int>(t, CUDNN_ATTR_TENSOR_DATA_TYPE, 0);
    tensor.dimensions = list<int64_t>(t, CUDNN_ATTR_TENSOR_DIMENSIONS);
    tensor.strides = list<int64_t>(t, CUDNN_ATTR_TENSOR_STRIDES);
    tensor.is_virtual = one<bool>(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, false);
    tensor.is_by_value = one<bool>(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, false);
    if (seen.count(tensor.uid) && seen[tensor.uid] != t) tensor.uid = -1;
    seen[tensor.uid] = t;
    p.tensors[tensor.uid] = tensor;
    return tensor.uid;
}

static cudnnStatus_t make_program(descriptor *graph)
{
    std::shared_ptr<cudnn_program> p = std::make_shared<cudnn_program>();
    std::map<int64_t, descriptor *> seen;
    std::string why;
    for (descriptor *d : list<descriptor *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
        cudnn_node n;
        switch (d->type) {
        case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
            n.kind = cudnn_node::PRODUCT;
            n.x = tensor_of(d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, *p, seen);
            n.b = tensor_of(d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, *p, seen);
            n.y = tensor_of(d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, *p, seen);
            break;
        case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: {
            const descriptor *of = list<descriptor *>(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)[0];
            n.kind = cudnn_node::POINTWISE;
            n.mode = one<int>(of, CUDNN_ATTR_POINTWISE_MODE, 0);
            n.axis = one<int64_t>(of, CUDNN_ATTR_POINTWISE_AXIS, -1);
            n.x = tensor_of(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, *p, seen);
            n.b = tensor_of(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *p, seen);
            n.t = tensor_of(d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *p, seen);
            n.y = tensor_of(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, *p, seen);
            break;
        }
        case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
            n.kind = cudnn_node::REDUCTION;
            n.mode = one<int>(list<descriptor *>(d, CUDNN_ATTR_OPERATION_REDUCTION_DESC)[0], CUDNN_ATTR_REDUCTION_OPERATOR, 0);
            n.x = tensor_of(d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, *p, seen);
            n.y = tensor_of(d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, *p, seen);
            break;
        case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
            n.kind = cudnn_node::RESHAPE;
            n.x = tensor_of(d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, *p, seen);
            n.y = tensor_of(d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, *p, seen);
            break;
        default: return told(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "a graph holds what is no operation");
        }
        p->nodes.push_back(n);
    }
    if (seen.count(-1)) return told(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "two tensors of a graph have one unique id");
    const cudnnStatus_t rc = check_program(*p, &why);
    graph->program = p;
    return rc == CUDNN_STATUS_SUCCESS ? rc : told(rc, why);
}

static const char forward[] = "product mul index2 index3 ge select max sub exp sum log add div product";
static const char backward[] = "mul sum mul product mul sub index2 index3 ge select exp reshape product product sub mul mul reshape product reshape product";

/* What the engines of attention can, as far as it is documented. */
static bool is_served(const cudnn_program &p)
{
    if (p.shape() != forward && p.shape() != backward) return false;
    for (const auto &t : p.tensors) {
        const cudnn_tensor &x = t.second;
        if (x.is_virtual || x.is_by_value || x.type == CUDNN_DATA_FLOAT) continue;
        const int64_t D = x.strides[3] == 1 ? x.dimensions[3] : x.dimensions[2];
        if ((x.type != CUDNN_DATA_BFLOAT16 && x.type != CUDNN_DATA_HALF) || D % 8 != 0 || D > 256 || (x.strides[3] != 1 && x.strides[2] != 1)) return false;
    }
    return true;
}

static int64_t up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

static size_t workspace_of(const cudnn_program &p)
{
    if (p.shape() == forward) return 256;
    const cudnn_tensor &s = p.tensors.at(p.nodes[3].y); /* [B, H, T, T] */
    return 256 + (size_t)(s.dimensions[0] * s.dimensions[1] * up(s.dimensions[2], 64) * up(s.dimensions[3], 128) * 2);
}

static cudnnStatus_t finalize_plan(descriptor *d)
{
    const descriptor *configuration = list<descriptor *>(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)[0];
    if (configuration->engine == BROKEN_ENGINE) return told(CUDNN_STATUS_NOT_SUPPORTED, "this engine needs another GPU");
    d->program = configuration->program;
    d->workspace_bytes = workspace_of(*d->program);
    return CUDNN_STATUS_SUCCESS;
}

extern "C" {

size_t cudnnGetVersion(void) { return (size_t)setting("EMULATED_CUDNN_VERSION", 91900); }

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch (status) {
    case CUDNN_STATUS_SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS_BAD_PARAM";
    }
}

void cudnnGetLastErrorString(char *message, size_t bytes) { snprintf(message, bytes, "%s", last_error.c_str()); }

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    if (usable() != cudaSuccess || setting("EMULATED_CUDNN_STUCK", 0)) return told(CUDNN_STATUS_NOT_INITIALIZED, "no GPU");
    if (&sgc_cudnn_slice_bytes && getenv("EMULATED_CUDNN_SLICE")) sgc_cudnn_slice_bytes = (size_t)setting("EMULATED_CUDNN_SLICE", 0);
    *handle = new cudnnContext;
    n_handles++;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    if (--n_handles == 0 && !living.empty()) emulated_defect("cuDNN: %zu descriptors outlive the handle", living.size());
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    descriptor *d = new descriptor;
    d->type = type;
    living.insert(d);
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t p)
{
    descriptor *d = (descriptor *)p;
    if (!living.erase(d)) emulated_defect("cuDNN: a descriptor that there is not is destroyed");
    delete d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,
                                       const void *values)
{
    descriptor *d = (descriptor *)p;
    if (!d || !values) return told(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "NULL");
    if (d->is_final) return told(CUDNN_STATUS_NOT_SUPPORTED, "a descriptor is changed that was finalized");
    const rule *r = std::find_if(std::begin(rules), std::end(rules), [&](const rule &x) { return x.descriptor == d->type && x.attribute == name; });
    if (r == std::end(rules)) return told(CUDNN_STATUS_BAD_PARAM, "descriptor " + std::to_string(d->type) + " has no attribute " + std::to_string(name));
    if (r->type != type) return told(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute " + std::to_string(name) + " is of another type");
    if (n < r->least || n > r->most) return told(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " has another number of elements");
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < n; i++) {
            descriptor *other = ((descriptor *const *)values)[i];
            if (!living.count(other)) return told(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a descriptor that there is not");
            if (!other->is_final) return told(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a descriptor is used that is not finalized");
        }
    d->attributes[name] = {type, std::vector<char>((const char *)values, (const char *)values + (size_t)n * size_of(type)), n};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p)
{
    descriptor *d = (descriptor *)p;
    cudnnStatus_t rc = CUDNN_STATUS_SUCCESS;
    if (!d) return told(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "NULL");
    for (const rule &r : rules)
        if (r.descriptor == d->type && r.is_needed && !has(d, r.attribute))
            return told(CUDNN_STATUS_BAD_PARAM, "descriptor " + std::to_string(d->type) + " lacks attribute " + std::to_string(r.attribute));
    if (d->type == CUDNN_BACKEND_POINTWISE_DESCRIPTOR && one<int>(d, CUDNN_ATTR_POINTWISE_MODE, 0) == CUDNN_POINTWISE_GEN_INDEX && !has(d, CUDNN_ATTR_POINTWISE_AXIS))
        return told(CUDNN_STATUS_BAD_PARAM, "an index needs an axis");
    if (d->type == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR &&
        d->attributes[CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS].n != d->attributes[CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS].n)
        return told(CUDNN_STATUS_BAD_PARAM, "ids and pointers differ in number");
    if (d->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) rc = make_program(d);
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) rc = finalize_plan(d);
    d->is_final = rc == CUDNN_STATUS_SUCCESS;
    return rc;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t wanted,
                                       int64_t *n, void *values)
{
    const descriptor *d = (const descriptor *)p;
    if (!d || !n || !values) return told(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "NULL");
    if (!d->is_final) return told(CUDNN_STATUS_NOT_INITIALIZED, "a descriptor is asked that is not finalized");
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS && type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        const descriptor *graph = list<descriptor *>(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)[0];
        *n = 0;
        for (int64_t i = 0; i < wanted && i < N_ENGINES && is_served(*graph->program); i++) {
            descriptor *to = ((descriptor **)values)[i];
            if (i == GOOD_ENGINE && setting("EMULATED_CUDNN_WILD", 0)) break;
            if (to->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) return told(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "results are engine configurations");
            to->engine = (int)i;
            to->program = graph->program;
            to->is_final = true;
            ++*n;
        }
        return CUDNN_STATUS_SUCCESS;
    }
    if (wanted < 1) return told(CUDNN_STATUS_BAD_PARAM, "no room");
    *n = 1;
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE && type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        descriptor *to = *(descriptor **)values;
        to->engine = d->engine;
        to->is_final = true;
    } else if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE && type == CUDNN_TYPE_NUMERICAL_NOTE) {
        ((int *)values)[0] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        if (d->engine == WILD_ENGINE && wanted > 1) ((int *)values)[(*n)++] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    } else if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && type == CUDNN_TYPE_INT64) {
        *(int64_t *)values = (int64_t)d->workspace_bytes;
    } else {
        return told(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " cannot be asked for");
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    const descriptor *d = (const descriptor *)plan, *given = (const descriptor *)pack;
    if (!d->is_final || !given->is_final) return told(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "plan or pack are not finalized");
    if (d->engine == WILD_ENGINE) emulated_defect("cuDNN: an engine computes that does not repeat itself");
    if (may_queue(handle->stream) != cudaSuccess) return told(CUDNN_STATUS_EXECUTION_FAILED, "the GPU has failed");
    const std::vector<int64_t> uids = list<int64_t>(given, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const std::vector<void *> pointers = list<void *>(given, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    cudnn_work *w = new cudnn_work;
    std::unique_ptr<cudnn_work> owner(w);
    w->program = d->program;
    w->workspace = list<void *>(given, CUDNN_ATTR_VARIANT_PACK_WORKSPACE)[0];
    w->workspace_bytes = d->workspace_bytes;
    for (size_t i = 0; i < uids.size(); i++) w->pointers[uids[i]] = pointers[i];
    for (const auto &t : w->program->tensors) {
        const cudnn_tensor &x = t.second;
        if (x.is_virtual) continue;
        void *at = w->pointers.count(t.first) ? w->pointers[t.first] : NULL;
        if (!at) return told(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the pack lacks tensor " + std::to_string(t.first));
        if (x.is_by_value) w->values[t.first] = *(const float *)at;
        else if ((uintptr_t)at % (size_t)x.alignment != 0) return told(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "tensor " + std::to_string(t.first) + " is not aligned");
    }
    if (!w->workspace || (uintptr_t)w->workspace % 256 != 0) return told(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "the workspace is not aligned");
    queue(handle->stream, owner.release());
    return CUDNN_STATUS_SUCCESS;
}

} // extern "C"
