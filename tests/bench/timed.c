/*
 * timed FILE COMMAND...: runs the command and appends a line "seconds bytes" to FILE: how long it took, and its peak resident
 * memory. Under mpirun there is one line per rank. Ends with the status of the command.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: timed FILE COMMAND...\n");
        return 2;
    }
    double start_s = sgc_time_s();
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        fprintf(stderr, "timed: %s: %s\n", argv[2], strerror(errno));
        _exit(127);
    }
    int status;
    struct rusage use;
    if (child < 0 || wait4(child, &status, 0, &use) != child) {
        fprintf(stderr, "timed: %s: %s\n", argv[2], strerror(errno));
        return 1;
    }
    char line[64];
    int n = snprintf(line, sizeof(line), "%.6f %lld\n", sgc_time_s() - start_s, (long long)use.ru_maxrss * 1024);
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, line, (size_t)n) != n || close(fd) != 0) {
        fprintf(stderr, "timed: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
