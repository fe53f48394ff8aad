/* report_plot.c -- see report_plot.h.  A long series is thinned by keeping the smallest and the
 * largest of each stretch, so that no spike is lost. */
#include "core/run/report_plot.h"
#include <math.h>

enum {
    WIDTH = 720,
    HEIGHT = 300,
    LEFT = 70,
    RIGHT = 14,
    TOP = 30,
    BOTTOM = 44,
    MOST_STRETCHES = 600
};

typedef struct { double x0, x1, y0, y1; } range;

double ft_plot_ticks(double lo, double hi, int most, double *step)
{
    double raw = (hi - lo) / most, ten = pow(10, floor(log10(raw))), m = raw / ten;
    *step = ten * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
    return ceil(lo / *step - 1e-9) * *step;
}

void ft_moving_average(ft_series *out, const ft_series *in)
{
    size_t n = ft_series_n(in), w = n / 20 > 5 ? n / 20 : 5;
    const ft_point *p = ft_series_at(in);
    double sum = 0;
    if (n < 10) return;
    for (size_t i = 0; i < n; i++) {
        sum += p[i].y;
        if (i >= w) sum -= p[i - w].y;
        ft_point mean = { p[i].x, sum / (double)(i + 1 < w ? i + 1 : w) };
        if (i >= 4) ft_buf_add(&out->points, &mean, sizeof mean);
    }
}

/* ---- places on the page ---------------------------------------------------------------------- */

static double to_x(const range *r, double x)
{
    return LEFT + (x - r->x0) / (r->x1 - r->x0) * (WIDTH - LEFT - RIGHT);
}
static double to_y(const range *r, double y)
{
    return HEIGHT - BOTTOM - (y - r->y0) / (r->y1 - r->y0) * (HEIGHT - TOP - BOTTOM);
}

static bool find_range(range *r, const ft_curve *curve, size_t n)
{
    *r = (range){ INFINITY, -INFINITY, INFINITY, -INFINITY };
    for (size_t k = 0; k < n; k++) {
        const ft_point *p = ft_series_at(curve[k].series);
        for (size_t i = 0; i < ft_series_n(curve[k].series); i++) {
            r->x0 = fmin(r->x0, p[i].x);
            r->x1 = fmax(r->x1, p[i].x);
            r->y0 = fmin(r->y0, p[i].y);
            r->y1 = fmax(r->y1, p[i].y);
        }
    }
    if (!(r->x0 <= r->x1)) return false;
    double pad = (r->y1 - r->y0) * 0.05;
    if (!(pad > 0)) pad = fabs(r->y0) > 0 ? fabs(r->y0) * 0.1 : 1; /* one value: room around it */
    if (!(r->x1 - r->x0 > fabs(r->x1) * 1e-12)) r->x0 -= 1, r->x1 += 1;
    r->y0 = r->y0 >= 0 && r->y0 < pad ? 0 : r->y0 - pad;
    r->y1 += pad;
    return isfinite(r->x1 - r->x0) && isfinite(r->y1 - r->y0) && r->y1 > r->y0;
}

/* ---- axes ------------------------------------------------------------------------------------ */

static void axis_y(ft_buf *out, const range *r)
{
    double step, first = ft_plot_ticks(r->y0, r->y1, 6, &step);
    for (int i = 0; i < 20 && first + i * step <= r->y1; i++) {
        double v = first + i * step, y = to_y(r, v);
        if (fabs(v) < step * 1e-6) v = 0;
        ft_buf_printf(out,
                      "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                      "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n",
                      LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, v);
    }
}

/* Steps are whole numbers. */
static void axis_x(ft_buf *out, const range *r)
{
    double step, first = ft_plot_ticks(r->x0, r->x1, 8, &step);
    if (step < 1) step = 1, first = ceil(r->x0);
    for (int i = 0; i < 20 && first + i * step <= r->x1; i++) {
        double v = first + i * step, x = to_x(r, v);
        ft_buf_printf(out,
                      "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
                      "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.10g</text>\n",
                      x, x, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 5, x, HEIGHT - BOTTOM + 18, v);
    }
}

static void axes(ft_buf *out, const range *r, const char *y_label)
{
    axis_y(out, r);
    axis_x(out, r);
    ft_buf_printf(out, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, HEIGHT - BOTTOM,
                  WIDTH - RIGHT);
    ft_buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n",
                  (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
    ft_buf_printf(out,
                  "<text transform=\"translate(14 %d) rotate(-90)\" "
                  "text-anchor=\"middle\">%s</text>\n",
                  (TOP + HEIGHT - BOTTOM) / 2, y_label);
}

/* ---- curves ---------------------------------------------------------------------------------- */

static void vertex(ft_buf *out, const range *r, ft_point p)
{
    ft_buf_printf(out, "%.1f,%.1f ", to_x(r, p.x), to_y(r, p.y));
}

static void polyline(ft_buf *out, const range *r, const ft_curve *c)
{
    size_t n = ft_series_n(c->series), each = n / MOST_STRETCHES + 1;
    const ft_point *p = ft_series_at(c->series);
    ft_buf_printf(out, "<polyline class=\"%s\" points=\"", c->css);
    for (size_t i = 0; i < n; i += each) {
        size_t lo = i, hi = i, end = i + each < n ? i + each : n;
        for (size_t k = i; k < end; k++) {
            if (p[k].y < p[lo].y) lo = k;
            if (p[k].y > p[hi].y) hi = k;
        }
        vertex(out, r, p[lo < hi ? lo : hi]);
        if (lo != hi) vertex(out, r, p[lo < hi ? hi : lo]);
    }
    ft_buf_puts(out, "\"/>\n");
}

static void dots(ft_buf *out, const range *r, const ft_curve *c)
{
    size_t n = ft_series_n(c->series), each = n / MOST_STRETCHES + 1;
    const ft_point *p = ft_series_at(c->series);
    for (size_t i = 0; i < n; i += each)
        ft_buf_printf(out,
                      "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>step %.10g: "
                      "%.6g</title></circle>\n",
                      c->css, to_x(r, p[i].x), to_y(r, p[i].y), p[i].x, p[i].y);
}

static void legend(ft_buf *out, const ft_curve *curve, size_t n)
{
    int x = LEFT + 8;
    for (size_t i = 0; i < n; i++) {
        if (!ft_series_n(curve[i].series)) continue;
        ft_buf_printf(out,
                      "<line class=\"%s\" x1=\"%d\" x2=\"%d\" y1=\"16\" y2=\"16\"/><text x=\"%d\" "
                      "y=\"20\">%s</text>\n",
                      curve[i].css, x, x + 22, x + 28, curve[i].label);
        x += 50 + 7 * (int)strlen(curve[i].label);
    }
}

void ft_plot_svg(ft_buf *out, const char *title, const char *y_label, const ft_curve *curve,
                 size_t n)
{
    range r;
    if (!find_range(&r, curve, n)) return;
    ft_buf_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n", WIDTH,
                  HEIGHT, title);
    axes(out, &r, y_label);
    for (size_t i = 0; i < n; i++) {
        if (!ft_series_n(curve[i].series)) continue;
        polyline(out, &r, &curve[i]);
        if (curve[i].dots || ft_series_n(curve[i].series) == 1) dots(out, &r, &curve[i]);
    }
    legend(out, curve, n);
    ft_buf_puts(out, "</svg>\n");
}
