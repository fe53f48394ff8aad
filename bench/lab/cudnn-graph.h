/* cudnn-graph.h -- a graph for cuDNN's backend interface, in C: tensors, four operations, a plan.
 *
 * The C++ "frontend" of cuDNN is a header library over this C interface; here is the part of it
 * that attention needs.  Tensors are small integers, the first error is kept and all later calls
 * pass through, so that building needs no checks.  Without a GPU a plan can still be made for the
 * machine that CG_H200 describes: cuDNN then says whether it knows the graph, and how much
 * workspace it wants.
 *
 * Format: cudnn_graph_v9.h of cuDNN 9.19.  Left out: knobs, kernel caches, plans kept as JSON. */
#ifndef CUDNN_GRAPH_H
#define CUDNN_GRAPH_H
#include <cudnn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CG_MAX = 96, CG_WORKSPACE_LIMIT_GIB = 16 };
enum { CG_REAL, CG_VIRTUAL, CG_VALUE }; // memory; inside the graph only; a scalar at run time

typedef cudnnBackendDescriptor_t cg_desc;

typedef struct {
    cudnnHandle_t handle;                        // NULL: no GPU, plan for `device`
    cg_desc device, tensor[CG_MAX], op[CG_MAX], plan, pack;
    int n_tensors, n_ops;
    int64_t dim[CG_MAX][4], stride[CG_MAX][4];
    int kind[CG_MAX];
    void *pointer[CG_MAX];
    int64_t workspace;                           // bytes that the plan wants
    bool planned;
    int engines, nondeterministic;               // configurations offered; those noted so
    char error[512];
} cg;

/* Device properties as cuDNN writes them itself (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION). */
static const char CG_H200[] =
    "{\"deviceName\":\"NVIDIA H200\",\"deviceVer\":900,\"cudaDeviceId\":0,\"driverVer\":13000,"
    "\"totalGlobalMem\":150754820096,\"maxGridSize\":[2147483647,65535,65535],"
    "\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":132,"
    "\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,"
    "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
    "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,"
    "\"supportCoopLaunch\":1,\"smClockRateKHz\":1980000,\"memClockRateKHz\":3201000,"
    "\"l2CacheSize\":62914560}";

static void cg_ok(cg *g, cudnnStatus_t s, const char *what)
{
    if (s == CUDNN_STATUS_SUCCESS || g->error[0]) return;
    char why[300] = "";
    cudnnGetLastErrorString(why, sizeof why);
    snprintf(g->error, sizeof g->error, "%s: %s %s", what, cudnnGetErrorString(s), why);
}

static cg_desc cg_new(cg *g, cudnnBackendDescriptorType_t type)
{
    cg_desc d = NULL;
    if (!g->error[0]) cg_ok(g, cudnnBackendCreateDescriptor(type, &d), "create");
    return d;
}

static void cg_set(cg *g, cg_desc d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    char what[32];
    snprintf(what, sizeof what, "attribute %d", (int)name);
    if (!g->error[0]) cg_ok(g, cudnnBackendSetAttribute(d, name, type, n, value), what);
}

static void cg_link(cg *g, cg_desc d, cudnnBackendAttributeName_t name, cg_desc other)
{
    cg_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other);
}

static cg_desc cg_seal(cg *g, cg_desc d, const char *what)
{
    if (!g->error[0]) cg_ok(g, cudnnBackendFinalize(d), what);
    return d;
}

