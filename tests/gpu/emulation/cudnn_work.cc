/* Every operation of a graph by itself, in double, rounded to the type of its result: what the fused kernels of the library compute, with one rounding
 * more here and there. */
#include "cudnn_work.h"

#include <math.h>
#include <string.h>
#include <unordered_map>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emulation.h"

namespace emulated {

typedef std::vector<double> numbers; /* of a tensor, the last side fastest */

int64_t cudnn_tensor::n() const
{
    int64_t all = 1;
    for (int64_t d : dimensions) all *= d;
    return all;
}

static std::string name_of(const cudnn_node &n)
{
    static const std::map<int, const char *> names = {
        {CUDNN_POINTWISE_ADD, "add"}, {CUDNN_POINTWISE_MUL, "mul"}, {CUDNN_POINTWISE_DIV, "div"}, {CUDNN_POINTWISE_SUB, "sub"}, {CUDNN_POINTWISE_EXP, "exp"},
        {CUDNN_POINTWISE_LOG, "log"}, {CUDNN_POINTWISE_CMP_GE, "ge"}, {CUDNN_POINTWISE_BINARY_SELECT, "select"}};
    if (n.kind == cudnn_node::PRODUCT) return "product";
    if (n.kind == cudnn_node::RESHAPE) return "reshape";
    if (n.kind == cudnn_node::REDUCTION) return n.mode == CUDNN_REDUCE_TENSOR_MAX ? "max" : n.mode == CUDNN_REDUCE_TENSOR_ADD ? "sum" : "?";
    if (n.mode == CUDNN_POINTWISE_GEN_INDEX) return "index" + std::to_string(n.axis);
    return names.count(n.mode) ? names.at(n.mode) : "?";
}

std::string cudnn_program::shape() const
{
    std::string words;
    for (const cudnn_node &n : nodes) words += (words.empty() ? "" : " ") + name_of(n);
    return words;
}

static int n_arguments(const cudnn_node &n)
{
    if (n.kind == cudnn_node::PRODUCT) return 2;
    if (n.kind != cudnn_node::POINTWISE) return 1;
    switch (n.mode) {
    case CUDNN_POINTWISE_EXP:
    case CUDNN_POINTWISE_LOG:
    case CUDNN_POINTWISE_GEN_INDEX: return 1;
    case CUDNN_POINTWISE_BINARY_SELECT: return 3;
    default: return 2;
    }
}

static bool spreads_to(const cudnn_tensor &x, const cudnn_tensor &y)
{
    for (size_t i = 0; i < 4; i++)
        if (x.dimensions[i] != y.dimensions[i] && x.dimensions[i] != 1) return false;
    return true;
}

static std::string fault_of(const cudnn_program &p, const cudnn_node &n)
{
    const cudnn_tensor &x = p.tensors.at(n.x), &y = p.tensors.at(n.y);
    const int n_given = 1 + (n.b != 0) + (n.t != 0);
    if (n_given != n_arguments(n)) return name_of(n) + " has another number of arguments";
    if (n.kind == cudnn_node::PRODUCT) {
        const cudnn_tensor &b = p.tensors.at(n.b);
        for (int i = 0; i < 2; i++)
            if (x.dimensions[i] != y.dimensions[i] || b.dimensions[i] != y.dimensions[i]) return "the batches of a product differ";
        if (x.dimensions[2] != y.dimensions[2] || b.dimensions[3] != y.dimensions[3] || x.dimensions[3] != b.dimensions[2]) return "the sides of a product do not fit";
        if (!x.is_virtual && !b.is_virtual && x.type != b.type) return "the factors of a product are of two types";
    } else if (n.kind == cudnn_node::POINTWISE) {
        for (int64_t uid : {n.x, n.b, n.t})
            if (uid && !spreads_to(p.tensors.at(uid), y)) return "the sides of a pointwise operation do not fit";
        if (n.t && p.tensors.at(n.t).type != CUDNN_DATA_BOOLEAN) return "what selects is not boolean";
    } else if (n.kind == cudnn_node::REDUCTION) {
        if (!spreads_to(y, x)) return "the sides of a reduction do not fit";
    } else if (x.n() != y.n()) {
        return "a reshape changes the number of elements";
    }
    return "";
}

cudnnStatus_t check_program(const cudnn_program &p, std::string *why)
{
    std::map<int64_t, bool> is_written, is_read;
    for (const cudnn_node &n : p.nodes) is_written[n.y] = false;
    for (const cudnn_node &n : p.nodes) {
        for (int64_t uid : {n.x, n.b, n.t}) {
            if (!uid) continue;
            is_read[uid] = true;
            if (is_written.count(uid) && !is_written[uid]) *why = "a tensor is read before it is written";
            if (p.tensors.at(uid).is_virtual && !is_written.count(uid)) *why = "nothing writes a virtual tensor that is read";
        }
        if (is_written[n.y]) *why = "a tensor is written twice";
        is_written[n.y] = true;
        if (why->empty()) *why = fault_of(p, n);
        if (!why->empty()) return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    }
    for (const auto &t : p.tensors)
        if (t.second.is_virtual && !is_read[t.first]) *why = "nothing reads a virtual tensor";
    return why->empty() ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

/* Where element i of a tensor is, in elements. */
static int64_t place(const cudnn_tensor &t, int64_t i)
{
    int64_t at = 0;
    for (int k = 3; k >= 0; k--) {
        at += i % t.dimensions[k] * t.strides[k];
        i /= t.dimensions[k];
    }
    return at;
}

/* Which element of x goes with element i of y, if x is spread to y. */
static int64_t spread(const cudnn_tensor &x, const cudnn_tensor &y, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int k = 3; k >= 0; k--) {
        if (x.dimensions[k] > 1) at += i % y.dimensions[k] * step;
        step *= x.dimensions[k];
        i /= y.dimensions[k];
    }
    return at;
}

static double rounded(cudnnDataType_t type, double x)
{
    switch (type) {
    case CUDNN_DATA_BFLOAT16: return __bfloat162float(__float2bfloat16_rn((float)x));
    case CUDNN_DATA_HALF: return __half2float(__float2half_rn((float)x));
    default: return (float)x;
    }
}

static numbers load(const cudnn_tensor &t, const void *p)
{
    numbers out((size_t)t.n());
    for (int64_t i = 0; i < t.n(); i++) {
        const int64_t at = place(t, i);
        if (t.type == CUDNN_DATA_BFLOAT16) out[(size_t)i] = __bfloat162float(((const __nv_bfloat16 *)p)[at]);
        else if (t.type == CUDNN_DATA_HALF) out[(size_t)i] = __half2float(((const __half *)p)[at]);
        else out[(size_t)i] = ((const float *)p)[at];
    }
    return out;
}

static void store(const cudnn_tensor &t, void *p, const numbers &x)
{
    for (int64_t i = 0; i < t.n(); i++) {
        const int64_t at = place(t, i);
        const float f = (float)x[(size_t)i];
        if (t.type == CUDNN_DATA_BFLOAT16) ((__nv_bfloat16 *)p)[at] = __float2bfloat16_rn(f);
        else if (t.type == CUDNN_DATA_HALF) ((__half *)p)[at] = __float2half_rn(f);
        else ((float *)p)[at] = f;
    }
}

static double point(int mode, double x, double b, double t)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD: return x + b;
    case CUDNN_POINTWISE_SUB: return x - b;
    case CUDNN_POINTWISE_MUL: return x * b;
    case CUDNN_POINTWISE_DIV: return x / b;
    case CUDNN_POINTWISE_EXP: return exp(x);
    case CUDNN_POINTWISE_LOG: return log(x);
    case CUDNN_POINTWISE_CMP_GE: return x >= b;
    case CUDNN_POINTWISE_BINARY_SELECT: return t != 0 ? x : b;
    default: emulated_defect("cuDNN: a pointwise operation that is not emulated");
    }
}

