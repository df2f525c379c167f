/* A graph of cuDNN's operations, taken out of its descriptors, and its execution number by number. */
#ifndef EMULATED_CUDNN_WORK_H
#define EMULATED_CUDNN_WORK_H

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cudnn_graph.h"
#include "runtime.h"

namespace emulated {

struct cudnn_tensor {
    int64_t uid = 0, alignment = 0;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    std::vector<int64_t> dimensions, strides;
    bool is_virtual = false, is_by_value = false;
    int64_t n() const;
};

struct cudnn_node {
    enum { PRODUCT, POINTWISE, REDUCTION, RESHAPE } kind;
    int mode = 0;            /* cudnnPointwiseMode_t or cudnnReduceTensorOp_t */
    int64_t axis = -1;
    int64_t x = 0, b = 0, t = 0, y = 0; /* uids; 0: none */
};

struct cudnn_program {
    std::map<int64_t, cudnn_tensor> tensors;
    std::vector<cudnn_node> nodes;
    std::string shape() const; /* its nodes in words */
};

/* Do the sides of what the nodes read and write fit together? Each tensor is written before it is read, and once. */
cudnnStatus_t check_program(const cudnn_program &p, std::string *why);

struct cudnn_work : work {
    std::shared_ptr<const cudnn_program> program;
    std::map<int64_t, void *> pointers; /* by uid */
    std::map<int64_t, float> values;    /* of tensors that are given by value */
    void *workspace = NULL;
    size_t workspace_bytes = 0;
    work *copy() const override { return new cudnn_work(*this); }
    void run() override;
};

} // namespace emulated

#endif
