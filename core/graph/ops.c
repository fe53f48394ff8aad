/* ops.c -- finding an op by name.  The ops themselves: ops_elementwise.c, ops_linear.c,
 * ops_model.c, ops_shape.c, ops_experts.c; docs/ops.md describes them all. */
#include "core/graph/graph.h"
#include <string.h>

const g_op *g_op_find(const char *name)
{
    static const g_op *const tables[] = { g_ops_linear, g_ops_elementwise, g_ops_model,
                                          g_ops_shape, g_ops_experts };
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const g_op *op = tables[t]; op->name; op++) {
            if (!strcmp(op->name, name)) return op;
        }
    }
    return NULL;
}
