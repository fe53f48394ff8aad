/* services.h -- the interfaces that a run offers to its plugins (ft_host.get). */
#ifndef FT_CORE_RUN_SERVICES_H
#define FT_CORE_RUN_SERVICES_H
#include "core/load/instance.h"

/* Those that need nothing of the run: "ft.json/1", "ft.tensors/1". */
ft_offer ft_run_offer(ft_log *log);
#endif
