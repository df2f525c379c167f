#include "train/signals_impl.h"

#include <signal.h>
#include <unistd.h>

#include "base/util.h"

static const int handled[] = {SIGUSR1, SIGTERM, SIGINT, SIGUSR2, SIGXFSZ};
enum { N_HANDLED = sizeof(handled) / sizeof(handled[0]) };

static struct sigaction before[N_HANDLED];
static bool is_installed;
static volatile sig_atomic_t stop_signal, save_wanted, n_interrupts;

static void on_signal(int number)
{
    if (number == SIGUSR2) {
        save_wanted = 1;
        return;
    }
    if (number == SIGINT && ++n_interrupts > 1) _exit(128 + SIGINT);
    if (stop_signal == 0) stop_signal = number;
}

void sgc_signals_install(void)
{
    stop_signal = save_wanted = n_interrupts = 0;
    for (int i = 0; i < N_HANDLED; i++) {
        struct sigaction action = {.sa_handler = handled[i] == SIGXFSZ ? SIG_IGN : on_signal, .sa_flags = SA_RESTART};
        sigemptyset(&action.sa_mask);
        sigaction(handled[i], &action, &before[i]);
    }
    is_installed = true;
}

void sgc_signals_restore(void)
{
    for (int i = 0; i < N_HANDLED && is_installed; i++)
        sigaction(handled[i], &before[i], NULL);
    is_installed = false;
}

int sgc_signals_stop(void) { return stop_signal; }

int sgc_signals_take_save(void)
{
    int wanted = save_wanted;
    save_wanted = 0;
    return wanted;
}