static void compute(const cudnn_program &p, const cudnn_node &n, std::map<int64_t, numbers> &all)
{
    const cudnn_tensor &tx = p.tensors.at(n.x), &ty = p.tensors.at(n.y);
    const numbers &x = all.at(n.x);
    numbers y((size_t)ty.n());
    if (n.kind == cudnn_node::PRODUCT) {
        const numbers &b = all.at(n.b);
        const size_t rows = (size_t)ty.dimensions[2], columns = (size_t)ty.dimensions[3], inner = (size_t)tx.dimensions[3];
        for (size_t m = 0; m < (size_t)(ty.dimensions[0] * ty.dimensions[1]); m++)
            for (size_t i = 0; i < rows; i++)
                for (size_t k = 0; k < inner; k++)
                    for (size_t j = 0; j < columns; j++) y[(m * rows + i) * columns + j] += x[(m * rows + i) * inner + k] * b[(m * inner + k) * columns + j];
    } else if (n.kind == cudnn_node::POINTWISE) {
        for (int64_t i = 0; i < ty.n(); i++) {
            if (n.mode == CUDNN_POINTWISE_GEN_INDEX) {
                int64_t rest = i;
                for (int64_t k = 3; k > n.axis; k--) rest /= ty.dimensions[(size_t)k];
                y[(size_t)i] = (double)(rest % ty.dimensions[(size_t)n.axis]);
                continue;
            }
            const double b = n.b ? all.at(n.b)[(size_t)spread(p.tensors.at(n.b), ty, i)] : 0, t = n.t ? all.at(n.t)[(size_t)spread(p.tensors.at(n.t), ty, i)] : 0;
            y[(size_t)i] = point(n.mode, x[(size_t)spread(tx, ty, i)], b, t);
        }
    } else if (n.kind == cudnn_node::REDUCTION) {
        const bool is_max = n.mode == CUDNN_REDUCE_TENSOR_MAX;
        for (double &v : y) v = is_max ? -INFINITY : 0;
        for (int64_t i = 0; i < tx.n(); i++) {
            double &v = y[(size_t)spread(ty, tx, i)];
            if (!is_max) v += x[(size_t)i];
            else if (x[(size_t)i] > v || isnan(x[(size_t)i])) v = x[(size_t)i];
        }
    } else { /* the same memory, seen with other sides */
        std::unordered_map<int64_t, double> memory;
        for (int64_t i = 0; i < tx.n(); i++) memory[place(tx, i)] = x[(size_t)i];
        for (int64_t i = 0; i < ty.n(); i++) {
            if (!memory.count(place(ty, i))) emulated_defect("cuDNN: a reshape reaches beyond what it reshapes");
            y[(size_t)i] = memory[place(ty, i)];
        }
    }
    for (double &v : y) v = rounded(ty.type, v);
    all[n.y] = y;
}

void cudnn_work::run()
{
    std::map<int64_t, numbers> all;
    if (fails_here()) fail_for_good((cudaError_t)setting("EMULATED_FAIL_WITH", cudaErrorIllegalAddress));
    if (usable() != cudaSuccess) return;
    if (workspace_bytes) memset(workspace, 0xff, workspace_bytes);
    std::map<int64_t, bool> is_written;
    for (const cudnn_node &n : program->nodes) is_written[n.y] = true;
    for (const auto &t : program->tensors) {
        if (t.second.is_virtual || is_written.count(t.first)) continue;
        all[t.first] = t.second.is_by_value ? numbers(1, values.at(t.first)) : load(t.second, pointers.at(t.first));
    }
    for (const cudnn_node &n : program->nodes) compute(*program, n, all);
    for (const cudnn_node &n : program->nodes)
        if (!program->tensors.at(n.y).is_virtual) store(program->tensors.at(n.y), pointers.at(n.y), all.at(n.y));
}

} // namespace emulated
