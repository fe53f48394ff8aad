/* report_plot.h -- plots of the report as inline SVG, coloured by the page's style sheet. */
#ifndef FT_CORE_RUN_REPORT_PLOT_H
#define FT_CORE_RUN_REPORT_PLOT_H
#include "core/run/report_data.h"

typedef struct {
    const ft_series *series;
    const char *css;      /* class that colours it */
    const char *label;    /* for the legend */
    bool dots;            /* points joined by a thin line, else a line alone */
} ft_curve;

/* A figure with axes, ticks and their labels; series without points are left out, and nothing is
 * written where there are none at all.  All texts are plain words of ours. */
void ft_plot_svg(ft_buf *out, const char *title, const char *y_label, const ft_curve *curve,
                 size_t n);

/* The mean of the last points (a twentieth of all, at least 5) at each point from the fifth on,
 * summed in order; nothing where there are fewer than 10. */
void ft_moving_average(ft_series *out, const ft_series *in);

/* The first tick at or above lo and the distance to the next (1, 2 or 5 times a power of ten), so
 * that about `most` lie between lo and hi.  lo < hi. */
double ft_plot_ticks(double lo, double hi, int most, double *step);
#endif
