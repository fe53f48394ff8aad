/* table_file.h -- the interface "ft.table/1": files of rows that another plugin reads. */
#ifndef FT_CORE_TABLE_FILE_H
#define FT_CORE_TABLE_FILE_H
#include "ft/data.h"

extern const ft_table_api ft_table_interface;
#endif