/* With a handle: the machine under it.  Without: the machine of CG_H200. */
static void cg_init(cg *g, cudnnHandle_t handle)
{
    memset(g, 0, sizeof *g);
    g->handle = handle;
    if (handle) return;
    g->device = cg_new(g, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    cg_set(g, g->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
           (int64_t)sizeof CG_H200 - 1, CG_H200);
    cg_seal(g, g->device, "device");
}

/* A tensor of four axes; `ragged` is the tensor of offsets (in elements) of its first axis, or
 * -1. */
static int cg_tensor(cg *g, cudnnDataType_t type, const int64_t dim[4], const int64_t stride[4],
                     int kind, int ragged)
{
    int t = g->n_tensors++;
    int64_t id = t + 1, alignment = 16;
    bool yes = true;
    cg_desc d = g->tensor[t] = cg_new(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cg_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    cg_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    cg_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    cg_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    cg_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (kind == CG_VIRTUAL) cg_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    if (kind == CG_VALUE) cg_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    if (ragged >= 0) cg_link(g, d, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, g->tensor[ragged]);
    cg_seal(g, d, "tensor");
    memcpy(g->dim[t], dim, sizeof g->dim[t]);
    memcpy(g->stride[t], stride, sizeof g->stride[t]);
    g->kind[t] = kind;
    return t;
}

static int cg_packed(cg *g, cudnnDataType_t type, const int64_t n[4], int kind)
{
    int64_t stride[4] = {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1};
    return cg_tensor(g, type, n, stride, kind, -1);
}

static int cg_scalar(cg *g, float *value)
{
    int t = cg_packed(g, CUDNN_DATA_FLOAT, (int64_t[]){1, 1, 1, 1}, CG_VALUE);
    g->pointer[t] = value;
    return t;
}

/* y = mode(x, b, t); inputs that the mode does not have are -1, axis < 0 where it has none. */
static int cg_pointwise(cg *g, cudnnPointwiseMode_t mode, cudnnDataType_t math, int64_t axis,
                        int x, int b, int t, int y)
{
    cg_desc p = cg_new(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cg_set(g, p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    cg_set(g, p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &math);
    if (axis >= 0) cg_set(g, p, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    cg_seal(g, p, "pointwise");
    cg_desc o = g->op[g->n_ops++] = cg_new(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    cg_link(g, o, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p);
    cg_link(g, o, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, g->tensor[x]);
    if (b >= 0) cg_link(g, o, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, g->tensor[b]);
    if (t >= 0) cg_link(g, o, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, g->tensor[t]);
    cg_link(g, o, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, g->tensor[y]);
    cg_seal(g, o, "pointwise operation");
    return y;
}

/* c = a b; m, n, k: tensors of lengths for each item of the first axis, or -1. */
static int cg_matmul(cg *g, int a, int b, int m, int n, int k, int c)
{
    cudnnDataType_t math = CUDNN_DATA_FLOAT;
    cg_desc p = cg_new(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    cg_set(g, p, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &math);
    cg_seal(g, p, "matmul");
    cg_desc o = g->op[g->n_ops++] = cg_new(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    cg_link(g, o, CUDNN_ATTR_OPERATION_MATMUL_ADESC, g->tensor[a]);
    cg_link(g, o, CUDNN_ATTR_OPERATION_MATMUL_BDESC, g->tensor[b]);
    cg_link(g, o, CUDNN_ATTR_OPERATION_MATMUL_CDESC, g->tensor[c]);
    cg_link(g, o, CUDNN_ATTR_OPERATION_MATMUL_DESC, p);
    if (m >= 0) cg_link(g, o, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, g->tensor[m]);
    if (n >= 0) cg_link(g, o, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, g->tensor[n]);
    if (k >= 0) cg_link(g, o, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, g->tensor[k]);
    cg_seal(g, o, "matmul operation");
    return c;
}

static int cg_reduce(cg *g, cudnnReduceTensorOp_t mode, int x, int y)
{
    cudnnDataType_t math = CUDNN_DATA_FLOAT;
    cg_desc p = cg_new(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    cg_set(g, p, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
    cg_set(g, p, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &math);
    cg_seal(g, p, "reduction");
    cg_desc o = g->op[g->n_ops++] = cg_new(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    cg_link(g, o, CUDNN_ATTR_OPERATION_REDUCTION_DESC, p);
    cg_link(g, o, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, g->tensor[x]);
    cg_link(g, o, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, g->tensor[y]);
    cg_seal(g, o, "reduction operation");
    return y;
}

static int cg_reshape(cg *g, int x, int y)
{
    cg_desc o = g->op[g->n_ops++] = cg_new(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    cg_link(g, o, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, g->tensor[x]);
    cg_link(g, o, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, g->tensor[y]);
    cg_seal(g, o, "reshape operation");
    return y;
}

static bool cg_is_nondeterministic(cg_desc config)
{
    cg_desc engine = NULL;
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    bool found = false;
    cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine);
    cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                             &n, &engine);
    cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                             CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, note);
    for (int64_t i = 0; i < n; i++) found |= note[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    cudnnBackendDestroyDescriptor(engine);
    return found;
}

/* Makes the plan of one configuration; false where cuDNN refuses it or its workspace is too large.
 * Without a GPU the kernel is not compiled: that the configuration was offered is all that is
 * known. */
static bool cg_try(cg *g, cg_desc config)
{
    int64_t n;
    if (!g->handle) {
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                 &n, &g->workspace);
        return g->planned = true;
    }
    cg_desc plan = cg_new(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    cg_set(g, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    cg_link(g, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (g->error[0] || cudnnBackendFinalize(plan) != CUDNN_STATUS_SUCCESS) {
        cudnnBackendDestroyDescriptor(plan);
        return false;
    }
    cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                             &n, &g->workspace);
    g->planned = g->workspace >> 30 < CG_WORKSPACE_LIMIT_GIB;
    if (g->planned) g->plan = plan;
    else cudnnBackendDestroyDescriptor(plan);
    return g->planned;
}

/* The first configuration of cuDNN's own order that works; with `deterministic`, is noted so
 * too. */
static void cg_build(cg *g, bool deterministic)
{
    enum { MOST = 16 };
    cg_desc graph = cg_new(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR), config[MOST];
    cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t n = 0;
    if (g->handle)
        cg_set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    cg_set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_ops, g->op);
    cg_seal(g, graph, "graph");
    cg_desc heuristic = cg_new(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    cg_link(g, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    cg_set(g, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (!g->handle) cg_link(g, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, g->device);
    cg_seal(g, heuristic, "heuristic");
    for (int i = 0; i < MOST; i++) config[i] = cg_new(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (g->error[0]) return;
    cg_ok(g, cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST, &n, config), "engines");
    g->engines = (int)n;
    for (int64_t i = 0; i < n && !g->planned; i++) {
        bool loose = cg_is_nondeterministic(config[i]);
        g->nondeterministic += loose;
        if (!(deterministic && loose)) cg_try(g, config[i]);
    }
    if (!g->planned && !g->error[0])
        snprintf(g->error, sizeof g->error,
                 "%d engine(s), %d of them noted as nondeterministic; none fits", g->engines,
                 g->nondeterministic);
}

/* Ties the pointers of all that is not virtual to the plan. */
static void cg_bind(cg *g, void *workspace)
{
    int64_t id[CG_MAX], n = 0;
    void *pointer[CG_MAX];
    for (int t = 0; t < g->n_tensors; t++)
        if (g->kind[t] != CG_VIRTUAL) {
            id[n] = t + 1;
            pointer[n++] = g->pointer[t];
        }
    g->pack = cg_new(g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    cg_set(g, g->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, id);
    cg_set(g, g->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointer);
    cg_set(g, g->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    cg_seal(g, g->pack, "pack");
}

static void cg_run(cg *g)
{
    if (!g->error[0]) cg_ok(g, cudnnBackendExecute(g->handle, g->plan, g->pack), "execute");
}
#endif
