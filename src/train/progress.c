#include "train/progress_impl.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"

void sgc_progress_start(sgc_progress *p, bool is_on, int64_t n_steps, int64_t first_step)
{
    *p = (sgc_progress){.is_on = is_on, .n_steps = n_steps, .first_step = first_step, .start_s = sgc_time_s()};
}

void sgc_progress_show(sgc_progress *p, int64_t step, double loss, double tokens_per_second)
{
    enum { WIDTH = 24 };
    double now = sgc_time_s();
    if (!p->is_on || (step < p->n_steps && now - p->drawn_s < 0.1)) return;
    p->drawn_s = now;

    double left_s = (now - p->start_s) / (double)(step - p->first_step) * (double)(p->n_steps - step);
    char bar[WIDTH + 1], text[160];
    int n_full = (int)((double)step / (double)p->n_steps * WIDTH);
    memset(bar, '.', WIDTH);
    memset(bar, '#', (size_t)n_full);
    bar[WIDTH] = '\0';
    snprintf(text, sizeof(text), "[%s] %lld/%lld  loss %.4f  %.0f tokens/s  %lld:%02d:%02d left", bar, (long long)step, (long long)p->n_steps,
             loss, tokens_per_second, (long long)(left_s / 3600), (int)(left_s / 60) % 60, (int)left_s % 60);
    sgc_log_status_line(text);
}

void sgc_progress_end(sgc_progress *p)
{
    if (p->is_on) sgc_log_status_line(NULL);
    p->is_on = false;
}
