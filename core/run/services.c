/* services.c -- see services.h. */
#include "core/run/services.h"
#include "core/io/tensors.h"

ft_offer ft_run_offer(ft_log *log)
{
    static ft_service all[16];
    static size_t n;
    if (!n) {
        size_t core;
        const ft_service *s = ft_core_services(&core);
        for (; n < core; n++) all[n] = s[n];
        all[n++] = (ft_service){ "ft.tensors/1", &ft_tensors_interface };
    }
    return (ft_offer){ .service = all, .n_services = n, .log = log };
}
