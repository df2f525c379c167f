#include "mail.h"

#include <mpi.h>
#include <stdlib.h>

struct mail {
    MPI_Request request;
};

int mail_rank(void)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

int mail_size(void)
{
    int size;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

mail *mail_send(const void *data, size_t bytes, int peer, int tag)
{
    mail *m = malloc(sizeof(*m));
    MPI_Isend(data, (int)bytes, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &m->request);
    return m;
}

mail *mail_receive(void *data, size_t bytes, int peer, int tag)
{
    mail *m = malloc(sizeof(*m));
    MPI_Irecv(data, (int)bytes, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &m->request);
    return m;
}

int mail_came_through(mail **m)
{
    int has_come = 1;
    if (*m) MPI_Test(&(*m)->request, &has_come, MPI_STATUS_IGNORE);
    if (*m && has_come) {
        free(*m);
        *m = NULL;
    }
    return has_come;
}

void mail_drop(mail **m)
{
    if (mail_came_through(m)) return;
    MPI_Cancel(&(*m)->request);
    MPI_Request_free(&(*m)->request);
    free(*m);
    *m = NULL;
}
